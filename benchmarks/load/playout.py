"""The carrier's playout buffer, to the byte: what has been heard, how deep the buffer is, when it ran dry.

Audio plays at 8 mu-law bytes per millisecond from the moment it arrives in an empty buffer, in order of arrival. A mark
comes back when everything before it has played, at once if nothing is buffered; `clear` empties the buffer and brings
every pending mark back (protocols.md A.3). Sans-IO: time is the argument `now` (monotonic seconds).
"""

from collections import deque

_BYTES_PER_S = 8000.0


class Playout:
    """Buffer of one call; positions are the caller's own account of the downward audio, in samples."""

    def __init__(self) -> None:
        # (start of playing, position, samples), the one playing first.
        self._chunks: deque[tuple[float, int, int]] = deque()
        # (due, name), in order.
        self._marks: deque[tuple[float, str]] = deque()
        self._heard_to = 0
        # When the buffer runs, or ran, dry.
        self.ends_at = 0.0
        # True from the first audio after a start or a clear on: only then can the buffer run dry.
        self.running = False

    def add(self, now: float, position: int, samples: int) -> float:
        """Buffer audio; gives the seconds for which the buffer had been dry (0.0 if it was not, or had been cleared)."""
        ends_at, chunks = self.ends_at, self._chunks
        if chunks and chunks[0][0] + chunks[0][2] / _BYTES_PER_S <= now:
            self._retire(now)
        if now > ends_at:
            dry_s = now - ends_at if self.running else 0.0
            start = now
        else:
            dry_s, start = 0.0, ends_at
        chunks.append((start, position, samples))
        self.ends_at = start + samples / _BYTES_PER_S
        self.running = True
        return dry_s

    def _retire(self, now: float) -> None:
        chunks = self._chunks
        while chunks:
            start, position, samples = chunks[0]
            if start + samples / _BYTES_PER_S > now:
                return
            self._heard_to = position + samples
            chunks.popleft()

    def depth_ms(self, now: float) -> float:
        """Milliseconds of audio waiting."""
        return max(0.0, (self.ends_at - now) * 1000)

    def heard_to(self, now: float) -> int:
        """Position up to which the caller has heard."""
        self._retire(now)
        if not self._chunks:
            return self._heard_to
        start, position, samples = self._chunks[0]
        return position + min(samples, max(0, int((now - start) * _BYTES_PER_S)))

    def mark(self, now: float, name: str) -> float:
        """Keep a mark; gives when it is due."""
        due = max(now, self.ends_at)
        self._marks.append((due, name))
        return due

    def due_marks(self, now: float) -> list[str]:
        """Names of marks whose audio has played."""
        names = []
        while self._marks and self._marks[0][0] <= now:
            names.append(self._marks.popleft()[1])
        return names

    def clear(self, now: float) -> list[str]:
        """Drop everything buffered; gives the marks that come back at once."""
        self._heard_to = self.heard_to(now)
        self._chunks.clear()
        self.ends_at = now
        self.running = False
        names = [name for _, name in self._marks]
        self._marks.clear()
        return names
