"""The frame pacer: turns bursts of audio into frames that leave on an even schedule.

Owns the queue of audio for one call and the model of Twilio's playout buffer: Twilio plays what it is sent in order,
at 8 bytes a millisecond, from the moment its buffer stops being empty (protocols.md A.3). The next frame is due when
that buffer has run down to ``lead_ms``. So the buffer always holds between ``lead_ms`` and ``lead_ms`` plus one frame,
enough to ride out a stall of ours, little enough that a caller who interrupts is not talked over. Of frames longer
than 38 ms the next is due later, so that the buffer never holds more than ``lead_ms`` plus 40 ms.

The schedule keeps its origin through a talk spurt: a frame that leaves late does not move the ones behind it, overdue
frames leave at once, and lateness is counted. Only when Twilio's buffer must have run dry does the schedule start
anew, because playout did; then a whole lead leaves at once. Always holds: frames leave in the order the audio came,
every byte once; less audio than a frame holds leaves only at the end of a piece that is complete, filled with silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

BYTES_PER_MS: Final = 8  # G.711, 8000 Hz, one byte a sample
SILENCE: Final = b"\xff"  # mu-law 0xFF decodes to 0 (protocols.md F)
# The longest answer a provider may run ahead of its playing. OpenAI's longest response (4096 tokens) is minutes.
QUEUE_LIMIT_MS: Final = 15 * 60 * 1000
# How much more than the lead Twilio's buffer may hold: 40 ms, less what the model cannot see of it, two grid steps.
ABOVE_LEAD_MS: Final = 38
# Dues lie on this grid, the frame clock's, so that they are served by the tick they name and not by the one after.
GRID_S: Final = 0.001
# A due is met if it lies at most this far ahead: floating-point dust, and a clock that woke us a hair early.
_EARLY_S: Final = 0.00005


class PacedFrame(NamedTuple):
    """A frame that leaves now.

    Attributes:
        ulaw: What to send: ``frame_ms * 8`` bytes of mu-law.
        audio_bytes: How many of them are queued audio; the rest is silence that fills the frame.
        plays_at: When Twilio will begin to play it if it takes no time on its way, in seconds.
        late_s: How long after its due time it leaves, in seconds.
        starts_spurt: Whether playout was empty before it: the first frame, or the first after a gap.
    """

    ulaw: bytes
    audio_bytes: int
    plays_at: float
    late_s: float
    starts_spurt: bool


@dataclass(slots=True)
class PacerCounts:
    """What happened since the call began."""

    frames: int = 0
    # frames that left later than one frame's length after their due time
    late_frames: int = 0
    # times Twilio's buffer ran dry, by the model, although a frame was ready
    underruns: int = 0
    # silence the caller heard in those, by the model
    underrun_s: float = 0.0
    # audio refused because the queue was full
    refused_bytes: int = 0


class FramePacer:
    """Frames for one call.

    Args:
        frame_ms: Length of a frame, 10 to 200 ms.
        lead_ms: How much Twilio's buffer holds when the next frame leaves, 0 or more ms; less before long frames.
    """

    def __init__(self, frame_ms: int = 20, lead_ms: int = 200) -> None:
        if not 10 <= frame_ms <= 200:
            raise ValueError("frame_ms must lie between 10 and 200")
        if lead_ms < 0:
            raise ValueError("lead_ms must not be negative")
        self._frame_bytes = frame_ms * BYTES_PER_MS
        self._frame_s = frame_ms / 1000
        # what Twilio's buffer has run down to when the next frame is due
        self._lead_s = max(0, min(lead_ms, lead_ms + ABOVE_LEAD_MS - frame_ms)) / 1000
        # audio that has not left yet
        self._queue = bytearray()
        # how much of the queue nothing more belongs to: its last, partial frame may leave as it is
        self._complete_bytes = 0
        # when Twilio's buffer runs dry, by the model
        self._dry_at = float("-inf")
        # since when a frame has been ready to leave; no frame is due before
        self._ready_at = float("-inf")
        self.counts = PacerCounts()

    @property
    def queued_bytes(self) -> int:
        """Audio that has not left yet."""
        return len(self._queue)

    def buffered_s(self, now: float) -> float:
        """How much Twilio still has to play, by the model, in seconds."""
        return max(0.0, self._dry_at - now)

    def push(self, ulaw: bytes, now: float) -> int:
        """Queues audio.

        Args:
            ulaw: G.711 mu-law, 8000 Hz, mono, any length.
            now: The time, in seconds.

        Returns:
            How many of the bytes were taken; fewer than given only when the queue is full, and then counted.
        """
        taken = min(len(ulaw), QUEUE_LIMIT_MS * BYTES_PER_MS - len(self._queue))
        if not self._is_ready():
            self._ready_at = now
        self._queue += ulaw if taken == len(ulaw) else ulaw[:taken]
        self.counts.refused_bytes += len(ulaw) - taken
        return taken

    def complete(self, now: float) -> None:
        """Says that nothing follows for now: the last, partial frame may leave, filled with silence."""
        if not self._is_ready():
            self._ready_at = now
        self._complete_bytes = len(self._queue)

    def _is_ready(self) -> bool:
        return len(self._queue) >= self._frame_bytes or self._complete_bytes > 0

    def clear(self, now: float) -> int:
        """Drops what is queued, and takes Twilio's buffer for empty, as after a ``clear``.

        Returns:
            How many bytes were dropped from the queue.
        """
        dropped = len(self._queue)
        self._queue.clear()
        self._dry_at = min(self._dry_at, _on_grid(now))
        self._complete_bytes = 0
        return dropped

    def due_at(self) -> float | None:
        """When the next frame is due, in seconds; None when there is none."""
        return max(self._dry_at - self._lead_s, self._ready_at) if self._is_ready() else None

    def take(self, now: float) -> PacedFrame | None:
        """Returns the next frame if it is due; call again until None."""
        due_at = self.due_at()
        if due_at is None or due_at > now + _EARLY_S:
            return None
        audio = self._pop_audio()
        # within the grid's step the model cannot tell dry from not dry
        starts_spurt = now - self._dry_at > GRID_S
        plays_at = max(now, self._dry_at)
        if starts_spurt:
            self._restart(now)
        self._dry_at += self._frame_s
        late_s = max(0.0, now - due_at)
        self.counts.frames += 1
        if late_s > self._frame_s:
            self.counts.late_frames += 1
        filled = audio if len(audio) == self._frame_bytes else audio.ljust(self._frame_bytes, SILENCE)
        return PacedFrame(filled, len(audio), plays_at, late_s, starts_spurt)

    def _pop_audio(self) -> bytes:
        """Takes a frame's audio off the queue; what follows a partial frame is not complete, and waits for the rest."""
        is_whole = len(self._queue) >= self._frame_bytes
        length = self._frame_bytes if is_whole else self._complete_bytes
        audio = bytes(self._queue[:length])
        del self._queue[:length]
        self._complete_bytes = max(0, self._complete_bytes - length)
        return audio

    def _restart(self, now: float) -> None:
        """Begins the schedule anew, on the grid."""
        # A frame was ready before the buffer ran dry: we were too slow, and the caller heard the gap.
        if self._ready_at < self._dry_at:
            self.counts.underruns += 1
            self.counts.underrun_s += now - self._dry_at
        self._dry_at = _on_grid(now)
        # the lead that follows is due at once, not late
        self._ready_at = now


def _on_grid(now: float) -> float:
    """Rounds down to the frame clock's grid."""
    return (now + _EARLY_S) // GRID_S * GRID_S
