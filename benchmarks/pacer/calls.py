"""Calls that only play: a frame pacer that never runs out of audio, and a carrier's buffer that plays what leaves.

Sans-IO: the clock is passed in. Lateness is taken when a frame is really handed over, not when a pass over all calls began.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.load.playout import Playout
from engine.call.pacer import BYTES_PER_MS, FramePacer

_REFILL_MS: Final = 2000
_AUDIO: Final = bytes(range(1, 251)) * 64
# A lead is taken for rebuilt when the buffer is this close to it: the grid's step.
_NEARLY_MS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Pacing:
    """What is under test.

    Attributes:
        calls: Calls at the same time.
        seconds: How long they are measured.
        frame_ms: Length of a frame.
        lead_ms: What the carrier's buffer is kept at.
        stalls_ms: Stalls of the whole process, spread evenly over the time.
    """

    calls: int
    seconds: float
    frame_ms: int = 20
    lead_ms: int = 200
    stalls_ms: tuple[float, ...] = ()


class PlayedCall:
    """One call as its caller hears it."""

    def __init__(self, pacing: Pacing, clock: Callable[[], float]) -> None:
        self._lead_ms, self._clock = pacing.lead_ms, clock
        self._buffer = Playout()
        # Lateness is kept from here on.
        self.measured_from = float("inf")
        self.late_ms: array[float] = array("d")
        self.gap_ms: array[float] = array("d")
        # When the present stall ended, until the lead is rebuilt.
        self._stalled_until: float | None = None
        self.rebuilt_ms: array[float] = array("d")
        self.never_rebuilt = 0

    def hear(self, due_at: float, samples: int) -> None:
        """A frame leaves now that was due at `due_at`."""
        now = self._clock()
        dry_s = self._buffer.add(now, 0, samples)
        if now < self.measured_from:
            return
        self.late_ms.append(max(0.0, now - due_at) * 1000)
        if dry_s:
            self.gap_ms.append(dry_s * 1000)
        if self._stalled_until is not None and self._buffer.depth_ms(now) >= self._lead_ms - _NEARLY_MS:
            self.rebuilt_ms.append((now - self._stalled_until) * 1000)
            self._stalled_until = None

    def stalled(self, ended_at: float) -> None:
        """The process stood still until `ended_at`."""
        self.finish()
        self._stalled_until = ended_at

    def finish(self) -> None:
        """No lead will be rebuilt any more."""
        if self._stalled_until is not None:
            self.never_rebuilt += 1
            self._stalled_until = None


class PacedCall:
    """A call whose frames come from the engine's pacer."""

    def __init__(self, pacing: Pacing, clock: Callable[[], float]) -> None:
        self._pacer = FramePacer(frame_ms=pacing.frame_ms, lead_ms=pacing.lead_ms)
        self.played = PlayedCall(pacing, clock)

    def send_due(self, now: float) -> float:
        """Let everything leave that is due; gives when the next frame is."""
        pacer = self._pacer
        if pacer.queued_bytes < _REFILL_MS * BYTES_PER_MS:
            pacer.push(_AUDIO, now)
        due_at = pacer.due_at()
        while due_at is not None and (frame := pacer.take(now)) is not None:
            self.played.hear(due_at, len(frame.ulaw))
            due_at = pacer.due_at()
        assert due_at is not None  # the queue is never empty
        return due_at
