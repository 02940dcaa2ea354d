"""OpenAI Realtime messages, GA dialect, as a client speaks them (protocols.md B).

Owns the JSON of both directions. Of the server's events it understands those a telephone bridge needs (B.3); every
other type arrives as :class:`Other` and is to be ignored. The beta's names of the delta events are understood too,
because compatible servers still send them (B.5); nothing of the beta is ever written. Malformed input raises
:class:`~engine.errors.RemoteProtocolError` and nothing else.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from engine.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class SessionCreated:
    """The first event of a session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """Our session.update was taken; ``session`` is the whole effective configuration."""

    session: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak, ``audio_start_ms`` of audio after the first byte appended (padding included)."""

    audio_start_ms: int
    item_id: str


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller fell silent."""

    audio_end_ms: int
    item_id: str


@dataclass(frozen=True, slots=True)
class ResponseCreated:
    """The model began a response."""

    response_id: str


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """A piece of the model's voice, in the session's output format, faster than real time."""

    response_id: str
    item_id: str
    content_index: int
    audio: bytes | memoryview


@dataclass(frozen=True, slots=True)
class AudioDone:
    """The item's audio is complete, or was cut off by a cancellation."""

    response_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class TranscriptDone:
    """What the model said in this item (all of it, heard or not)."""

    item_id: str
    transcript: str


@dataclass(frozen=True, slots=True)
class CallerTranscribed:
    """What the caller said, when input transcription is on."""

    item_id: str
    transcript: str


@dataclass(frozen=True, slots=True)
class FunctionCalled:
    """The model wants a function run. Only completed calls arrive here: arguments of cancelled ones may be cut (B.3)."""

    response_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """A response ended.

    Attributes:
        status: ``completed``, ``cancelled``, ``failed`` or ``incomplete``.
        reason: Of ``status_details``: ``turn_detected``, ``max_output_tokens``, …; or the error's code. May be empty.
        message: The error's own words. May be empty.
    """

    response_id: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    """Our truncate was taken."""

    item_id: str
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class ErrorReported:
    """The service reports an error; the session mostly stays (B.3). ``event_id`` names the client event at fault."""

    code: str
    kind: str
    message: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Other:
    """An event this bridge has no use for."""

    type: str


Event: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | ResponseCreated
    | AudioDelta
    | AudioDone
    | TranscriptDone
    | CallerTranscribed
    | FunctionCalled
    | ResponseDone
    | ItemTruncated
    | ErrorReported
    | Other
)


class Severity(Enum):
    """What an error of the service means for the call (protocols.md B.3, last paragraph of "Behaviour")."""

    BENIGN = "benign"
    RECOVERABLE = "recoverable"
    FATAL = "fatal"


# Said in races that are nobody's fault: the response had just ended, or too little audio was there to commit.
BENIGN_CODES: Final = frozenset(
    {"response_cancel_not_active", "conversation_already_has_active_response", "input_audio_buffer_commit_empty"}
)
# Another attempt with the same settings must fail too.
FATAL_CODES: Final = frozenset(
    {
        "beta_api_shape_disabled",
        "invalid_api_key",
        "model_not_found",
        "insufficient_quota",
        "unsupported_country_region_territory",
        "account_deactivated",
        "billing_hard_limit_reached",
    }
)
# The session is gone, a new one may be had.
SESSION_OVER_CODES: Final = frozenset({"session_expired"})


# A session lasts an hour; a float holds every integer up to here.
NUMBER_LIMIT: Final = 2**53


def severity(error: ErrorReported) -> Severity:
    """Sorts an error.

    Benign: nothing to do. Recoverable: reported, the call goes on (``session_expired`` wants a new session first).
    Fatal: no attempt with the same settings can succeed.
    """
    if error.code in BENIGN_CODES:
        return Severity.BENIGN
    if error.code in FATAL_CODES or error.kind in ("authentication_error", "permission_error"):
        return Severity.FATAL
    return Severity.RECOVERABLE


