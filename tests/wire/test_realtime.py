"""OpenAI Realtime messages (protocols.md B), against the vendor's own models and schemas."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from engine.errors import RemoteProtocolError
from engine.wire import realtime
from engine.wire.realtime import (
    NUMBER_LIMIT,
    AudioDelta,
    AudioDone,
    CallerTranscribed,
    ErrorReported,
    FunctionCalled,
    ItemTruncated,
    Other,
    ResponseCreated,
    ResponseDone,
    SessionConfig,
    SessionCreated,
    SessionUpdated,
    Severity,
    SpeechStarted,
    SpeechStopped,
    TranscriptDone,
    parse_event,
    severity,
)

SCHEMAS = Path(__file__).parents[3] / "shared" / "conformance" / "openai_realtime_schemas.json"
CLIENT_EVENTS = TypeAdapter[Any](RealtimeClientEvent)
SERVER_EVENTS = TypeAdapter[Any](RealtimeServerEvent)

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PCMU = SessionConfig(instructions="Be brief.", voice="marin", tools=(("weather", "Tells the weather.", PARAMETERS),))
PCM = SessionConfig(instructions="", voice="cedar", audio="pcm24k", turn_detection="semantic_vad")

CLIENT = {
    "append_audio": realtime.append_audio(base64.b64encode(b"\xff" * 160).decode()),
    "append_pcm": realtime.append_pcm(b"\0\1" * 480),
    "update_session pcmu": realtime.update_session(PCMU),
    "update_session pcm24k": realtime.update_session(PCM, "c7"),
    "create_response": realtime.create_response("c1"),
    "create_response with instructions": realtime.create_response("c1", "Greet the caller."),
    "truncate_item": realtime.truncate_item("item_1", 1480, "c2"),
    "function_output": realtime.function_output("call_1", '{"ok":true}'),
    "user_message": realtime.user_message("The caller pressed 1."),
    "assistant_message": realtime.assistant_message("Hello."),
}

IDS = {"event_id": "event_1", "response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
FUNCTION_ITEM = {
    "id": "item_2",
    "type": "function_call",
    "object": "realtime.item",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Köln"}',
}
MESSAGE_ITEM = {
    "id": "item_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_audio", "transcript": "Hi."}],
}


def event(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "event_id": "event_1", **fields}


def of_item(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, **IDS, **fields}


def response_done(status: str, details: object = None) -> dict[str, Any]:
    response = {"id": "resp_1", "object": "realtime.response", "status": status, "status_details": details}
    return event("response.done", response={**response, "output": []})


SESSION = {"type": "realtime", "id": "sess_1", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}

# what the service sends, and what it says
SERVER: list[tuple[dict[str, Any], object]] = [
    (event("session.created", session=SESSION), SessionCreated("sess_1")),
    (event("session.updated", session=SESSION), SessionUpdated(SESSION)),
    (
        event("input_audio_buffer.speech_started", audio_start_ms=1200, item_id="item_1"),
        SpeechStarted(1200, "item_1"),
    ),
    (event("input_audio_buffer.speech_stopped", audio_end_ms=2400, item_id="item_1"), SpeechStopped(2400, "item_1")),
    (
        event("response.created", response={"id": "resp_1", "object": "realtime.response", "status": "in_progress"}),
        ResponseCreated("resp_1"),
    ),
    (of_item("response.output_audio.delta", delta="/38A"), AudioDelta("resp_1", "item_1", 0, b"\xff\x7f\0")),
    (of_item("response.output_audio.done"), AudioDone("resp_1", "item_1")),
    (of_item("response.output_audio_transcript.done", transcript="Grüße."), TranscriptDone("item_1", "Grüße.")),
    (
        event(
            "conversation.item.input_audio_transcription.completed",
            item_id="item_1",
            content_index=0,
            transcript="Hello?",
            usage={"type": "duration", "seconds": 1},
        ),
        CallerTranscribed("item_1", "Hello?"),
    ),
    (
        event("response.output_item.done", response_id="resp_1", output_index=0, item=FUNCTION_ITEM),
        FunctionCalled("resp_1", "call_1", "weather", '{"city":"Köln"}'),
    ),
    (
        event("response.output_item.done", response_id="resp_1", output_index=0, item=MESSAGE_ITEM),
        Other("response.output_item.done"),
    ),
    (
        event(
            "response.output_item.done",
            response_id="resp_1",
            output_index=0,
            item={**FUNCTION_ITEM, "status": "incomplete", "arguments": '{"ci'},
        ),
        Other("response.output_item.done"),
    ),
    (response_done("completed"), ResponseDone("resp_1", "completed", "", "")),
    (
        response_done("cancelled", {"type": "cancelled", "reason": "turn_detected"}),
        ResponseDone("resp_1", "cancelled", "turn_detected", ""),
    ),
    (
        response_done("incomplete", {"type": "incomplete", "reason": "max_output_tokens"}),
        ResponseDone("resp_1", "incomplete", "max_output_tokens", ""),
    ),
    (
        response_done("failed", {"type": "failed", "error": {"type": "server_error", "code": "overloaded"}}),
        ResponseDone("resp_1", "failed", "overloaded", ""),
    ),
    (
        response_done("failed", {"type": "failed", "error": {"type": "server_error", "code": None}}),
        ResponseDone("resp_1", "failed", "server_error", ""),
    ),
    (
        event("conversation.item.truncated", item_id="item_1", content_index=0, audio_end_ms=1480),
        ItemTruncated("item_1", 1480),
    ),
    (
        event(
            "error",
            error={
                "type": "invalid_request_error",
                "code": "item_truncate_invalid",
                "message": "No.",
                "event_id": "c2",
            },
        ),
        ErrorReported("item_truncate_invalid", "invalid_request_error", "No.", "c2"),
    ),
    (event("error", error={"type": "server_error", "message": "Oh."}), ErrorReported("", "server_error", "Oh.", "")),
    (
        event("input_audio_buffer.committed", item_id="item_1", previous_item_id=None),
        Other("input_audio_buffer.committed"),
    ),
    (event("conversation.item.added", item=MESSAGE_ITEM), Other("conversation.item.added")),
    (
        event("response.function_call_arguments.done", **{**IDS, "call_id": "call_1"}, name="weather", arguments="{}"),
        Other("response.function_call_arguments.done"),
    ),
    (of_item("response.output_text.delta", delta="Hi"), Other("response.output_text.delta")),
    (
        event(
            "rate_limits.updated",
            rate_limits=[{"name": "tokens", "limit": 10, "remaining": 9, "reset_seconds": 1.5}],
        ),
        Other("rate_limits.updated"),
    ),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def body(name: str) -> dict[str, Any]:
    message = json.loads(CLIENT[name])
    assert isinstance(message, dict)
    return message


# --------------------------------------------------------------------------------------------------------- client events


@pytest.mark.parametrize("name", CLIENT)
def test_every_client_event_satisfies_the_vendors_models(name: str) -> None:
    CLIENT_EVENTS.validate_json(CLIENT[name], strict=False)


@pytest.fixture(scope="module")
def schema_of() -> Callable[[str], jsonschema.Draft202012Validator]:
    if not SCHEMAS.exists():
        pytest.skip("the vendor's schemas are not on this machine")
    schemas = json.loads(SCHEMAS.read_text())["components"]["schemas"]

    def validator(type_: str) -> jsonschema.Draft202012Validator:
        name = "RealtimeClientEvent" + "".join(word.capitalize() for word in type_.replace("_", ".").split("."))
        return jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        )

    return validator


@pytest.mark.parametrize("name", CLIENT)
def test_every_client_event_satisfies_the_vendors_schemas(
    name: str, schema_of: Callable[[str], jsonschema.Draft202012Validator]
) -> None:
    message = body(name)
    schema_of(message["type"]).validate(message)


def test_the_schemas_refuse_what_is_wrong(schema_of: Callable[[str], jsonschema.Draft202012Validator]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema_of("conversation.item.truncate").validate({"type": "conversation.item.truncate", "item_id": 7})


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys_of(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(keys_of(inner) for inner in value))
    return set()


@pytest.mark.parametrize("name", CLIENT)
def test_nothing_of_the_beta_or_of_other_models_is_written(name: str) -> None:
    beta = {
        "modalities",
        "input_audio_format",
        "output_audio_format",
        "max_response_output_tokens",
        "input_audio_transcription",
        "temperature",
    }
    message = body(name)
    assert not keys_of(message) & beta
    assert not {"voice", "turn_detection"} & set(message.get("session", {}))  # nested under audio since GA
    assert not {'"text"', '"audio"'} & {json.dumps(part["type"]) for part in message.get("item", {}).get("content", [])}


def test_mulaw_takes_no_rate_and_pcm_takes_24000() -> None:
    for side in ("input", "output"):
        assert body("update_session pcmu")["session"]["audio"][side]["format"] == {"type": "audio/pcmu"}
        assert body("update_session pcm24k")["session"]["audio"][side]["format"] == {"type": "audio/pcm", "rate": 24000}


def test_a_session_says_what_it_is_and_speaks() -> None:
    message = body("update_session pcmu")
    assert set(message) == {"type", "event_id", "session"}
    session = message["session"]
    assert session["type"] == "realtime"
    assert session["output_modalities"] == ["audio"]
    assert session["instructions"] == "Be brief."
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "create_response": True,
        "interrupt_response": True,
    }


def test_tools_are_offered_flat_and_only_if_there_are_some() -> None:
    session = body("update_session pcmu")["session"]
    weather = {"type": "function", "name": "weather", "description": "Tells the weather.", "parameters": PARAMETERS}
    assert session["tools"] == [weather]
    assert session["tool_choice"] == "auto"
    assert not {"tools", "tool_choice"} & set(body("update_session pcm24k")["session"])


def test_semantic_turn_detection_has_none_of_the_other_kinds_fields() -> None:
    detection = body("update_session pcm24k")["session"]["audio"]["input"]["turn_detection"]
    assert detection == {"type": "semantic_vad", "create_response": True, "interrupt_response": True}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("create_response", {"type": "response.create", "event_id": "c1"}),
        (
            "create_response with instructions",
            {"type": "response.create", "event_id": "c1", "response": {"instructions": "Greet the caller."}},
        ),
        (
            "truncate_item",
            {
                "type": "conversation.item.truncate",
                "event_id": "c2",
                "item_id": "item_1",
                "content_index": 0,
                "audio_end_ms": 1480,
            },
        ),
        (
            "function_output",
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_1", "output": '{"ok":true}'},
            },
        ),
    ],
)
def test_an_order_has_exactly_these_fields(name: str, message: dict[str, Any]) -> None:
    assert body(name) == message


@given(audio=st.binary(max_size=400))
def test_appended_audio_is_what_was_given(audio: bytes) -> None:
    text = base64.b64encode(audio).decode()
    expected = {"type": "input_audio_buffer.append", "audio": text}
    assert json.loads(realtime.append_pcm(audio)) == expected
    assert json.loads(realtime.append_audio(text)) == expected


@given(text=st.text(st.characters(), max_size=30), number=st.integers(0, NUMBER_LIMIT))
def test_any_text_gives_json_that_has_a_utf8_form(text: str, number: int) -> None:
    for written in (
        realtime.truncate_item(text, number, text),
        realtime.function_output(text, text),
        realtime.user_message(text),
        realtime.assistant_message(text),
        realtime.create_response(text, text),
        realtime.update_session(SessionConfig(instructions=text, voice=text), text),
    ):
        json.loads(written.decode("utf-8"))


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert json.loads(realtime.function_output("call_1", '"\ud83d"'))["item"]["output"] == '"?"'


# --------------------------------------------------------------------------------------------------------- server events


@pytest.mark.parametrize(("message", "meaning"), SERVER, ids=[message["type"] for message, _ in SERVER])
def test_a_server_event_is_understood(message: dict[str, Any], meaning: object) -> None:
    assert SERVER_EVENTS.validate_python(message).type == message["type"]  # the vendor sends such an event
    assert parse_event(json.dumps(message)) == meaning
    assert parse_event(json.dumps({**message, "later": {"a": [1]}})) == meaning


def test_the_words_of_a_failed_response_are_kept() -> None:
    details = {"type": "failed", "error": {"type": "server_error", "code": "overloaded", "message": "Too much."}}
    assert parse_event(json.dumps(response_done("failed", details))) == ResponseDone(
        "resp_1", "failed", "overloaded", "Too much."
    )


@pytest.mark.parametrize(
    ("word", "fields"),
    [("audio.delta", {"delta": "AAAA"}), ("audio.done", {}), ("audio_transcript.done", {"transcript": "Hi."})],
)
def test_the_betas_names_mean_the_same(word: str, fields: dict[str, str]) -> None:
    beta = parse_event(json.dumps(of_item(f"response.{word}", **fields)))
    assert not isinstance(beta, Other)
    assert beta == parse_event(json.dumps(of_item(f"response.output_{word}", **fields)))


def test_types_of_the_future_are_ignored() -> None:
    assert parse_event('{"type":"response.smell.delta","delta":1}') == Other("response.smell.delta")


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("response_cancel_not_active", "invalid_request_error", Severity.BENIGN),
        ("conversation_already_has_active_response", "invalid_request_error", Severity.BENIGN),
        ("input_audio_buffer_commit_empty", "invalid_request_error", Severity.BENIGN),
        ("beta_api_shape_disabled", "invalid_request_error", Severity.FATAL),
        ("invalid_api_key", "invalid_request_error", Severity.FATAL),
        ("model_not_found", "invalid_request_error", Severity.FATAL),
        ("insufficient_quota", "insufficient_quota", Severity.FATAL),
        ("", "authentication_error", Severity.FATAL),
        ("", "permission_error", Severity.FATAL),
        ("session_expired", "invalid_request_error", Severity.RECOVERABLE),
        ("item_truncate_invalid_item_id", "invalid_request_error", Severity.RECOVERABLE),
        ("", "server_error", Severity.RECOVERABLE),
        ("", "", Severity.RECOVERABLE),
    ],
)
def test_an_error_weighs(code: str, kind: str, expected: Severity) -> None:
    assert severity(ErrorReported(code, kind, "", "")) is expected


def test_an_expired_session_is_over_but_not_for_good() -> None:
    assert "session_expired" in realtime.SESSION_OVER_CODES


# --------------------------------------------------------------------------------------------------------- malformed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        '"error"',
        "{}",
        '{"type":null}',
        '{"type":7}',
        '{"type":["error"]}',
        '{"type":{}}',
        "[" * 100_000,
        '{"type":"x","n":' + "9" * 5000 + "}",
        '{"type":"error"}',
        '{"type":"error","error":"oh"}',
        '{"type":"session.updated","session":""}',
        '{"type":"session.updated","session":[["type","realtime"]]}',
        '{"type":"session.created","session":null}',
        '{"type":"response.done","response":{"id":"r","status":"failed","status_details":[1]}}',
        '{"type":"response.done","response":{"id":"r","status":"failed","status_details":{"error":"e"}}}',
    ],
    ids=lambda text: repr(text[:70]),
)
def test_what_is_not_an_event_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_event(text)


REQUIRED = {
    "response.output_audio.delta": ["response_id", "item_id", "delta"],
    "response.output_audio.done": ["response_id", "item_id"],
    "response.output_audio_transcript.done": ["item_id", "transcript"],
    "input_audio_buffer.speech_started": ["audio_start_ms", "item_id"],
    "input_audio_buffer.speech_stopped": ["audio_end_ms", "item_id"],
    "conversation.item.truncated": ["audio_end_ms", "item_id"],
    "conversation.item.input_audio_transcription.completed": ["item_id", "transcript"],
    "response.created": ["response"],
    "response.done": ["response"],
    "session.created": ["session"],
    "session.updated": ["session"],
    "error": ["error"],
}


@pytest.mark.parametrize(("type_", "field"), [(name, field) for name, fields in REQUIRED.items() for field in fields])
def test_a_needed_field_that_is_missing_or_of_another_kind_is_refused(type_: str, field: str) -> None:
    message = next(message for message, _ in SERVER if message["type"] == type_)
    without = {name: value for name, value in message.items() if name != field}
    for broken in (without, *({**without, field: value} for value in (None, True, [], "\x00", [[1]]))):
        if broken.get(field) == "\x00" and isinstance(message[field], str) and field != "delta":
            continue  # any text is text
        with pytest.raises(RemoteProtocolError):
            parse_event(json.dumps(broken))


@pytest.mark.parametrize("value", [-1, NUMBER_LIMIT + 1, 10**400, float("inf"), float("nan"), "1200"])
def test_a_time_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_event(json.dumps(event("input_audio_buffer.speech_started", audio_start_ms=value, item_id="i")))


@pytest.mark.parametrize("delta", ["A", "AAA", "AAAA\n", "_-__", "ÄÄÄÄ", "AA==AA=="])
def test_audio_that_is_not_base64_is_refused(delta: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_event(json.dumps(of_item("response.output_audio.delta", delta=delta)))


def check_only_refused(text: str) -> None:
    with suppress(RemoteProtocolError):
        parse_event(text)


@given(text=st.text(max_size=200))
def test_any_text_is_refused_or_an_event(text: str) -> None:
    check_only_refused(text)


@given(value=json_values, type_=st.sampled_from(sorted({message["type"] for message, _ in SERVER})))
def test_any_json_is_refused_or_an_event(value: object, type_: str) -> None:
    check_only_refused(json.dumps(value))
    if isinstance(value, dict):
        check_only_refused(json.dumps({**value, "type": type_}))


@given(data=st.data(), index=st.integers(0, len(SERVER) - 1), value=json_values)
def test_an_event_with_any_field_changed_is_refused_or_an_event(data: st.DataObject, index: int, value: object) -> None:
    message = json.loads(json.dumps(SERVER[index][0]))
    inner = message
    while True:
        name = data.draw(st.sampled_from(sorted(inner)))
        if isinstance(inner[name], dict) and inner[name] and data.draw(st.booleans()):
            inner = inner[name]
            continue
        inner[name] = value
        break
    check_only_refused(json.dumps(message))
