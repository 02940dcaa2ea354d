"""Twilio Media Streams messages, as the server speaks them (protocols.md A.2, A.3).

Owns the JSON of both directions and the order in which a stream's messages may come. Refuses (by
:class:`~engine.errors.RemoteProtocolError`) what is malformed, out of order or for another stream; such a message
changes nothing, and the stream goes on. Only the three documented orders are written, with exactly their fields,
because Twilio answers an extra one with error 31951.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from engine.errors import LocalProtocolError, RemoteProtocolError

UNSUPPORTED_DATA: Final = 1003  # RFC 6455 7.4.1
# Twilio numbers messages and milliseconds of at most a day's call; a float holds every integer up to here
NUMBER_LIMIT: Final = 2**53
# the only format Twilio documents (protocols.md A.1, last rows)
MEDIA_FORMAT: Final[Mapping[str, object]] = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message: the protocol's name and version. Nothing can be sent yet."""

    protocol: str
    version: str


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The stream's identity and what the TwiML's parameters said."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MediaReceived:
    """A piece of the caller's voice.

    Attributes:
        timestamp_ms: When it was spoken, in milliseconds since the stream began.
        payload: The base64 text as it came.
        ulaw: The same, decoded: G.711 mu-law, 8000 Hz, mono, of any length.
    """

    timestamp_ms: int
    payload: str
    ulaw: bytes


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class MarkReturned:
    """Everything sent before this mark was played, or flushed by a clear."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The stream or the call ended."""


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A message of a kind that is not documented."""

    event: str


Event: TypeAlias = (
    Connected | StreamStarted | MediaReceived | DtmfReceived | MarkReturned | StreamStopped | Unrecognised
)


class TwilioStream:
    """The messages of one bidirectional stream."""

    def __init__(self) -> None:
        # empty until `start` came
        self.stream_sid = ""
        self._media_head = b""
        # The next sequence number a gapless stream has. Whoever carries media past this object moves it on.
        self.next_sequence = 1
        # messages that never came, told by jumps of the sequence number
        self.messages_missed = 0
        self._stopped = False

    def receive(self, text: str) -> Event:
        """Reads one message.

        Args:
            text: A whole WebSocket text message.

        Returns:
            What it says.

        Raises:
            RemoteProtocolError: It is malformed, out of order, or for another stream. With a close code where the
                stream cannot go on (a media format that is not mu-law, 8000 Hz, mono).
        """
        try:
            message = json.loads(text)
            event = message["event"]
            if event == "media":
                return self._receive_media(message)
            return self._receive_other(event, message)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
            raise RemoteProtocolError(f"malformed message: {type(error).__name__}: {error}") from error

    def _receive_media(self, message: dict[str, Any]) -> MediaReceived:
        self._check_in_stream("media", message)
        media = message["media"]
        payload = media["payload"]
        ulaw = binascii.a2b_base64(payload, strict_mode=True)
        timestamp_ms = _number(media["timestamp"])
        if media.get("track", "inbound") != "inbound" or not ulaw:
            raise RemoteProtocolError("media of another track, or empty")
        self._count(message)
        return MediaReceived(timestamp_ms, payload, ulaw)

    def _receive_other(self, event: object, message: dict[str, Any]) -> Event:
        if event == "connected":
            if self.stream_sid:
                raise RemoteProtocolError("connected after start")
            return Connected(str(message.get("protocol", "")), str(message.get("version", "")))
        if event == "start":
            return self._receive_start(message)
        if event in ("dtmf", "mark", "stop"):
            return self._receive_in_stream(event, message)
        return Unrecognised(_string(event)[:40])

    def _receive_in_stream(self, event: object, message: dict[str, Any]) -> Event:
        self._check_in_stream(event, message)
        received: Event
        if event == "dtmf":
            received = DtmfReceived(_digit(message["dtmf"]["digit"]))
        elif event == "mark":
            received = MarkReturned(_string(message["mark"]["name"]))
        else:
            received = StreamStopped()
        self._count(message)
        self._stopped = event == "stop"
        return received

    def _check_in_stream(self, event: object, message: dict[str, Any]) -> None:
        if not self.stream_sid or self._stopped or message["streamSid"] != self.stream_sid:
            raise RemoteProtocolError(f"{event} outside its stream")

    def _receive_start(self, message: dict[str, Any]) -> StreamStarted:
        if self.stream_sid:
            raise RemoteProtocolError("a second start")
        start = message["start"]
        if dict(start["mediaFormat"]) != MEDIA_FORMAT:
            raise RemoteProtocolError(f"media format not supported: {start['mediaFormat']}", UNSUPPORTED_DATA)
        sid = _string(start["streamSid"])
        if not sid or message["streamSid"] != sid:
            raise RemoteProtocolError("start without a streamSid, or with two")
        parameters = {_string(name): str(value) for name, value in (start.get("customParameters") or {}).items()}
        started = StreamStarted(sid, _string(start["callSid"]), _string(start["accountSid"]), parameters)
        self._count(message)
        self.stream_sid = sid
        self._media_head = b'{"event":"media","streamSid":%b,"media":{"payload":"' % _quoted(sid)
        return started

    def _count(self, message: dict[str, Any]) -> None:
        """Follows the sequence number: it counts every message of the stream from 1, the start (protocols.md A.2)."""
        number = _number(message.get("sequenceNumber", self.next_sequence))
        if number > self.next_sequence:
            self.messages_missed += number - self.next_sequence
        self.next_sequence = max(self.next_sequence, number + 1)

    @property
    def media_head(self) -> bytes:
        """Our media messages up to their payload; empty before the stream has started."""
        return self._media_head

    def send_media(self, ulaw: bytes) -> bytes:
        """Writes a media message.

        Args:
            ulaw: G.711 mu-law, 8000 Hz, mono, without a header; at least one byte, of any length (protocols.md A.3).

        Returns:
            The text message, UTF-8.

        Raises:
            LocalProtocolError: The stream has not started.
        """
        if not self._media_head:
            raise LocalProtocolError("nothing can be sent before the stream has started")
        return b'%b%b"}}' % (self._media_head, binascii.b2a_base64(ulaw, newline=False))

    def send_mark(self, name: str) -> bytes:
        """Writes a mark message; Twilio returns the name once everything before it has played."""
        return b'{"event":"mark","streamSid":%b,"mark":{"name":%b}}' % (self._quoted_sid(), _quoted(name))

    def send_clear(self) -> bytes:
        """Writes a clear message: Twilio empties its buffer and returns every pending mark."""
        return b'{"event":"clear","streamSid":%b}' % self._quoted_sid()

    def _quoted_sid(self) -> bytes:
        if not self.stream_sid:
            raise LocalProtocolError("nothing can be sent before the stream has started")
        return _quoted(self.stream_sid)


def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value


def _number(value: object) -> int:
    """Reads a count or a time; a string of digits, as documented, or a JSON number (protocols.md A.2)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    number = int(value)
    if not 0 <= number <= NUMBER_LIMIT:
        raise ValueError("a number out of range")
    return number


def _digit(value: object) -> str:
    digit = _string(value)
    if len(digit) != 1 or digit not in "0123456789*#ABCD":
        raise ValueError("not a key of a telephone")
    return digit