def parse_event(text: str) -> Event:
    """Reads one server event.

    Args:
        text: A whole WebSocket text message.

    Returns:
        What it says; :class:`Other` for types without use here.

    Raises:
        RemoteProtocolError: It is not JSON, or a field that its type must have is missing or of the wrong kind.
    """
    try:
        message = json.loads(text)
        kind = _text(message, "type")
        parser = _PARSERS.get(kind)
        return parser(message) if parser is not None else Other(kind)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise RemoteProtocolError(f"malformed event: {type(error).__name__}: {error}") from error


def _text(message: Mapping[str, Any], field: str) -> str:
    value = message[field]
    if not isinstance(value, str):
        raise TypeError(f"{field} is not a string")
    return value


def _number(message: Mapping[str, Any], field: str, default: int | None = None) -> int:
    value = message[field] if default is None else message.get(field, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{field} is not a number")
    number = int(value)
    if not 0 <= number <= NUMBER_LIMIT:
        raise ValueError(f"{field} is out of range")
    return number


def _object(message: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = message[field]
    if not isinstance(value, dict):
        raise TypeError(f"{field} is not an object")
    return value


def _audio_delta(message: dict[str, Any]) -> AudioDelta:
    return AudioDelta(
        _text(message, "response_id"),
        _text(message, "item_id"),
        _number(message, "content_index", 0),
        binascii.a2b_base64(message["delta"], strict_mode=True),
    )


def _output_item_done(message: dict[str, Any]) -> Event:
    item = message["item"]
    # an item cut off by a cancellation is `incomplete`, and so may be its arguments (B.3)
    if item["type"] != "function_call" or item.get("status", "completed") != "completed":
        return Other(message["type"])
    return FunctionCalled(
        _text(message, "response_id"), _text(item, "call_id"), _text(item, "name"), _text(item, "arguments")
    )


def _response_done(message: dict[str, Any]) -> ResponseDone:
    response = message["response"]
    details = response.get("status_details") or {}
    error = details.get("error") or {}
    reason = details.get("reason") or error.get("code") or error.get("type") or ""
    return ResponseDone(_text(response, "id"), _text(response, "status"), str(reason), str(error.get("message") or ""))


def _error(message: dict[str, Any]) -> ErrorReported:
    error = message["error"]
    return ErrorReported(
        str(error.get("code") or ""),
        str(error.get("type") or ""),
        str(error.get("message") or ""),
        str(error.get("event_id") or ""),
    )


def _transcript_done(message: dict[str, Any]) -> TranscriptDone:
    return TranscriptDone(_text(message, "item_id"), _text(message, "transcript"))


_PARSERS: Final[Mapping[str, Callable[[dict[str, Any]], Event]]] = {
    "response.output_audio.delta": _audio_delta,
    "response.audio.delta": _audio_delta,
    "response.output_audio.done": lambda m: AudioDone(_text(m, "response_id"), _text(m, "item_id")),
    "response.audio.done": lambda m: AudioDone(_text(m, "response_id"), _text(m, "item_id")),
    "response.output_audio_transcript.done": _transcript_done,
    "response.audio_transcript.done": _transcript_done,
    "response.output_item.done": _output_item_done,
    "response.created": lambda m: ResponseCreated(_text(m["response"], "id")),
    "response.done": _response_done,
    "input_audio_buffer.speech_started": lambda m: SpeechStarted(_number(m, "audio_start_ms"), _text(m, "item_id")),
    "input_audio_buffer.speech_stopped": lambda m: SpeechStopped(_number(m, "audio_end_ms"), _text(m, "item_id")),
    "conversation.item.truncated": lambda m: ItemTruncated(_text(m, "item_id"), _number(m, "audio_end_ms")),
    "conversation.item.input_audio_transcription.completed": lambda m: CallerTranscribed(
        _text(m, "item_id"), _text(m, "transcript")
    ),
    "session.created": lambda m: SessionCreated(str(_object(m, "session").get("id", ""))),
    "session.updated": lambda m: SessionUpdated(_object(m, "session")),
    "error": _error,
}

# ---------------------------------------------------------------------------------------------- client events (B.4)

_APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL: Final = b'"}'


def append_audio(base64_audio: str) -> bytes:
    """Writes ``input_audio_buffer.append`` around audio that is already base64, in the session's input format."""
    return b"%b%b%b" % (_APPEND_HEAD, base64_audio.encode("ascii"), _APPEND_TAIL)


def append_pcm(audio: bytes) -> bytes:
    """Writes ``input_audio_buffer.append`` around raw audio in the session's input format."""
    return b"%b%b%b" % (_APPEND_HEAD, binascii.b2a_base64(audio, newline=False), _APPEND_TAIL)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """What the session is to be (protocols.md B.2).

    Attributes:
        instructions: The system prompt.
        voice: A built-in voice's name.
        audio: ``pcmu`` (G.711 mu-law, 8000 Hz) or ``pcm24k`` (16-bit little-endian, 24000 Hz), for both directions.
        turn_detection: ``server_vad`` or ``semantic_vad``.
        tools: Function tools: name, description and the JSON Schema of the parameters.
    """

    instructions: str
    voice: str
    audio: str = "pcmu"
    turn_detection: str = "server_vad"
    tools: Sequence[tuple[str, str, Mapping[str, Any]]] = ()


def update_session(config: SessionConfig, event_id: str = "session") -> bytes:
    """Writes ``session.update``; the first thing to send after ``session.created``."""
    # pcmu takes no rate on Realtime: the service refuses it (B.2)
    audio_format = {"type": "audio/pcmu"} if config.audio == "pcmu" else {"type": "audio/pcm", "rate": 24000}
    session: dict[str, Any] = {
        "type": "realtime",
        "instructions": config.instructions,
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": audio_format,
                "turn_detection": {
                    "type": config.turn_detection,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": audio_format, "voice": config.voice},
        },
    }
    if config.tools:
        session["tools"] = [
            {"type": "function", "name": name, "description": description, "parameters": dict(parameters)}
            for name, description, parameters in config.tools
        ]
        session["tool_choice"] = "auto"
    return _event({"type": "session.update", "event_id": event_id, "session": session})


def create_response(event_id: str, instructions: str | None = None) -> bytes:
    """Writes ``response.create``, with instructions for this response alone if given."""
    message: dict[str, Any] = {"type": "response.create", "event_id": event_id}
    if instructions:
        message["response"] = {"instructions": instructions}
    return _event(message)


def truncate_item(item_id: str, audio_end_ms: int, event_id: str, content_index: int = 0) -> bytes:
    """Writes ``conversation.item.truncate``.

    Args:
        item_id: An assistant message item.
        audio_end_ms: What the caller heard of it; must not exceed what the item holds, or the service errs (B.4).
        event_id: Comes back in an error about this event.
        content_index: 0 is the only one the service takes.
    """
    return _event(
        {
            "type": "conversation.item.truncate",
            "event_id": event_id,
            "item_id": item_id,
            "content_index": content_index,
            "audio_end_ms": audio_end_ms,
        }
    )


def function_output(call_id: str, output: str) -> bytes:
    """Writes the ``conversation.item.create`` that returns a function's output; ``output`` is JSON text."""
    return _event(
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": call_id, "output": output},
        }
    )


def user_message(text: str) -> bytes:
    """Writes the ``conversation.item.create`` of something the user entered otherwise than by voice."""
    content = [{"type": "input_text", "text": text}]
    return _event({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}})


def assistant_message(text: str) -> bytes:
    """Writes the ``conversation.item.create`` that tells a new session what the assistant said in an earlier one."""
    content = [{"type": "output_text", "text": text}]
    return _event(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "assistant", "content": content}}
    )


def _event(message: Mapping[str, Any]) -> bytes:
    # Half a surrogate pair, which JSON can smuggle in (a tool's arguments), has no UTF-8; it becomes a question mark.
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
