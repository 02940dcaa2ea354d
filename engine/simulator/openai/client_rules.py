"""The shapes of the client events of protocols.md B.4.

Owns the parsing of one client message and the table of events with their fields; what an event does stands elsewhere. Refuses
text that is not a JSON object, unknown events and unknown fields, each with the error the service gives. Keeps nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from engine.simulator.openai.fields import (
    Check,
    EventRefused,
    anything,
    array,
    boolean,
    free_object,
    integer,
    missing,
    nullable,
    one_of,
    record,
    tagged,
    text,
    unsupported,
)
from engine.simulator.openai.session_rules import (
    PROMPT,
    REASONING,
    TOOLS,
    check_format,
    check_modalities,
    check_token_limit,
    check_tool_choice,
    check_voice,
)

_ITEM_ID = text(longest=32, shortest=1)
_ITEM: Final[dict[str, Check]] = {
    "id": _ITEM_ID,
    "object": one_of("realtime.item"),
    "type": anything,
    "status": one_of("completed", "incomplete", "in_progress"),
}
_INPUT_TEXT = record({"type": anything, "text": text()}, required=("text",))
_INPUT_AUDIO = record({"type": anything, "audio": text(), "transcript": nullable(text())}, required=("audio",))
_INPUT_IMAGE = record(
    {"type": anything, "image_url": text(), "detail": one_of("auto", "low", "high")}, required=("image_url",)
)
_CONTENT: Final[dict[str, dict[str, Check]]] = {
    "user": {"input_text": _INPUT_TEXT, "input_audio": _INPUT_AUDIO, "input_image": _INPUT_IMAGE},
    "system": {"input_text": _INPUT_TEXT},
    # The conversation cannot be given assistant audio (protocols.md B.4): output_audio is missing on purpose.
    "assistant": {"output_text": _INPUT_TEXT},
}


def _check_message(value: Any, path: str) -> None:
    roles = {
        role: record({**_ITEM, "role": anything, "content": array(tagged("type", parts))}, required=("role", "content"))
        for role, parts in _CONTENT.items()
    }
    tagged("role", roles)(value, path)


_FUNCTION_CALL = record(
    {**_ITEM, "call_id": text(shortest=1), "name": text(shortest=1), "arguments": text()},
    required=("name", "arguments"),
)
_FUNCTION_OUTPUT = record({**_ITEM, "call_id": text(shortest=1), "output": text()}, required=("call_id", "output"))
_ITEMS: Final[dict[str, Check]] = {
    "message": _check_message,
    "function_call": _FUNCTION_CALL,
    "function_call_output": _FUNCTION_OUTPUT,
}
_REFERENCE = record({"type": anything, "id": _ITEM_ID}, required=("id",))


def _check_metadata(value: Any, path: str) -> None:
    free_object(value, path)
    if len(value) > 16:
        raise EventRefused(f"Invalid '{path}': too many properties.", code="object_above_max_properties", param=path)
    for key, entry in value.items():
        text(longest=64)(key, f"{path} key")
        text(longest=512)(entry, f"{path}.{key}")


_RESPONSE = record(
    {
        "audio": record({"output": record({"format": check_format, "voice": check_voice})}),
        "conversation": one_of("auto", "none"),
        "input": array(tagged("type", {**_ITEMS, "item_reference": _REFERENCE})),
        "instructions": text(),
        "max_output_tokens": check_token_limit,
        "metadata": nullable(_check_metadata),
        "output_modalities": check_modalities,
        "parallel_tool_calls": boolean,
        "prompt": nullable(PROMPT),
        "reasoning": REASONING,
        "tool_choice": check_tool_choice,
        "tools": TOOLS,
    }
)


def _event(fields: dict[str, Check], *optional: str) -> Check:
    required = tuple(name for name in fields if name not in optional)
    return record({"type": anything, "event_id": text(longest=512), **fields}, required=required)


EVENTS: Final[dict[str, Check]] = {
    "session.update": _event({"session": free_object}),
    "input_audio_buffer.append": _event({"audio": text()}),
    "input_audio_buffer.commit": _event({}),
    "input_audio_buffer.clear": _event({}),
    "conversation.item.create": _event(
        {"item": tagged("type", _ITEMS), "previous_item_id": nullable(text())}, "previous_item_id"
    ),
    "conversation.item.retrieve": _event({"item_id": text()}),
    "conversation.item.truncate": _event(
        {"item_id": text(), "content_index": integer(), "audio_end_ms": integer(least=0)}
    ),
    "conversation.item.delete": _event({"item_id": text()}),
    "response.create": _event({"response": _RESPONSE}, "response"),
    "response.cancel": _event({"response_id": text()}, "response_id"),
}


def parse_event(message: str | bytes) -> dict[str, Any]:
    """Parse one client message, without checking its fields.

    Args:
        message: A WebSocket message; the service speaks JSON text.

    Raises:
        EventRefused: It is binary, not JSON, not an object, or has no type.
    """
    if not isinstance(message, str):
        raise EventRefused("Binary messages are not supported.", code="invalid_event")
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise EventRefused("Could not parse your JSON body.", code="invalid_json") from error
    if not isinstance(event, dict):
        raise EventRefused("The event must be a JSON object.", code="invalid_event")
    if "type" not in event:
        raise missing("type")
    return event


def check_event(event: dict[str, Any]) -> None:
    """Check the type and the fields of a parsed event; `session` is left to the session's rules.

    Raises:
        EventRefused: The event is unknown or malformed.
    """
    kind = event["type"]
    if not isinstance(kind, str) or kind not in EVENTS:
        raise unsupported(kind, "type", tuple(EVENTS))
    EVENTS[kind](event, "")


def decode_audio(payload: str, path: str = "audio") -> bytes:
    """Decode base64 strictly: its alphabet and its padding only.

    Raises:
        EventRefused: It is not base64.
    """
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"Invalid '{path}'. Expected base64-encoded audio bytes, but got an invalid value."
        raise EventRefused(message, code="invalid_value", param=path) from error
