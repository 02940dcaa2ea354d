"""The caller's voice on its way to the provider, made whole.

Owns the clock of the incoming audio. Twilio stamps each piece with the milliseconds since the stream began; where
pieces are missing (Twilio drops audio when its way to us is congested, warning 31930, protocols.md A.4) silence takes
their place, so that the provider's voice detection and every position counted in audio stay true. Repair is bounded:
of a longer gap only the last part is filled. Pieces that overlap what came before pass unchanged and are counted.
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
        # the stamp that the next piece has if nothing is missing
        self._expected_ms: float | None = None
        self.counts = HearingCounts()

    def missing_before(self, timestamp_ms: int, n_bytes: int) -> bytes:
        """Accounts for a piece of audio.

        Args:
            timestamp_ms: Its stamp.
            n_bytes: Its length in mu-law bytes at 8000 Hz.

        Returns:
            The silence that must be heard before it; mostly empty.
        """
        expected_ms = self._expected_ms
        length_ms = n_bytes / BYTES_PER_MS
        if expected_ms is None or abs(timestamp_ms - expected_ms) < TOLERANCE_MS:
            # small differences are not followed, or they would add up unseen
            self._expected_ms = (timestamp_ms if expected_ms is None else expected_ms) + length_ms
            return b""
        if timestamp_ms < expected_ms:
            self.counts.overlaps += 1
            self._expected_ms = max(expected_ms, timestamp_ms + length_ms)
            return b""
        return self._repair(int(timestamp_ms - expected_ms), timestamp_ms + length_ms)

    def _repair(self, gap_ms: int, next_expected_ms: float) -> bytes:
        self._expected_ms = next_expected_ms
        filled_ms = min(gap_ms, REPAIR_LIMIT_MS)
        self.counts.gaps += 1
        self.counts.repaired_ms += filled_ms
        self.counts.skipped_ms += gap_ms - filled_ms
        return SILENCE * (filled_ms * BYTES_PER_MS)
