"""Client events: malformed ones are refused with the service's errors, and the session lives on (protocols.md B.3, B.4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from realtime_driver import Driver, silence, tone, types_of

from engine.simulator.openai import PeerConfig

MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}


def b64(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ('{"type": ', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("[]", "invalid_event"),
        ("7", "invalid_event"),
        ("{}", "missing_required_parameter"),
        ('{"type": null}', "invalid_value"),
        ('{"type": ["response.create"]}', "invalid_value"),
        ('{"type": "response.tomorrow"}', "invalid_value"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value"),
        (b'{"type": "response.create"}', "invalid_event"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_is_no_event_is_refused_and_the_session_lives_on(text: str | bytes, code: str) -> None:
    driver = Driver()
    (answer,) = driver.send_text(text)
    assert (answer["type"], answer["error"]["code"]) == ("error", code)
    assert answer["error"]["type"] == "invalid_request_error"
    assert types_of(driver.update()) == ["session.updated"]


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "response.create", "voice": "ash"}, "unknown_parameter", "voice"),
        ({"type": "response.create", "event_id": 7}, "invalid_type", "event_id"),
        ({"type": "response.create", "event_id": "x" * 513}, "string_above_max_length", "event_id"),
        (
            {"type": "response.create", "response": {"modalities": ["audio"]}},
            "unknown_parameter",
            "response.modalities",
        ),
        ({"type": "response.create", "response": {"temperature": 1}}, "unknown_parameter", "response.temperature"),
        ({"type": "response.create", "response": {"conversation": "mine"}}, "invalid_value", "response.conversation"),
        ({"type": "response.create", "response": {"metadata": {"a": 1}}}, "invalid_type", "response.metadata.a"),
        (
            {"type": "response.create", "response": {"metadata": {str(n): "" for n in range(17)}}},
            "object_above_max_properties",
            "response.metadata",
        ),
        (
            {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "item_x"}]}},
            "invalid_value",
            "response.input[0].id",
        ),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_type", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "/w"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "/w==\n"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "_-=="}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": b64(b"odd")}, "invalid_value", "audio"),
        ({"type": "conversation.item.create"}, "missing_required_parameter", "item"),
        ({"type": "conversation.item.create", "item": {"type": "thought"}}, "invalid_value", "item.type"),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "id": "x" * 33}},
            "string_above_max_length",
            "item.id",
        ),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "content": [{"type": "text", "text": "x"}]}},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": ""}]},
            },
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "conversation.item.create", "item": MESSAGE, "previous_item_id": "item_x"},
            "item_create_invalid_previous_item_id",
            "previous_item_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_x", "output": "{}"},
            },
            "invalid_tool_call_id",
            "item.call_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c", "output": {}},
            },
            "invalid_type",
            "item.output",
        ),
        ({"type": "conversation.item.delete", "item_id": "item_x"}, "item_delete_invalid_item_id", "item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "item_x"}, "item_retrieve_invalid_item_id", "item_id"),
        (
            {"type": "conversation.item.truncate", "item_id": "item_x", "content_index": 0, "audio_end_ms": 1},
            "item_truncate_invalid_item_id",
            "item_id",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1.5},
            "invalid_type",
            "audio_end_ms",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": -1},
            "integer_below_min_value",
            "audio_end_ms",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1},
            "missing_required_parameter",
            "content_index",
        ),
        ({"type": "response.cancel"}, "response_cancel_not_active", None),
        ({"type": "response.cancel", "response_id": "resp_x"}, "response_cancel_not_active", None),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
    ],
    ids=lambda part: json.dumps(part)[:60],
)
def test_an_event_that_breaks_a_rule_is_refused(event: dict[str, Any], code: str, param: str | None) -> None:
    driver = Driver()
    (answer,) = driver.send_text(json.dumps({"event_id": "mine", **event}))
    error = answer["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["event_id"] == (event.get("event_id", "mine") if isinstance(event.get("event_id", ""), str) else None)
    assert [entry.code for entry in driver.session.log.errors] == [code]
    assert not driver.session.closing


def test_an_event_beyond_the_limit_is_refused() -> None:
    driver = Driver(config=PeerConfig(max_event_bytes=1000))
    driver.send("input_audio_buffer.append", audio=b64(bytes(900)))
    assert driver.last_error()["code"] == "event_too_large"
    driver.send("input_audio_buffer.append", audio=b64(bytes(600)))
    assert len(driver.of_type("error")) == 1


def test_a_commit_of_less_than_100_ms_is_refused() -> None:
    driver = Driver()
    driver.use_pcmu()
    driver.update(audio={"input": {"turn_detection": None}})
    driver.hear(silence(80))
    driver.send("input_audio_buffer.commit")
    assert driver.last_error()["code"] == "input_audio_buffer_commit_empty"
    assert "80.00ms" in driver.last_error()["message"]
    driver.hear(silence(20))
    committed, added, done = driver.send("input_audio_buffer.commit")
    assert committed["type"] == "input_audio_buffer.committed"
    assert added["item"]["id"] == done["item"]["id"] == committed["item_id"]


def test_a_cleared_buffer_is_empty() -> None:
    driver = Driver()
    driver.use_pcmu()
    driver.update(audio={"input": {"turn_detection": None}})
    driver.hear(tone(500))
    assert types_of(driver.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    driver.send("input_audio_buffer.commit")
    assert driver.last_error()["code"] == "input_audio_buffer_commit_empty"


def test_items_stand_where_the_client_puts_them() -> None:
    driver = Driver()
    driver.send("conversation.item.create", item={**MESSAGE, "id": "first"})
    added, done = driver.send("conversation.item.create", item={**MESSAGE, "id": "third"})
    assert types_of([added, done]) == ["conversation.item.added", "conversation.item.done"]
    assert added["previous_item_id"] == "first"
    (added, _) = driver.send("conversation.item.create", item={**MESSAGE, "id": "second"}, previous_item_id="first")
    assert added["previous_item_id"] == "first"
    (added, _) = driver.send("conversation.item.create", item={**MESSAGE, "id": "zeroth"}, previous_item_id="root")
    assert added["previous_item_id"] is None
    driver.send("conversation.item.create", item={**MESSAGE, "id": "second"})
    assert driver.last_error()["code"] == "item_create_duplicate_item_id"
    assert types_of(driver.send("conversation.item.delete", item_id="third")) == ["conversation.item.deleted"]
    (added, _) = driver.send("conversation.item.create", item=MESSAGE)
    assert added["previous_item_id"] == "second"
    (retrieved,) = driver.send("conversation.item.retrieve", item_id="first")
    assert retrieved["item"]["content"] == MESSAGE["content"]


def test_audio_in_an_item_is_not_echoed() -> None:
    driver = Driver()
    part = {"type": "input_audio", "audio": b64(bytes(4800)), "transcript": "x"}
    (added, _) = driver.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": "x"}]
    driver.send(
        "conversation.item.create", item={"type": "message", "role": "user", "content": [{**part, "audio": "?"}]}
    )
    assert driver.last_error()["param"] == "item.content[0].audio"


def test_the_log_keeps_the_newest_and_counts_the_rest() -> None:
    driver = Driver(config=PeerConfig(log_entries=3))
    for number in range(5):
        driver.send("input_audio_buffer.append", audio=b64(bytes([number, 0] * 240)))
    log = driver.session.log
    assert (len(log.appended), log.appended.count, log.appended.dropped) == (3, 5, 2)
    assert [chunk.audio[0] for chunk in log.appended] == [2, 3, 4]
    assert log.appended_bytes == 5 * 480
    assert len(log.received) == 0
