"""The way out of a session: events become JSON texts, are numbered, logged and held until the shell takes them.

Owns ids, the outgoing queue and its limit, the names of the delta events, and the log of everything sent. After a close
nothing more goes out. A client that does not read is closed with 1008 when the queue is full.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.formats import AudioFormat
from engine.simulator.openai.log import LoggedEvent, SentDelta, SentError, SessionLog, without_audio

_ALPHABET = string.ascii_letters + string.digits
_DELTA = "response.output_audio.delta"
BETA_NAMES: Final = {
    _DELTA: "response.audio.delta",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_text.delta": "response.text.delta",
}
"""The three delta names that compatible servers still use (protocols.md B.5)."""


@dataclass(frozen=True)
class Close:
    """Close the WebSocket with a code and a reason."""

    code: int
    reason: str = ""


@dataclass(frozen=True)
class Abort:
    """Drop the connection without a close frame."""


Outgoing: TypeAlias = str | Close | Abort


class Outlet:
    """Everything a session sends.

    Args:
        config: Names, limit and seed.
        log: Where it is recorded.
        index: The session's number, which makes its ids its own.
    """

    def __init__(self, config: PeerConfig, log: SessionLog, *, index: int) -> None:
        self._config = config
        self._log = log
        self._queue: deque[Outgoing] = deque()
        self._names = BETA_NAMES if config.beta_delta_names else {}
        token = random.Random(f"{config.seed}/{index}")
        self._token = "".join(token.choices(_ALPHABET, k=12))
        self._ids = 0
        # Formats of the responses that send audio, by response id.
        self._formats: dict[str, AudioFormat] = {}
        # A close or an abort is queued or taken.
        self.closing = False
        # Time of the call under way, for the log.
        self.now = 0.0
        # When the first audio delta was sent.
        self.first_delta_s: float | None = None

    def new_id(self, prefix: str) -> str:
        """Make an id such as `item_AbC...001a`, at most 32 characters."""
        self._ids += 1
        return f"{prefix}_{self._token}{self._ids:06x}"

    def note_format(self, response_id: str, audio_format: AudioFormat | None) -> None:
        """Say in which format a response's deltas are, so that the log can tell their length; None ends the response."""
        if audio_format is None:
            self._formats.pop(response_id, None)
        else:
            self._formats[response_id] = audio_format

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event, with an id of its own."""
        if self.closing:
            return
        is_delta = event["type"] == _DELTA
        whole = {"type": self._names.get(event["type"], event["type"]), "event_id": self.new_id("event")}
        whole |= {name: value for name, value in event.items() if name != "type"}
        text = json.dumps(whole)
        # Events share their items with the conversation: the log keeps what was true when they were sent.
        logged = without_audio(whole) if is_delta else json.loads(text)
        self._log.sent.add(LoggedEvent(at_s=self.now, type=whole["type"], event=logged))
        if is_delta:
            self._note_delta(event)
        self._put(text)

    def send_text(self, text: str) -> None:
        """Queue a text as it stands."""
        if not self.closing:
            self._log.sent.add(LoggedEvent(at_s=self.now, type="(text)", event={"text": text[:256]}))
            self._put(text)

    def send_error(self, refused: EventRefused, event_id: str | None) -> None:
        """Queue an `error` event; `event_id` is the client's, if its event had one."""
        error = {
            "type": refused.type,
            "code": refused.code,
            "message": refused.message,
            "param": refused.param,
            "event_id": event_id,
        }
        if not self.closing:
            entry = SentError(
                at_s=self.now, code=refused.code, message=refused.message, param=refused.param, event_id=event_id
            )
            self._log.errors.add(entry)
        self.send({"type": "error", "error": error})

    def close(self, code: int, reason: str = "") -> None:
        """Queue the end of the connection, behind everything queued before."""
        if not self.closing:
            self.closing = True
            self._queue.append(Close(code, reason))
            self._log.note_closed(self.now, "peer", code, reason)

    def abort(self) -> None:
        """End the connection now: what is still queued is lost, as it is when a server dies."""
        if not self.closing:
            self.closing = True
            self._queue.clear()
            self._queue.append(Abort())
            self._log.note_closed(self.now, "dropped")

    def take(self) -> list[Outgoing]:
        """Take everything queued."""
        taken = list(self._queue)
        self._queue.clear()
        return taken

    def _put(self, text: str) -> None:
        if len(self._queue) >= self._config.max_outgoing_events:
            self.close(1008, "the client does not read")
        else:
            self._queue.append(text)

    def _note_delta(self, event: dict[str, Any]) -> None:
        if self.first_delta_s is None:
            self.first_delta_s = self.now
        audio = base64.b64decode(event["delta"])
        self._log.deltas.add(
            SentDelta(
                at_s=self.now,
                response_id=event["response_id"],
                item_id=event["item_id"],
                audio=audio,
                duration_ms=self._formats[event["response_id"]].duration_ms(len(audio)),
            )
        )
