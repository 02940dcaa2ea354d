"""Loading the user's own code: what is wrong with it is said in one sentence."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ConfigurationError
from engine.runtime.extensions import load_sms_handler, load_tools

MODULE = """
import functools
from engine.tools import Tool

async def handler(**arguments): return arguments
async def answer(message, greeting=""): return greeting
def plain(message): return ""
class Answer:
    async def __call__(self, message): return ""
answer_object = Answer()
answer_partial = functools.partial(answer, greeting="Hello.")
weather = Tool("weather", "Tells the weather.", {"type": "object"}, handler)
clock = Tool("clock", "Tells the time.", {"type": "object"}, handler)
TOOLS = [weather, clock]
NONE = ()
TWICE = (weather, clock, weather, clock)
MIXED = [weather, 7]
NUMBER = 7
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the user's modules, in which the service is started."""
    (tmp_path / "users_code.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def fault(load: object, name: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(name)  # type: ignore[operator]
    (sentence,) = caught.value.faults
    return sentence


def test_nothing_named_is_nothing_loaded() -> None:
    assert load_tools(None) == ()
    assert load_sms_handler(None) is None


@pytest.mark.usefixtures("workplace")
def test_tools_are_loaded_from_where_the_service_is_started() -> None:
    assert [tool.name for tool in load_tools("users_code:TOOLS")] == ["weather", "clock"]
    assert load_tools("users_code:NONE") == ()


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", ["MIXED", "NUMBER", "weather", "handler"])
def test_what_is_no_sequence_of_tools_is_refused(name: str) -> None:
    assert fault(load_tools, f"users_code:{name}") == f"TOOLS=users_code:{name} is not a sequence of engine.tools.Tool."


@pytest.mark.usefixtures("workplace")
def test_two_tools_of_one_name_are_refused() -> None:
    assert fault(load_tools, "users_code:TWICE").endswith("several tools of one name: clock, weather.")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", ["answer", "answer_object", "answer_partial"])
def test_an_async_function_of_any_kind_answers_text_messages(name: str) -> None:
    assert load_sms_handler(f"users_code:{name}") is not None


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", ["plain", "NUMBER", "Answer"])
def test_what_is_not_async_cannot_answer_text_messages(name: str) -> None:
    sentence = fault(load_sms_handler, f"users_code:{name}")
    assert sentence == f"SMS_HANDLER=users_code:{name} is not an async function."


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "name",
    [
        "users_code:missing",
        "users_code",
        "users_code:",
        "nowhere_to_be_found:x",
        ":x",
        "",
        ".relative:x",
        "users code:x",
    ],
)
def test_a_name_that_leads_nowhere_is_named(name: str) -> None:
    for setting, load in (("TOOLS", load_tools), ("SMS_HANDLER", load_sms_handler)):
        assert fault(load, name).startswith(f"{setting}={name} cannot be loaded: ")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("from engine.tools import Tool\nTool('', '', {}, print)", "ConfigurationError"),
    ],
)
def test_code_that_fails_while_it_is_loaded_is_named(workplace: Path, code: str, kind: str) -> None:
    (workplace / "broken_code.py").write_text(code)
    assert fault(load_tools, "broken_code:TOOLS").startswith(f"TOOLS=broken_code:TOOLS cannot be loaded: {kind}: ")
