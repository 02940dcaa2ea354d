"""The three audio formats of a session, and what a millisecond weighs in each.

Owns the names (`audio/pcmu`, `audio/pcma`, `audio/pcm`), their rates and their conversion from and to int16 samples
(protocols.md B.2). Refuses other names: sessions are validated before they get here. Holds no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """One audio format, mono.

    Attributes:
        name: `audio/pcmu`, `audio/pcma` (8000 Hz, one byte per sample) or `audio/pcm` (24000 Hz, int16 little-endian).
        rate_hz: Samples per second.
        sample_bytes: Bytes per sample.
    """

    name: str
    rate_hz: int
    sample_bytes: int

    @property
    def bytes_per_ms(self) -> int:
        """Bytes of one millisecond."""
        return self.rate_hz // 1000 * self.sample_bytes

    def duration_ms(self, size_bytes: int) -> float:
        """Length in ms of so many bytes."""
        return size_bytes / self.bytes_per_ms

    def as_session_field(self) -> dict[str, Any]:
        """Write the format as a session shows it; only `audio/pcm` has a rate."""
        return {"type": self.name, "rate": self.rate_hz} if self.name == "audio/pcm" else {"type": self.name}

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode a payload to int16 samples at `rate_hz`.

        Raises:
            ValueError: Half a sample is left over (`audio/pcm` only).
        """
        if self.name == "audio/pcmu":
            return np.frombuffer(ulaw_decode(payload), dtype="<i2")
        if self.name == "audio/pcma":
            return np.frombuffer(alaw_decode(payload), dtype="<i2")
        return np.frombuffer(payload, dtype="<i2")

    def encode(self, pcm: bytes) -> bytes:
        """Encode int16 little-endian samples that are already at `rate_hz`."""
        if self.name == "audio/pcmu":
            return ulaw_encode(pcm)
        return alaw_encode(pcm) if self.name == "audio/pcma" else pcm


PCMU = AudioFormat(name="audio/pcmu", rate_hz=8000, sample_bytes=1)
PCMA = AudioFormat(name="audio/pcma", rate_hz=8000, sample_bytes=1)
PCM24K = AudioFormat(name="audio/pcm", rate_hz=24000, sample_bytes=2)


def format_named(name: str) -> AudioFormat:
    """Find a format by its name.

    Raises:
        KeyError: There is no such format.
    """
    return {known.name: known for known in (PCMU, PCMA, PCM24K)}[name]
