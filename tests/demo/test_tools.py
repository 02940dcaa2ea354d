"""The parcel desk's tool, and what a tool must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from engine.demo.tools import TOOLS, lookup_order
from engine.errors import ConfigurationError
from engine.tools import Tool

OBJECT = {"type": "object", "properties": {}}


async def _handler() -> None:
    return None


class _Callable:
    async def __call__(self) -> None:
        return None


@pytest.mark.parametrize("order_number", ["4711", "4 7 1 1", "order 4711."])
async def test_a_known_order_is_found(autojump_clock: trio.testing.MockClock, order_number: str) -> None:
    with trio.fail_after(5):
        answer = await lookup_order(order_number)
    assert answer["found"] is True
    assert answer["status"] == "out for delivery"
    json.dumps(answer)


async def test_an_unknown_order_is_said_to_be_unknown(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(5):
        assert await lookup_order("12") == {"order_number": "12", "found": False}


def test_the_desk_offers_its_tool_with_a_schema_of_its_arguments() -> None:
    (tool,) = TOOLS
    assert tool.name == "lookup_order"
    assert list(tool.parameters["properties"]) == tool.parameters["required"] == ["order_number"]


@pytest.mark.parametrize(
    ("name", "description", "parameters", "handler", "fault"),
    [
        ("", "does it", OBJECT, _handler, "1 to 64"),
        ("two words", "does it", OBJECT, _handler, "1 to 64"),
        ("a" * 65, "does it", OBJECT, _handler, "1 to 64"),
        ("name", " ", OBJECT, _handler, "description"),
        ("name", "does it", {"type": "array"}, _handler, "JSON schema"),
        ("name", "does it", OBJECT, print, "async"),
    ],
)
def test_a_tool_that_cannot_work_is_refused(
    name: str, description: str, parameters: dict[str, Any], handler: Callable[..., Any], fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=fault) as caught:
        Tool(name, description, parameters, handler)
    assert len(caught.value.faults) == 1


def test_all_faults_of_a_tool_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tool("", "", {}, print)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 4


def test_an_object_that_is_called_asynchronously_is_a_handler() -> None:
    assert Tool("name", "does it", OBJECT, _Callable()).name == "name"
