"""Running a tool: whatever the model or the user's code does, the answer is bounded JSON."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.tool_task import OUTPUT_LIMIT_CHARS, run_tool
from engine.tools import Tool
from engine.wire.realtime import FunctionCalled, function_output

LIMIT_S = 1000.0


def tools(handler: Callable[..., Awaitable[Any]]) -> dict[str, Tool]:
    return {"t": Tool("t", "Does something.", {"type": "object"}, handler)}


async def run(handler: Callable[..., Awaitable[Any]], arguments: str = "{}", name: str = "t") -> Any:
    """Runs it with a deadline of ten seconds, and returns what the model would read."""
    with trio.fail_after(LIMIT_S):
        output = await run_tool(tools(handler), FunctionCalled("resp_1", "call_1", name, arguments), 10)
    assert len(output) <= OUTPUT_LIMIT_CHARS
    function_output("call_1", output).decode("utf-8")
    return json.loads(output, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


async def echo(**arguments: Any) -> Any:
    return arguments


@pytest.mark.parametrize("arguments", ['{"city":"Köln","days":[1,2.5,null]}', "{}"])
async def test_the_result_is_json_of_what_the_handler_returns(arguments: str) -> None:
    assert await run(echo, arguments) == json.loads(arguments)


async def test_no_arguments_are_an_empty_object() -> None:
    assert await run(echo, "") == {}


@pytest.mark.parametrize("arguments", ["{", "nonsense", "[1]", '"x"', "7", "null", "[" * 100_000, "9" * 5000])
async def test_arguments_that_are_no_json_object_are_an_error(arguments: str) -> None:
    assert "the arguments" in (await run(echo, arguments))["error"]


async def test_an_unknown_tool_is_an_error_of_bounded_length() -> None:
    assert (await run(echo, name="other"))["error"] == "there is no tool named other"
    assert len((await run(echo, name="x" * 1_000_000))["error"]) < 200


async def test_arguments_that_do_not_fit_are_an_error() -> None:
    async def takes_city(city: str) -> str:
        return city

    assert await run(takes_city, '{"town":"x"}') == {"error": "t failed: TypeError"}


async def test_a_handlers_failure_is_named_logged_and_keeps_its_words_from_the_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise LookupError("the database's password is wrong")

    assert await run(fail) == {"error": "t failed: LookupError"}
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.ERROR, "tool t failed")]


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"x", float("nan"), float("inf"), {"a": [float("-inf")]}, {(1, 2): 3}]
)
async def test_a_result_that_is_no_json_is_an_error(value: object) -> None:
    async def give() -> object:
        return value

    assert (await run(give))["error"].startswith("t failed: ")


async def test_a_result_within_itself_is_an_error() -> None:
    async def give() -> list[Any]:
        result: list[Any] = []
        result.append(result)
        return result

    assert (await run(give))["error"].startswith("t failed: ")


@pytest.mark.parametrize("more", [0, 1])
async def test_a_result_may_be_so_long_and_no_longer(more: int) -> None:
    async def give() -> str:
        return "x" * (OUTPUT_LIMIT_CHARS - 2 + more)

    result = await run(give)
    assert ("error" in result) if more else (len(result) == OUTPUT_LIMIT_CHARS - 2)


async def test_half_a_surrogate_pair_comes_back_as_something_that_can_be_sent() -> None:
    assert list(await run(echo, '{"a":"\\ud83d"}')) == ["a"]


async def test_a_handler_that_takes_too_long_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    cancelled: list[float] = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time())

    assert await run(wait) == {"error": "t took longer than 10 seconds"}
    assert cancelled == [10]


async def test_a_handler_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async def wait() -> str:
        await trio.sleep(9.5)
        return "done"

    assert await run(wait) == "done"


async def test_what_fails_while_the_handler_is_cancelled_is_an_answer_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while tidying up")

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    assert (await run(wait))["error"].startswith("t ")


async def test_a_handler_with_a_deadline_of_its_own_fails_by_it(autojump_clock: trio.testing.MockClock) -> None:
    async def wait() -> None:
        with trio.fail_after(1):
            await trio.sleep_forever()

    assert await run(wait) == {"error": "t failed: TooSlowError"}
    assert trio.current_time() == 1


async def test_cancellation_of_the_call_gets_through() -> None:
    with trio.fail_after(LIMIT_S):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught


@given(arguments=st.text(max_size=60))
def test_any_arguments_give_json(arguments: str) -> None:
    call = FunctionCalled("resp_1", "call_1", "t", arguments)
    output = trio.run(run_tool, tools(echo), call, 10)
    assert isinstance(json.loads(output), dict)
