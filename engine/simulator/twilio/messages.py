"""The JSON messages of a media stream, as Twilio writes and reads them.

Owns the numbering of what Twilio sends (protocols.md A.2) and the strict reading of what a server sends (protocols.md
A.3): only `media`, `mark` and `clear`, with exactly the documented fields. It is sans-IO and written apart from the
engine's own `wire` package, so that the two check each other. Reading never raises: a wrong message comes back as a
`Violation`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.simulator.record import Violation

BINARY_FRAME = 31950
WRONG_MESSAGE = 31951

# The timestamp of the first frame; documented examples count 5, 25, 45 … (protocols.md A.2).
FIRST_TIMESTAMP_MS = 5
FRAME_MS = 20

_FIELDS: Final = {
    "media": frozenset({"event", "streamSid", "media"}),
    "mark": frozenset({"event", "streamSid", "mark"}),
    "clear": frozenset({"event", "streamSid"}),
}
_INNER_FIELD: Final = {"media": "payload", "mark": "name"}


@dataclass(frozen=True, slots=True)
class MediaReceived:
    """The server sent audio: mu-law, 8000 Hz, mono, at least one byte."""

    ulaw: bytes


@dataclass(frozen=True, slots=True)
class MarkReceived:
    """The server sent a mark."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearReceived:
    """The server wants the playout buffer emptied."""


ServerMessage = MediaReceived | MarkReceived | ClearReceived


class _Wrong(Exception):
    """A message is not as documented; the text says why."""


def read_message(now: float, message: str | bytes, stream_sid: str) -> ServerMessage | Violation:
    """Reads one WebSocket message of the server.

    Args:
        now: When it arrived, for the violation's record.
        message: The message's payload: text, or bytes if the frame was binary.
        stream_sid: The stream's sid; empty as long as `start` has not been sent, when every message is a violation.

    Returns:
        The message, or the violation with Twilio's code (protocols.md A.4).
    """
    if isinstance(message, bytes):
        return Violation(now, BINARY_FRAME, f"binary frame of {len(message)} bytes")
    try:
        return _read_text(message, stream_sid)
    except _Wrong as wrong:
        return Violation(now, WRONG_MESSAGE, str(wrong))


def _read_text(text: str, stream_sid: str) -> ServerMessage:
    fields = _object_of(text)
    event = fields.get("event")
    if not isinstance(event, str) or event not in _FIELDS:
        raise _Wrong(f"unknown event {_short(event)}")
    _require_fields(event, fields, _FIELDS[event])
    if not stream_sid:
        raise _Wrong(f"{event} before start")
    if fields["streamSid"] != stream_sid:
        raise _Wrong(f"{event}.streamSid is {_short(fields['streamSid'])}, not {stream_sid}")
    if event == "clear":
        return ClearReceived()
    inner = _inner_text(event, fields[event])
    return MarkReceived(inner) if event == "mark" else MediaReceived(_audio_of(inner))


def _object_of(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise _Wrong(f"not JSON: {_short(text)}") from None
    if not isinstance(fields, dict):
        raise _Wrong(f"not a JSON object: {_short(text)}")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Wrong("a field appears twice")
    return fields


def _require_fields(where: str, fields: Mapping[str, Any], expected: frozenset[str]) -> None:
    if missing := sorted(expected - fields.keys()):
        raise _Wrong(f"{where} lacks {', '.join(missing)}")
    if surplus := sorted(fields.keys() - expected):
        raise _Wrong(f"{where} has surplus {', '.join(map(_short, surplus))}")


def _inner_text(event: str, inner: object) -> str:
    name = _INNER_FIELD[event]
    if not isinstance(inner, dict):
        raise _Wrong(f"{event}.{event} is not an object")
    _require_fields(f"{event}.{event}", inner, frozenset({name}))
    text = inner[name]
    if not isinstance(text, str):
        raise _Wrong(f"{event}.{name} is not a string")
    if not text:
        raise _Wrong(f"{event}.{name} is empty")
    return text


def _audio_of(payload: str) -> bytes:
    try:
        ulaw = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:
        raise _Wrong(f"media.payload is not base64: {_short(payload)}") from None
    if ulaw.startswith(b"RIFF") and ulaw[8:12] == b"WAVE":
        raise _Wrong("media.payload begins with a file header")
    return ulaw


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class MessageWriter:
    """Writes the messages of one stream, in order: `start` first, `stop` last, each with the next sequence number."""

    def __init__(self, *, account_sid: str, call_sid: str, stream_sid: str) -> None:
        self._account_sid = account_sid
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        # The number of the latest message; `connected` has none.
        self._sequence = 0
        # Frames of the caller's audio, lost ones included.
        self._frames = 0

    @staticmethod
    def connected() -> str:
        """Writes `connected`, which precedes everything and carries no sid."""
        return _text({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self, parameters: Mapping[str, str]) -> str:
        """Writes `start` with the custom parameters of the TwiML."""
        start = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": dict(parameters),
        }
        return self._numbered("start", start)

    def media(self, ulaw: bytes) -> str:
        """Writes the next 20 ms frame; `timestamp` is its place in the caller's audio."""
        self._frames += 1
        media = {
            "track": "inbound",
            "chunk": str(self._frames),
            "timestamp": str(FIRST_TIMESTAMP_MS + FRAME_MS * (self._frames - 1)),
            "payload": base64.b64encode(ulaw).decode("ascii"),
        }
        return self._numbered("media", media)

    def lose_frame(self) -> None:
        """Skips a frame that was lost on its way: its chunk number and its time are used up, no sequence number is."""
        self._frames += 1

    def dtmf(self, digit: str) -> str:
        """Writes a key press; note `inbound_track` here and `inbound` in media."""
        return self._numbered("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        """Writes a returned mark."""
        return self._numbered("mark", {"name": name})

    def stop(self) -> str:
        """Writes `stop`, the last message."""
        return self._numbered("stop", {"accountSid": self._account_sid, "callSid": self._call_sid})

    def _numbered(self, event: str, content: Mapping[str, Any]) -> str:
        self._sequence += 1
        return _text(
            {"event": event, "sequenceNumber": str(self._sequence), event: content, "streamSid": self._stream_sid}
        )


def _text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))
