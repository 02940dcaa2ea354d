"""What happened in one simulated session, in the service's own eyes.

Owns a bounded record: every list keeps the newest entries and counts what it dropped, totals stay exact. Times are those of
the core's `now` (the shell passes `trio.current_time()`). Audio is logged by size, not by content, but for the chunks
themselves in `appended` and `deltas`, which hold references to the bytes that were received or sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Record(Generic[T]):
    """The newest entries of one kind, and how many there have been.

    Args:
        limit: Entries kept.
    """

    def __init__(self, limit: int) -> None:
        # Newest entries, oldest first.
        self.entries: deque[T] = deque(maxlen=limit)
        # Entries ever added, those dropped included.
        self.count = 0

    def add(self, entry: T) -> None:
        """Add an entry; the oldest one goes when the record is full."""
        self.entries.append(entry)
        self.count += 1

    @property
    def dropped(self) -> int:
        """Entries that are no longer held."""
        return self.count - len(self.entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> T:
        return self.entries[index]


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """One event. The base64 audio of a delta is replaced by its length."""

    at_s: float
    type: str
    event: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AppendedAudio:
    """One `input_audio_buffer.append`: when, and the bytes in the session's input format."""

    at_s: float
    audio: bytes


@dataclass(frozen=True, kw_only=True)
class SentDelta:
    """One audio delta: when, of which item, the bytes in the response's format, and how long they sound."""

    at_s: float
    response_id: str
    item_id: str
    audio: bytes
    duration_ms: float


@dataclass(frozen=True, kw_only=True)
class CallerSpeech:
    """A turn of the caller: `began` or ended, by arrival time and by audio time (ms of audio appended)."""

    at_s: float
    began: bool
    audio_ms: int
    item_id: str


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """One `conversation.item.truncate`: what the client claims, and what the item really held when it came."""

    at_s: float
    item_id: str
    audio_end_ms: int
    item_ms: float
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class ToolOutput:
    """One `function_call_output` accepted."""

    at_s: float
    call_id: str
    name: str
    output: str


@dataclass(frozen=True, kw_only=True)
class SentError:
    """One `error` event sent."""

    at_s: float
    code: str | None
    message: str
    param: str | None
    event_id: str | None


@dataclass(kw_only=True)
class SessionLog:
    """Everything that happened in one session.

    Attributes:
        session_id: As in `session.created`.
        model: As asked for.
        opened_at_s: When the session was created.
        closed_at_s: When the connection ended; None while it lasts.
        closed_by: `client`, `peer` (by script or rule), `dropped` (no close frame) or `shutdown`.
        close_code: WebSocket close code; None without a close frame.
        close_reason: The text beside it.
        tools_not_offered: Scripted tool calls passed over because the session offers no such function.
        appended_bytes: Exact total of audio appended, in the formats it was sent in.
        received: Every client event but the appended audio, which stands in `appended` (or, refused, in `errors`).
        sent: Every event sent, in order.
        appended: Audio appended.
        deltas: Audio sent.
        speech: Begins and ends of the caller's turns.
        truncations: Truncations asked for.
        tool_outputs: Outputs of functions.
        errors: Errors sent.
    """

    limit: int = 20_000
    session_id: str = ""
    model: str = ""
    opened_at_s: float = 0.0
    closed_at_s: float | None = None
    closed_by: str | None = None
    close_code: int | None = None
    close_reason: str = ""
    tools_not_offered: int = 0
    appended_bytes: int = 0
    received: Record[LoggedEvent] = field(init=False)
    sent: Record[LoggedEvent] = field(init=False)
    appended: Record[AppendedAudio] = field(init=False)
    deltas: Record[SentDelta] = field(init=False)
    speech: Record[CallerSpeech] = field(init=False)
    truncations: Record[Truncation] = field(init=False)
    tool_outputs: Record[ToolOutput] = field(init=False)
    errors: Record[SentError] = field(init=False)

    def __post_init__(self) -> None:
        self.received = Record(self.limit)
        self.sent = Record(self.limit)
        self.appended = Record(self.limit)
        self.deltas = Record(self.limit)
        self.speech = Record(self.limit)
        self.truncations = Record(self.limit)
        self.tool_outputs = Record(self.limit)
        self.errors = Record(self.limit)

    @property
    def speech_started_s(self) -> list[float]:
        """Arrival times at which the caller was noticed to speak."""
        return [entry.at_s for entry in self.speech if entry.began]

    def sent_types(self) -> list[str]:
        """Types of the events sent and still held, in order."""
        return [entry.type for entry in self.sent]

    def item_sent_ms(self, item_id: str, until_s: float | None = None) -> float:
        """Sum the audio sent of one item, in ms, up to a time."""
        return sum(
            delta.duration_ms
            for delta in self.deltas
            if delta.item_id == item_id and (until_s is None or delta.at_s <= until_s)
        )

    def note_closed(self, now: float, by: str, code: int | None = None, reason: str = "") -> None:
        """Record the end of the connection; the first cause stands."""
        if self.closed_at_s is None:
            self.closed_at_s, self.closed_by, self.close_code, self.close_reason = now, by, code, reason


def without_audio(event: dict[str, Any]) -> dict[str, Any]:
    """Copy an audio delta with its base64 audio replaced by its length."""
    return {**event, "delta": f"<{len(event['delta'])} base64 characters>"}
