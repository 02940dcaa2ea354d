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

The model runs in C (``codec_c/pacer.h``), where the mover's pass takes frames without a word from Python; this is its
face, and the slow way to take them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from engine._codec import ffi, lib
from engine.call.lateness import Lateness

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

# Audio that may lie in memory of C; it is read before the call returns.
Audio: TypeAlias = bytes | bytearray | memoryview

BYTES_PER_MS: Final = 8  # G.711, 8000 Hz, one byte a sample
SILENCE: Final = b"\xff"  # mu-law 0xFF decodes to 0 (protocols.md F)
# The longest answer a provider may run ahead of its playing. OpenAI's longest response (4096 tokens) is minutes.
QUEUE_LIMIT_MS: Final = 15 * 60 * 1000
# How much more than the lead Twilio's buffer may hold: 40 ms, less what the model cannot see of it, two grid steps.
ABOVE_LEAD_MS: Final = 38


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


class PacedRun(NamedTuple):
    """Frames that left one behind the other and play without a gap.

    Attributes:
        audio_bytes: How much queued audio they hold.
        filler_bytes: How much silence fills the last of them.
        plays_at: When the first begins to play, in seconds.
        starts_spurt: Whether playout was empty before it.
    """

    audio_bytes: int
    filler_bytes: int
    plays_at: float
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
        # what Twilio's buffer has run down to when the next frame is due
        run_down_ms = max(0, min(lead_ms, lead_ms + ABOVE_LEAD_MS - frame_ms))
        self._state = ffi.gc(lib.pacer_new(frame_ms, run_down_ms / 1000), lib.pacer_free)
        if not self._state:
            raise MemoryError
        self._frame_bytes = frame_ms * BYTES_PER_MS
        # where the slow way puts a frame
        self._ulaw = ffi.new("char[]", self._frame_bytes)
        self._frame = ffi.new("struct paced_frame *")

    @property
    def state(self) -> CData:
        """The ``struct pacer``; it lives as long as this object."""
        return self._state

    @property
    def queued_bytes(self) -> int:
        """Audio that has not left yet."""
        return int(self._state.size)

    @property
    def counts(self) -> PacerCounts:
        """What happened since the call began."""
        state = self._state
        return PacerCounts(state.frames, state.late_frames, state.underruns, state.underrun_s, state.refused_bytes)

    @property
    def lateness(self) -> Lateness:
        """How late the frames left."""
        lateness = self._state.lateness
        return Lateness.from_counts(ffi.unpack(lateness.buckets, len(lateness.buckets)), lateness.worst_s)

    @property
    def has_ended(self) -> bool:
        """Whether all has left of what was complete, and nothing was queued since."""
        return bool(self._state.ended) and not self._state.size

    def buffered_s(self, now: float) -> float:
        """How much Twilio still has to play, by the model, in seconds."""
        return float(max(0.0, self._state.dry_at - now))

    def push(self, ulaw: Audio, now: float) -> int:
        """Queues audio.

        Args:
            ulaw: G.711 mu-law, 8000 Hz, mono, any length.
            now: The time, in seconds.

        Returns:
            How many of the bytes were taken; fewer than given only when the queue is full, and then counted.
        """
        source = ulaw if type(ulaw) is bytes else ffi.from_buffer(ulaw)
        return lib.pacer_push(self._state, source, len(ulaw), now)

    def complete(self, now: float) -> None:
        """Says that nothing follows for now: the last, partial frame may leave, filled with silence."""
        lib.pacer_complete(self._state, now)

    def clear(self, now: float) -> int:
        """Drops what is queued, and takes Twilio's buffer for empty, as after a ``clear``.

        Returns:
            How many bytes were dropped from the queue.
        """
        return lib.pacer_clear(self._state, now)

    def due_at(self) -> float | None:
        """When the next frame is due, in seconds; None when there is none."""
        due_at = lib.pacer_due_at(self._state)
        return None if due_at == inf else due_at

    def take(self, now: float) -> PacedFrame | None:
        """Returns the next frame if it is due; call again until None. What it accounts for, :meth:`take_runs` leaves out."""
        frame = self._frame
        if not lib.pacer_take(self._state, self._ulaw, frame, now):
            return None
        self._state.run_count = 0
        ulaw = ffi.unpack(self._ulaw, self._frame_bytes)
        return PacedFrame(ulaw, frame.audio_bytes, frame.plays_at, frame.late_s, bool(frame.starts_spurt))

    def take_runs(self) -> list[PacedRun]:
        """Returns the account of what the mover has sent since the last time."""
        state = self._state
        runs = [
            PacedRun(run.audio_bytes, run.filler_bytes, run.plays_at, bool(run.starts_spurt))
            for run in state.runs[0 : state.run_count]
        ]
        state.run_count = 0
        return runs

    @property
    def mark_wanted(self) -> bool:
        """Whether a mark should follow what has left: the first frame of a spurt, half a second, or the end."""
        return bool(lib.pacer_mark_wanted(self._state))

    def marked(self) -> None:
        """Says that a mark was sent, or is not to be."""
        lib.pacer_marked(self._state)
