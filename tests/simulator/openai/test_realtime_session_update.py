"""session.update: what a session may be configured to, and what the service refuses (protocols.md B.2, B.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter
from realtime_driver import TOOL, Driver, types_of

from engine.simulator.openai import Script, Speak

CLIENT_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
PCMU = {"type": "audio/pcmu"}
WHOLE = {
    "type": "realtime",
    "instructions": "Be brief.",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": PCMU,
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-transcribe", "language": "en"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "create_response": True,
                "interrupt_response": True,
                "idle_timeout_ms": None,
            },
        },
        "output": {"format": PCMU, "voice": "cedar", "speed": 1.0},
    },
    "tools": [TOOL],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "truncation": "auto",
}


def test_the_first_event_is_session_created_with_the_services_defaults() -> None:
    driver = Driver()
    assert driver.types() == ["session.created"]
    session = driver.events[0]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
    assert session["expires_at"] == 1000 + 3600


def test_a_whole_update_is_answered_with_the_whole_effective_session() -> None:
    driver = Driver()
    (updated,) = driver.send("session.update", event_id="c1", session=WHOLE)
    assert updated["type"] == "session.updated"
    for name, value in WHOLE.items():
        assert updated["session"][name] == value
    assert updated["session"]["id"] == driver.events[0]["session"]["id"]
    assert updated["event_id"] != driver.events[0]["event_id"]


def test_only_the_fields_present_change() -> None:
    driver = Driver()
    driver.send("session.update", session=WHOLE)
    (updated,) = driver.update(audio={"output": {"speed": 1.2}})
    audio = updated["session"]["audio"]
    assert audio["output"] == {"format": PCMU, "voice": "cedar", "speed": 1.2}
    assert audio["input"] == WHOLE["audio"]["input"]  # type: ignore[index]
    assert updated["session"]["tools"] == [TOOL]


def test_empty_values_and_null_clear() -> None:
    driver = Driver()
    driver.send("session.update", session=WHOLE)
    cleared = {"turn_detection": None, "transcription": None, "noise_reduction": None}
    (updated,) = driver.update(instructions="", tools=[], audio={"input": cleared})
    session = updated["session"]
    assert (session["instructions"], session["tools"]) == ("", [])
    assert {name: session["audio"]["input"][name] for name in cleared} == cleared


def test_turn_detection_fields_left_out_keep_their_values() -> None:
    driver = Driver()
    driver.detect_turns(silence_duration_ms=700)
    driver.detect_turns(threshold=0.6)
    detection = driver.events[-1]["session"]["audio"]["input"]["turn_detection"]
    assert (detection["silence_duration_ms"], detection["threshold"]) == (700, 0.6)


def test_another_kind_of_turn_detection_starts_from_its_defaults() -> None:
    driver = Driver()
    (updated,) = driver.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})
    expected = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
    assert updated["session"]["audio"]["input"]["turn_detection"] == expected


def within(path: str, value: Any) -> dict[str, Any]:
    """Make an update with one value at a dotted path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return {"type": "realtime", **value}


