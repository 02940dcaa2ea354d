"""Twilio's playout as the tests of the call core see it: an account of its own, byte for byte.

Knows nothing of the engine. Orders travel for a constant time, are taken in order, and audio plays at 8 bytes a
millisecond, from ``start_s`` after it arrived at an empty buffer. Marks come back when everything before them has
played, at once if nothing is buffered; a clear empties the buffer and returns every pending mark (protocols.md A.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import floor

BYTES_PER_S = 8000
# Arrivals that meet the end of the buffer to the microsecond find it playing: floating-point dust is no gap.
DUST_S = 1e-6


class TwilioEar:
    """What one caller hears.

    Args:
        there_s: How long orders travel to Twilio.
        back_s: How long marks travel back.
        start_s: How long audio waits before it plays when the buffer was empty.
    """

    def __init__(self, there_s: float = 0.0, back_s: float = 0.0, start_s: float = 0.0) -> None:
        self.there_s, self.back_s, self.start_s = there_s, back_s, start_s
        self._flying: deque[tuple[float, str, object]] = deque()
        self._buffer = bytearray()
        # when the byte `_spurt_base` began to play; None while nothing plays
        self._spurt_at: float | None = None
        self._spurt_base = 0
        self._received = self._gone = 0
        self._marks: deque[tuple[int, str]] = deque()
        # all that the caller has heard
        self.heard = bytearray()
        # (time the engine gets it, name)
        self.returned: deque[tuple[float, str]] = deque()
        # (start, end) of each pause between two pieces that no clear explains
        self.gaps: list[tuple[float, float]] = []
        self.deepest_ms = 0.0
        self._dry_at: float | None = None

    # ------------------------------------------------------------------------------------------- what the engine sends

    def media(self, now: float, ulaw: bytes) -> None:
        self._flying.append((now + self.there_s, "media", ulaw))

    def mark(self, now: float, name: str) -> None:
        self._flying.append((now + self.there_s, "mark", name))

    def clear(self, now: float) -> None:
        self._flying.append((now + self.there_s, "clear", None))

    def look(self, now: float, look: Callable[[], None]) -> None:
        """Calls back at the moment at which an order sent now takes effect, just before it would."""
        self._flying.append((now + self.there_s, "look", look))

    # -------------------------------------------------------------------------------------------------- what happens

    def advance(self, now: float) -> None:
        """Lets everything happen that has happened by ``now``."""
        while self._flying and self._flying[0][0] <= now + 1e-9:
            at, kind, what = self._flying.popleft()
            self._play(at)
            if kind == "media":
                self._take(at, what)
            elif kind == "mark":
                self._take_mark(at, what)
            elif kind == "clear":
                self._flush(at)
            else:
                what()
        self._play(now)

    def depth_ms(self) -> float:
        return len(self._buffer) * 1000 / BYTES_PER_S

    def next_returned_at(self) -> float | None:
        """When the engine gets the next mark, as far as that is decided."""
        if self.returned:
            return self.returned[0][0]
        if self._marks and self._spurt_at is not None:
            return self._played_at(self._marks[0][0]) + self.back_s
        return None

    def next_arrival_at(self) -> float | None:
        return self._flying[0][0] if self._flying else None

    def take_returned(self, now: float) -> list[str]:
        names = []
        while self.returned and self.returned[0][0] <= now + 1e-9:
            names.append(self.returned.popleft()[1])
        return names

    def _played_at(self, position: int) -> float:
        assert self._spurt_at is not None
        return self._spurt_at + (position - self._spurt_base) / BYTES_PER_S

    def _play(self, now: float) -> None:
        if self._spurt_at is None:
            return
        over = self._spurt_base + floor((now - self._spurt_at) * BYTES_PER_S + 1e-3)
        count = max(0, min(over - self._gone, len(self._buffer)))
        self.heard += self._buffer[:count]
        del self._buffer[:count]
        self._gone += count
        while self._marks and self._marks[0][0] <= self._gone:
            position, name = self._marks.popleft()
            self.returned.append((self._played_at(position) + self.back_s, name))
        end = self._played_at(self._gone)
        if not self._buffer and now > end + DUST_S:
            self._spurt_at, self._dry_at = None, end

    def _take(self, now: float, ulaw: object) -> None:
        assert isinstance(ulaw, bytes)
        if self._spurt_at is None:
            self._spurt_at, self._spurt_base = now + self.start_s, self._gone
            if self._dry_at is not None:
                self.gaps.append((self._dry_at, self._spurt_at))
        self._buffer += ulaw
        self._received += len(ulaw)
        self.deepest_ms = max(self.deepest_ms, self.depth_ms())

    def _take_mark(self, now: float, name: object) -> None:
        assert isinstance(name, str)
        if self._buffer:
            self._marks.append((self._received, name))
        else:
            self.returned.append((now + self.back_s, name))

    def _flush(self, now: float) -> None:
        self._gone += len(self._buffer)
        self._buffer.clear()
        self.returned.extend((now + self.back_s, name) for _, name in self._marks)
        self._marks.clear()
        self._spurt_at = self._dry_at = None
