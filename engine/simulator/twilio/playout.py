"""Twilio's playout buffer: what the caller hears of the audio that a server sends, and when.

Owns the byte-exact account of one stream's playout: audio plays in arrival order, continuously, 8 bytes of mu-law per
millisecond (protocols.md A.3), from the moment it starts until the buffer is dry. It refuses times that run backwards.
It reads no clock and does no I/O: every method takes `now`, in seconds.

What always holds: every byte received is exactly once played, flushed by `clear`, refused at the limit, or still
buffered; marks come back in the order in which they arrived.

Twilio does not document the size of its buffer (protocols.md A.3) nor the order of flushed marks (A.3, open question).
Here the buffer holds ten minutes, and `clear` returns the pending marks oldest first, before any mark that arrives
later.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from engine.simulator.record import ULAW_BYTES_PER_S, Chunk, Gap

# Longer than any answer, short enough that a server without brakes cannot exhaust the machine: 4.8 MB.
DEFAULT_LIMIT_MS = 600_000
# A pause longer than this is a new talk spurt, not an underrun.
UNDERRUN_WINDOW_S = 1.0
# Times are floats of about 1e6 seconds, whose steps are 1e-6 bytes; a byte is over when all but a rounding error of it
# has played.
_ROUNDING_BYTES = 1e-4
_SAMPLE_MS = 1000 / ULAW_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class MarkDue:
    """A mark that goes back to the server.

    Attributes:
        at_s: When everything before it had played, or when it was flushed.
        name: The mark's name as the server sent it.
        flushed: `clear` returned it: the audio before it was not heard in full.
    """

    at_s: float
    name: str
    flushed: bool = False


@dataclass(slots=True)
class Playout:
    """What happened in the buffer since the last look.

    Attributes:
        played: Audio that has played, in order.
        marks: Marks due, in order.
        gaps: Gaps that ended.
        depth: Time and buffered milliseconds around each change.
    """

    played: list[Chunk] = field(default_factory=list)
    marks: list[MarkDue] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    depth: list[tuple[float, float]] = field(default_factory=list)


class PlayoutBuffer:
    """The audio that waits to be played to the caller of one stream."""

    def __init__(self, *, playout_start_ms: float = 0.0, limit_ms: float = DEFAULT_LIMIT_MS) -> None:
        """Makes an empty buffer.

        Args:
            playout_start_ms: How long audio waits before it starts to play when the buffer was dry.
            limit_ms: The most that it holds; what arrives beyond is counted in `surplus_bytes` and lost.
        """
        self.playout_start_ms = playout_start_ms
        self._limit_bytes = int(limit_ms * ULAW_BYTES_PER_S / 1000)
        # Whole payloads that have not played to their end.
        self._queue: deque[bytes] = deque()
        # Bytes of the queue's first payload that have played.
        self._head_bytes = 0
        self._buffered_bytes = 0
        # The talk spurt being played: when it began, and how many of its bytes are over.
        self._spurt_at_s: float | None = None
        self._spurt_bytes = 0
        # Marks that wait, each with the byte of the spurt at which it is due.
        self._marks: deque[tuple[int, str]] = deque()
        # Where in the spurt the latest returned mark stood.
        self._marked_bytes = 0
        # When the buffer last ran dry by itself, and whether a mark stood there or has come since.
        self._dry_at_s: float | None = None
        self._dry_after_mark = False
        self._now_s = -math.inf
        self._news = Playout()
        self.received_bytes = 0
        self.played_bytes = 0
        self.flushed_bytes = 0
        self.surplus_bytes = 0

    def receive(self, now: float, ulaw: bytes) -> None:
        """Takes one media payload.

        Args:
            now: The time of its arrival, in seconds.
            ulaw: Mu-law, 8000 Hz, mono, of any length.
        """
        self._play_until(now)
        self.received_bytes += len(ulaw)
        kept = ulaw[: self._limit_bytes - self._buffered_bytes]
        self.surplus_bytes += len(ulaw) - len(kept)
        if not kept:
            return
        if self._spurt_at_s is None:
            self._begin_spurt(now)
        self._note_depth(now)
        self._queue.append(kept)
        self._buffered_bytes += len(kept)
        self._note_depth(now)

    def mark(self, now: float, name: str) -> None:
        """Takes a mark: due when everything before it has played, at once if nothing is buffered."""
        self._play_until(now)
        if self._spurt_at_s is None:
            self._dry_after_mark = True
            self._news.marks.append(MarkDue(now, name))
        else:
            self._marks.append((self._spurt_bytes + self._buffered_bytes, name))

    def clear(self, now: float) -> None:
        """Throws away what has not played and returns every pending mark, oldest first."""
        self._play_until(now)
        if self._spurt_at_s is not None:
            self._note_depth(now)
        self.flushed_bytes += self._buffered_bytes
        self._queue.clear()
        self._head_bytes = self._buffered_bytes = 0
        self._news.marks.extend(MarkDue(now, name, flushed=True) for _, name in self._marks)
        self._marks.clear()
        self._spurt_at_s = None
        self._dry_at_s = None  # the server wanted this silence: what follows is no underrun
        self._news.depth.append((now, 0.0))

    def advance(self, now: float) -> Playout:
        """Plays until `now` and hands over all that happened since the last call."""
        self._play_until(now)
        news, self._news = self._news, Playout()
        return news

    def next_due(self) -> float | None:
        """Says when a mark falls due next, or the buffer runs dry; None if nothing is playing."""
        if self._spurt_at_s is None:
            return None
        position = self._marks[0][0] if self._marks else self._spurt_bytes + self._buffered_bytes
        return self._spurt_at_s + position / ULAW_BYTES_PER_S

    def depth_ms(self, now: float) -> float:
        """Says how many milliseconds of audio wait at `now`, without changing anything."""
        if self._spurt_at_s is None:
            return 0.0
        over = (now - self._spurt_at_s) * ULAW_BYTES_PER_S - self._spurt_bytes
        return min(max(self._buffered_bytes - max(over, 0.0), 0.0), self._buffered_bytes) * 1000 / ULAW_BYTES_PER_S

    @property
    def heard_ms(self) -> float:
        """Milliseconds played since the stream began."""
        return self.played_bytes * 1000 / ULAW_BYTES_PER_S

    @property
    def buffered_bytes(self) -> int:
        """Bytes that had not played at the last look."""
        return self._buffered_bytes

    @property
    def pending_marks(self) -> int:
        """Marks that wait for the audio before them."""
        return len(self._marks)

    def _begin_spurt(self, now: float) -> None:
        begins_s = now + self.playout_start_ms / 1000
        if self._dry_at_s is not None and now - self._dry_at_s <= UNDERRUN_WINDOW_S:
            gap_ms = (begins_s - self._dry_at_s) * 1000
            if gap_ms >= _SAMPLE_MS:
                self._news.gaps.append(Gap(self._dry_at_s, gap_ms, self._dry_after_mark))
        self._spurt_at_s = begins_s
        self._spurt_bytes = self._marked_bytes = 0

    def _play_until(self, now: float) -> None:
        if now < self._now_s:
            raise ValueError(f"time runs backwards: {now} after {self._now_s}")
        self._now_s = now
        if self._spurt_at_s is None:
            return
        position = math.floor((now - self._spurt_at_s) * ULAW_BYTES_PER_S + _ROUNDING_BYTES)
        self._play_bytes(min(position - self._spurt_bytes, self._buffered_bytes))
        self._return_marks()
        if not self._buffered_bytes:
            self._run_dry()

    def _play_bytes(self, due: int) -> None:
        while due > 0:
            head = self._queue[0]
            taken = head[self._head_bytes : self._head_bytes + due]
            self._news.played.append(Chunk(self._time_of(self._spurt_bytes), taken))
            self._head_bytes += len(taken)
            if self._head_bytes == len(head):
                self._queue.popleft()
                self._head_bytes = 0
            due -= len(taken)
            self._spurt_bytes += len(taken)
            self._buffered_bytes -= len(taken)
            self.played_bytes += len(taken)

    def _return_marks(self) -> None:
        while self._marks and self._marks[0][0] <= self._spurt_bytes:
            position, name = self._marks.popleft()
            self._news.marks.append(MarkDue(self._time_of(position), name))
            self._marked_bytes = position

    def _run_dry(self) -> None:
        self._dry_at_s = self._time_of(self._spurt_bytes)
        self._dry_after_mark = self._marked_bytes == self._spurt_bytes
        self._news.depth.append((self._dry_at_s, 0.0))
        self._spurt_at_s = None

    def _note_depth(self, now: float) -> None:
        self._news.depth.append((now, self.depth_ms(now)))

    def _time_of(self, position: int) -> float:
        assert self._spurt_at_s is not None
        return self._spurt_at_s + position / ULAW_BYTES_PER_S
