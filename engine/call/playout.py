"""One call's way to the caller's ear: pacer and ledger, kept in step.

Owns the order in which audio, marks and clears go to Twilio. What :meth:`Playout.advance` and
:meth:`Playout.interrupt` return is to be sent at once and in that order; nothing else may be sent to play.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from engine.call.ledger import HeardItem, PlaybackLedger
from engine.call.pacer import Audio, FramePacer


@dataclass(frozen=True, slots=True)
class SendMedia:
    """Send this mu-law audio now; it leaves ``late_s`` seconds after its due time."""

    ulaw: bytes
    late_s: float


@dataclass(frozen=True, slots=True)
class SendMark:
    """Send a mark of this name now."""

    name: str


Order: TypeAlias = SendMedia | SendMark


@dataclass(frozen=True, slots=True)
class Interruption:
    """What an interruption by the caller does.

    Attributes:
        clear: Whether Twilio must be told to empty its buffer.
        items: The items cut off, in playing order, with the milliseconds heard of each.
    """

    clear: bool
    items: tuple[HeardItem, ...]


class Playout:
    """What the caller hears.

    Args:
        frame_ms: Length of a frame, 10 to 200 ms.
        lead_ms: How full Twilio's buffer is kept.
    """

    def __init__(self, *, frame_ms: int = 20, lead_ms: int = 200) -> None:
        self.pacer = FramePacer(frame_ms, lead_ms)
        self.ledger = PlaybackLedger()

    def play(self, item_id: str, ulaw: Audio, now: float) -> None:
        """Queues audio of an item: G.711 mu-law, 8000 Hz, mono, any length."""
        self.ledger.queued(item_id, self.pacer.push(ulaw, now))

    def complete(self, now: float) -> None:
        """Says that the item is whole: its last, partial frame may leave."""
        self.pacer.complete(now)

    def due_at(self) -> float | None:
        """When :meth:`advance` has audio to send, in seconds; None while none waits."""
        return self.pacer.due_at()

    def advance(self, now: float) -> list[Order]:
        """Returns what is due: the slow way, where no mover sends frames by itself."""
        self._collect()  # taking a frame this way leaves out what the mover has sent before
        orders: list[Order] = self._mark_orders()
        while (frame := self.pacer.take(now)) is not None:
            filler_bytes = len(frame.ulaw) - frame.audio_bytes
            self.ledger.sent(frame.audio_bytes, filler_bytes, frame.plays_at, starts_spurt=frame.starts_spurt)
            orders.append(SendMedia(frame.ulaw, frame.late_s))
            orders += self._mark_orders()
        return orders

    def _mark_orders(self) -> list[Order]:
        name = self.take_mark() if self.pacer.mark_wanted else None
        return [] if name is None else [SendMark(name)]

    def take_mark(self) -> str | None:
        """Returns the name of a mark to send behind what has left, or None if there is nothing to mark."""
        self._collect()
        name = self.ledger.maybe_mark(at_end=self.pacer.has_ended)
        self.pacer.marked()
        return name

    def _collect(self) -> None:
        """Enters into the ledger what the mover has sent."""
        for run in self.pacer.take_runs():
            self.ledger.sent(run.audio_bytes, run.filler_bytes, run.plays_at, starts_spurt=run.starts_spurt)

    def mark_returned(self, name: str, now: float) -> None:
        """Takes a mark that Twilio returned."""
        self._collect()
        self.ledger.mark_returned(name, now)

    def is_playing(self, now: float) -> bool:
        """Whether the caller has yet to hear something."""
        self._collect()
        return self.ledger.is_playing(now)

    def interrupt(self, now: float) -> Interruption:
        """Drops everything that the caller has not heard yet.

        Call it when the caller begins to speak; a second call right after finds nothing left to cut.
        """
        clear = self.is_playing(now)
        items = self.ledger.interrupt(now)
        self.pacer.clear(now)
        return Interruption(clear, items)
