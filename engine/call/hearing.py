"""The caller's voice on its way to the provider, made whole.

Owns the clock of the incoming audio. Twilio stamps each piece with the milliseconds since the stream began; where
pieces are missing (Twilio drops audio when its way to us is congested, warning 31930, protocols.md A.4) silence takes
their place, so that the provider's voice detection and every position counted in audio stay true. Repair is bounded:
of a longer gap only the last part is filled. Pieces that overlap what came before pass unchanged and are counted; one
that lies far back begins the clock anew, since a single wrong stamp must not end all repair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.call.pacer import BYTES_PER_MS, SILENCE

# Less than half a frame is Twilio's own jitter of stamps: documented examples start at 25 ms (protocols.md A.2).
TOLERANCE_MS: Final = 10
# A longer silence says nothing more to a voice detector, and must not cost memory.
REPAIR_LIMIT_MS: Final = 3000


@dataclass(slots=True)
class HearingCounts:
    """What happened since the call began."""

    gaps: int = 0
    # silence put in, and gap left unfilled because it was too long
    repaired_ms: int = 0
    skipped_ms: int = 0
    overlaps: int = 0


class Hearing:
    """The incoming audio of one call."""

    def __init__(self) -> None:
        # The stamp, in bytes, that the next piece has if nothing is missing; None before the first. Whoever carries audio
        # past this object moves it on.
        self.expected_bytes: int | None = None
        self.counts = HearingCounts()

    def missing_before(self, timestamp_ms: int, n_bytes: int) -> bytes:
        """Accounts for a piece of audio.

        Args:
            timestamp_ms: Its stamp.
            n_bytes: Its length in mu-law bytes at 8000 Hz.

        Returns:
            The silence that must be heard before it; mostly empty.
        """
        start_bytes = timestamp_ms * BYTES_PER_MS
        expected_bytes = start_bytes if self.expected_bytes is None else self.expected_bytes
        gap_bytes = start_bytes - expected_bytes
        if abs(gap_bytes) < TOLERANCE_MS * BYTES_PER_MS:
            # small differences are not followed, or they would add up unseen
            self.expected_bytes = expected_bytes + n_bytes
            return b""
        if gap_bytes > 0:
            self.expected_bytes = start_bytes + n_bytes
            return self._repair(gap_bytes)
        self.counts.overlaps += 1
        is_far_back = gap_bytes < -REPAIR_LIMIT_MS * BYTES_PER_MS
        self.expected_bytes = start_bytes + n_bytes if is_far_back else max(expected_bytes, start_bytes + n_bytes)
        return b""

    def _repair(self, gap_bytes: int) -> bytes:
        filled_bytes = min(gap_bytes, REPAIR_LIMIT_MS * BYTES_PER_MS)
        self.counts.gaps += 1
        self.counts.repaired_ms += filled_bytes // BYTES_PER_MS
        self.counts.skipped_ms += (gap_bytes - filled_bytes) // BYTES_PER_MS
        return SILENCE * filled_bytes
