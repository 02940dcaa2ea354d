"""What the engine may send to a carrier (protocols.md A.3): three events, exactly these fields; all else is a breach.

Most messages differ from the one before in their payload only. The text around the payload is learnt from a message
that passed the whole check; later messages with that very text around valid base64 need no JSON parser, save every
sixteenth, which is checked in full all the same.
"""

import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass

_FULL_CHECK_EVERY = 16


@dataclass(frozen=True)
class Mark:
    """A request to be told when everything before has played."""

    name: str


@dataclass(frozen=True)
class Clear:
    """A request to drop what is buffered."""


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Object hook refusing a key given twice; raises ValueError."""
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key occurs twice")
    return keys


class CarrierMessages:
    """Checks the messages of one stream."""

    def __init__(self, stream_sid: str, breach: Callable[[str, bytes], None], *, strict: bool = False) -> None:
        self._stream_sid = stream_sid
        self._breach = breach
        # Messages after one checked in full that may be compared only.
        self._trusted = 0 if strict else _FULL_CHECK_EVERY - 1
        # Text around the payload of a media message that passed the full check.
        self._prefix, self._suffix = b"\0", b"\0"
        self._countdown = 0

    def read(self, text: bytes) -> bytes | Mark | Clear | None:
        """The order in a message, media as mu-law; None for one that is no valid order (the breach has been reported)."""
        if self._countdown and text.startswith(self._prefix) and text.endswith(self._suffix):
            self._countdown -= 1
            try:
                ulaw = binascii.a2b_base64(text[len(self._prefix) : -len(self._suffix)], strict_mode=True)
            except binascii.Error:
                ulaw = b""
            if ulaw:
                return ulaw
        return self._read_in_full(text)

    @property
    def around(self) -> tuple[bytes, bytes]:
        """Text before and after the payload of audio, as learnt."""
        return self._prefix, self._suffix

    def grant(self) -> int:
        """Give away how many messages may be compared only; the next one read here is checked in full."""
        granted, self._countdown = self._countdown, 0
        return granted

    def _read_in_full(self, text: bytes) -> bytes | Mark | Clear | None:
        try:
            message = json.loads(text.decode(), object_pairs_hook=unique_keys)
        except ValueError as error:
            self._breach(f"carrier: not JSON ({type(error).__name__})", text)
            return None
        if not isinstance(message, dict):
            self._breach("carrier: not an object", text)
            return None
        if message.get("streamSid") != self._stream_sid:
            self._breach("carrier: wrong streamSid", text)
            return None
        event, keys = message.get("event"), message.keys()
        if event == "clear" and keys == {"event", "streamSid"}:
            return Clear()
        body = message.get(event) if isinstance(event, str) else None
        if keys != {"event", "streamSid", event} or not isinstance(body, dict):
            self._breach("carrier: unknown event or fields", text)
            return None
        return self._body(event, body, text)

    def _body(self, event: object, body: dict[str, object], text: bytes) -> bytes | Mark | None:
        if event == "mark" and body.keys() == {"name"} and isinstance(body["name"], str) and body["name"]:
            return Mark(body["name"])
        payload = body.get("payload")
        if event != "media" or body.keys() != {"payload"} or not isinstance(payload, str):
            self._breach("carrier: unknown event or fields", text)
            return None
        try:
            ulaw = binascii.a2b_base64(payload.encode(), strict_mode=True)
        except (binascii.Error, UnicodeEncodeError):
            self._breach("carrier: payload not base64", text)
            return None
        if not ulaw:
            self._breach("carrier: payload empty", text)
            return None
        self._learn(text, payload.encode())
        return ulaw

    def _learn(self, text: bytes, payload: bytes) -> None:
        start = text.find(payload)
        if start > 0 and start + len(payload) < len(text):
            self._prefix, self._suffix = text[:start], text[start + len(payload) :]
            self._countdown = self._trusted
