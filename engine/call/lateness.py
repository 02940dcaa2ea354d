"""How late things were: a histogram that never grows.

Owns counts in buckets that are a quarter of a power of two wide, from one microsecond to more than an hour; a
percentile is right to 19 %.
"""

from __future__ import annotations

from math import ceil
from typing import Final

_OCTAVES: Final = 32
_STEPS: Final = 4


class Lateness:
    """Durations of one kind, in seconds."""

    def __init__(self) -> None:
        self._buckets = [0] * (_OCTAVES * _STEPS)
        self.count = 0
        self.worst_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration; negative ones count as none."""
        self.count += 1
        if seconds > self.worst_s:
            self.worst_s = seconds
        micros = int(seconds * 4_000_000)  # quarters of a microsecond: the two lowest bits are the step
        octave = max(0, micros.bit_length() - 3)
        index = octave * _STEPS + ((micros >> octave) & 3) if micros > 0 else 0
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
    return float((_STEPS + step + 1) << octave) / 4_000_000
