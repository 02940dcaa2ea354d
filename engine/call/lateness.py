"""How late things were: a histogram that never grows.

Owns counts in buckets that are an eighth of a power of two wide, from one microsecond to more than an hour; a
percentile is too large by at most 12.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, frexp
from typing import Final

_OCTAVES: Final = 32
_STEPS: Final = 8


class Lateness:
    """Durations of one kind, in seconds."""

    def __init__(self) -> None:
        self._buckets = [0] * (_OCTAVES * _STEPS)
        self.count = 0
        self.worst_s = 0.0

    @classmethod
    def from_counts(cls, buckets: Sequence[int], worst_s: float) -> Lateness:
        """Makes one of counts that were taken elsewhere, in buckets of the same widths (``codec_c/pacer.h``)."""
        lateness = cls()
        lateness._buckets = list(buckets)
        lateness.count = sum(buckets)
        lateness.worst_s = worst_s
        return lateness

    def add(self, seconds: float) -> None:
        """Counts one duration; negative ones count as none."""
        self.count += 1
        self.worst_s = max(self.worst_s, seconds)
        if seconds < 0.000_001:
            self._buckets[0] += 1
            return
        fraction, exponent = frexp(seconds * 1_000_000)  # 0.5 <= fraction < 1, and one microsecond is 0.5 * 2 ** 1
        index = (exponent - 1) * _STEPS + int((fraction - 0.5) * 2 * _STEPS)
        self._buckets[min(index, len(self._buckets) - 1)] += 1

    def merge(self, other: Lateness) -> None:
        """Adds all of another histogram's durations."""
        self.count += other.count
        self.worst_s = max(self.worst_s, other.worst_s)
        for index, count in enumerate(other._buckets):
            self._buckets[index] += count

    def percentile_s(self, percent: float) -> float:
        """The duration that ``percent`` of the counted ones do not exceed, rounded up to its bucket's end."""
        wanted = ceil(self.count * percent / 100)
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(self.worst_s, _upper_end_s(index))
        return 0.0


def _upper_end_s(index: int) -> float:
    octave, step = divmod(index, _STEPS)
    return float((_STEPS + step + 1) << octave) / _STEPS / 1_000_000
