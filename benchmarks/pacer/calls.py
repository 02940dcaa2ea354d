"""What a caller heard, from when frames arrived: lateness, gaps, and how soon the lead was rebuilt after a stall. Sans-IO.

The carrier's buffer is the load generator's, which shares nothing with the engine's own model of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.load.playout import Playout

_SAMPLES_PER_MS: Final = 8
# A lead is taken for rebuilt when the buffer is this close to it: the grid's step, and what cannot be seen of it.
_NEARLY_MS: Final = 2.0


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


@dataclass(kw_only=True)
class Heard:
    """What one call's caller heard, in milliseconds."""

    # each frame after the earliest schedule on which all frames of its run could have come
    late_ms: list[float] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)
    # from a stall's end until the buffer held the lead again
    rebuilt_ms: list[float] = field(default_factory=list)
    never_rebuilt: int = 0


def hear(
    arrivals: Iterable[tuple[float, int]],
    pacing: Pacing,
    *,
    measured_from: float,
    stalls_ended_at: Sequence[float] = (),
) -> Heard:
    """Play a call.

    Args:
        arrivals: (time in seconds, frames) of each send, in order.
        pacing: Frame length and lead.
        measured_from: What came before is played, but not counted.
        stalls_ended_at: When the sender could go on after each stall, in order.
    """
    heard, buffer = Heard(), Playout()
    frame_s, samples = pacing.frame_ms / 1000, pacing.frame_ms * _SAMPLES_PER_MS
    pending = list(stalls_ended_at)
    # time of each frame since the buffer was last dry, less its place in the run
    origins: list[float] = []
    counted_from = 0
    for now, frames in arrivals:
        for _ in range(frames):
            dry_s = buffer.add(now, 0, samples)
            if dry_s:
                heard.late_ms += _lateness_ms(origins, counted_from)
                origins, counted_from = [], 0
                if now >= measured_from:
                    heard.gap_ms.append(dry_s * 1000)
            counted_from += now < measured_from
            origins.append(now - len(origins) * frame_s)
        while pending and now >= pending[0] and buffer.depth_ms(now) >= pacing.lead_ms - _NEARLY_MS:
            heard.rebuilt_ms.append((now - pending.pop(0)) * 1000)
    heard.never_rebuilt = len(pending)
    heard.late_ms += _lateness_ms(origins, counted_from)
    return heard


def _lateness_ms(origins: list[float], counted_from: int) -> list[float]:
    """How late each frame of a run came, against the first of those that were counted to be on time."""
    counted = origins[counted_from:]
    earliest = min(counted, default=0.0)
    return [(origin - earliest) * 1000 for origin in counted]
