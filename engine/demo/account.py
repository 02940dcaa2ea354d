"""What happened in a demonstrated call, told by everyone who was there.

Owns the shape in which the pages and the figures get the facts; measures and draws nothing. Times are seconds of one
clock (`trio.current_time`), absolute, so that both simulators' observations can be subtracted from each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.simulator.record import CallRecord


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that the caller spoke: when the telephone sent its first and its last frame."""

    text: str
    started_at_s: float
    ended_at_s: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One spoken item as the provider sent it, faster than real time.

    Attributes:
        text: The whole item's words, heard or not.
        sent_at_s: When its first audio delta was sent.
        finished_at_s: When its last audio delta was sent.
        audio: Everything that was sent for it, 8000 Hz mono mu-law.
    """

    item_id: str
    text: str
    sent_at_s: float
    finished_at_s: float
    audio: bytes

    @property
    def audio_ms(self) -> float:
        """How much audio was sent for it."""
        return len(self.audio) / 8


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """`conversation.item.truncate` as the provider received it: how much the engine says was heard."""

    item_id: str
    at_s: float
    audio_end_ms: int


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """A function call: when the provider asked for it, and when the engine's output came back (None: never)."""

    name: str
    arguments: str
    output: str | None
    called_at_s: float
    answered_at_s: float | None


@dataclass(frozen=True, kw_only=True)
class ProviderAccount:
    """The simulated provider's side of the call.

    Attributes:
        appended: Caller audio as it arrived: time and mu-law bytes of each append.
        speech_started_at_s: When each `speech_started` was sent.
        errors: What the engine did wrong in the provider's eyes.
        closed_at_s: When the socket was seen to close; None if it never was.
    """

    opened_at_s: float
    closed_at_s: float | None
    appended: tuple[tuple[float, bytes], ...]
    speech_started_at_s: tuple[float, ...]
    replies: tuple[Reply, ...]
    truncations: tuple[Truncation, ...]
    tool_uses: tuple[ToolUse, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Account:
    """The whole call.

    Attributes:
        lead_ms: How full the engine was told to keep Twilio's buffer.
        engine_summary: What the engine logged at the call's end; None if it said nothing.
        ended: Whether everything was over in time: both sockets closed and the service stopped with status 0.
    """

    record: CallRecord
    provider: ProviderAccount
    lines: tuple[Line, ...]
    lead_ms: float
    engine_summary: Mapping[str, object] | None
    ended: bool