INPUT, OUTPUT = "audio.input", "audio.output"
VAD = f"{INPUT}.turn_detection"
REFUSED: list[tuple[str, Any, str, str]] = [
    (f"{INPUT}.format", {"type": "audio/pcmu", "rate": 8000}, "unknown_parameter", f"{INPUT}.format.rate"),
    (f"{OUTPUT}.format", {"type": "audio/pcma", "rate": 8000}, "unknown_parameter", f"{OUTPUT}.format.rate"),
    (f"{INPUT}.format", {"type": "audio/pcm", "rate": 16000}, "invalid_value", f"{INPUT}.format.rate"),
    (f"{INPUT}.format", {"type": "audio/pcm", "rate": "24000"}, "invalid_type", f"{INPUT}.format.rate"),
    (f"{INPUT}.format", {"type": "audio/pcm"}, "missing_required_parameter", f"{INPUT}.format.rate"),
    (f"{INPUT}.format", {"type": "g711_ulaw"}, "invalid_value", f"{INPUT}.format.type"),
    (f"{INPUT}.format", {}, "missing_required_parameter", f"{INPUT}.format.type"),
    (f"{INPUT}.format", "g711_ulaw", "invalid_type", f"{INPUT}.format"),
    (f"{OUTPUT}.voice", "nobody", "invalid_value", f"{OUTPUT}.voice"),
    (f"{OUTPUT}.speed", 2.0, "integer_above_max_value", f"{OUTPUT}.speed"),
    (f"{OUTPUT}.speed", 0.1, "integer_below_min_value", f"{OUTPUT}.speed"),
    (f"{OUTPUT}.speed", True, "invalid_type", f"{OUTPUT}.speed"),
    (f"{INPUT}.noise_reduction", {"type": "loud"}, "invalid_value", f"{INPUT}.noise_reduction.type"),
    (f"{INPUT}.transcription", {"name": "x"}, "unknown_parameter", f"{INPUT}.transcription.name"),
    (VAD, {"type": "client_vad"}, "invalid_value", f"{VAD}.type"),
    (VAD, {"type": "server_vad", "threshold": 1.5}, "integer_above_max_value", f"{VAD}.threshold"),
    (VAD, {"type": "server_vad", "silence_duration_ms": 0.5}, "invalid_type", f"{VAD}.silence_duration_ms"),
    (VAD, {"type": "server_vad", "prefix_padding_ms": -1}, "integer_below_min_value", f"{VAD}.prefix_padding_ms"),
    (VAD, {"type": "server_vad", "idle_timeout_ms": 100}, "integer_below_min_value", f"{VAD}.idle_timeout_ms"),
    (VAD, {"type": "server_vad", "eagerness": "low"}, "unknown_parameter", f"{VAD}.eagerness"),
    (VAD, {"type": "semantic_vad", "threshold": 0.5}, "unknown_parameter", f"{VAD}.threshold"),
    ("output_modalities", ["text", "audio"], "invalid_value", "output_modalities"),
    ("output_modalities", [], "invalid_value", "output_modalities"),
    ("output_modalities", ["video"], "invalid_value", "output_modalities[0]"),
    ("temperature", 0.8, "unknown_parameter", "temperature"),
    ("modalities", ["audio"], "unknown_parameter", "modalities"),
    ("voice", "marin", "unknown_parameter", "voice"),
    ("input_audio_format", "g711_ulaw", "unknown_parameter", "input_audio_format"),
    ("output_audio_format", "g711_ulaw", "unknown_parameter", "output_audio_format"),
    ("turn_detection", {"type": "server_vad"}, "unknown_parameter", "turn_detection"),
    ("input_audio_transcription", {"model": "whisper-1"}, "unknown_parameter", "input_audio_transcription"),
    ("max_response_output_tokens", "inf", "unknown_parameter", "max_response_output_tokens"),
    ("max_output_tokens", 0, "integer_below_min_value", "max_output_tokens"),
    ("max_output_tokens", 5000, "integer_above_max_value", "max_output_tokens"),
    ("max_output_tokens", "all", "invalid_type", "max_output_tokens"),
    ("instructions", None, "invalid_type", "instructions"),
    ("model", "gpt-realtime", "invalid_value", "model"),
    ("tools", [{"type": "function"}], "missing_required_parameter", "tools[0].name"),
    ("tools", [{"name": "x"}], "missing_required_parameter", "tools[0].type"),
    ("tools", [{"type": "function", "name": "a b"}], "invalid_value", "tools[0].name"),
    ("tools", [{"type": "function", "function": {"name": "x"}}], "missing_required_parameter", "tools[0].name"),
    ("tools", [{**TOOL, "strict": True}], "unknown_parameter", "tools[0].strict"),
    ("tool_choice", "always", "invalid_value", "tool_choice"),
    ("tool_choice", {"type": "function", "name": "absent"}, "invalid_value", "tool_choice"),
    ("truncation", "never", "invalid_value", "truncation"),
    ("tracing", "on", "invalid_value", "tracing"),
    ("include", ["everything"], "invalid_value", "include[0]"),
    ("color", "red", "unknown_parameter", "color"),
]


@pytest.mark.parametrize(("path", "value", "code", "param"), REFUSED, ids=lambda part: json.dumps(part)[:50])
def test_an_update_that_breaks_a_rule_is_refused_and_changes_nothing(
    path: str, value: Any, code: str, param: str
) -> None:
    driver = Driver()
    (answer,) = driver.send("session.update", event_id="mine", session=within(path, value))
    assert answer["type"] == "error"
    error = answer["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, f"session.{param}")
    assert error["event_id"] == "mine"
    (unchanged,) = driver.update()
    assert unchanged["session"] == driver.events[0]["session"]


@pytest.mark.parametrize(
    "session",
    [
        within(f"{INPUT}.format", {"type": "audio/pcmu", "rate": 8000}),
        within("temperature", 0.8),
        within("output_modalities", ["text", "audio"]),
        within("modalities", ["audio"]),
    ],
    ids=["rate beside mu-law", "temperature", "two modalities", "beta field"],
)
def test_what_the_published_models_let_pass_is_still_refused(session: dict[str, Any]) -> None:
    event = {"type": "session.update", "session": session}
    CLIENT_EVENT.validate_python(event)
    assert types_of(Driver().send_text(json.dumps(event))) == ["error"]


def test_a_session_without_type_is_refused() -> None:
    driver = Driver()
    driver.send("session.update", session={"instructions": "x"})
    assert driver.last_error()["code"] == "missing_required_parameter"
    assert driver.last_error()["param"] == "session.type"


def test_a_transcription_session_is_refused() -> None:
    driver = Driver()
    driver.send("session.update", session={"type": "transcription"})
    assert driver.last_error()["param"] == "session.type"


@pytest.mark.parametrize("field", [{"reasoning": {"effort": "low"}}, {"parallel_tool_calls": True}])
def test_reasoning_settings_need_a_reasoning_model(field: dict[str, Any]) -> None:
    assert types_of(Driver().update(**field)) == ["session.updated"]
    older = Driver(model="gpt-realtime")
    older.update(**field)
    assert older.last_error()["code"] == "unsupported_parameter"


def test_the_voice_may_change_before_audio_and_not_after() -> None:
    driver = Driver(Script(replies=(Speak("agent_sorry"),)))
    assert types_of(driver.update(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
    driver.send("response.create")
    driver.run_for(5)
    assert types_of(driver.update(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
    driver.update(audio={"output": {"voice": "ash"}})
    assert driver.last_error()["code"] == "cannot_update_voice"
    driver.send("response.create", response={"audio": {"output": {"voice": "ash"}}})
    assert driver.last_error()["code"] == "cannot_update_voice"


def test_the_speed_changes_only_between_responses() -> None:
    driver = Driver()
    driver.send("response.create")
    driver.update(audio={"output": {"speed": 1.3}})
    assert driver.last_error()["param"] == "session.audio.output.speed"
    driver.run_for(10)
    assert types_of(driver.update(audio={"output": {"speed": 1.3}})) == ["session.updated"]
