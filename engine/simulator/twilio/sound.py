"""What a simulated caller can say: sound as mu-law, from a file, from samples, or generated.

A sound holds no position: each call that says it reads it from the beginning, so one sound serves any number of calls.
Everything is G.711 mu-law, 8000 Hz, mono.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.audio.g711 import ULAW_SILENCE, ulaw_decode, ulaw_encode
from engine.audio.resample import Resampler
from engine.audio.wav import read_wav

SAMPLE_RATE_HZ = 8000
FRAME_BYTES = 160
SILENT_FRAME = bytes([ULAW_SILENCE]) * FRAME_BYTES

# Below this a sample is line noise: -42 dBFS.
_AUDIBLE_SAMPLE = 256
_QUIET_CODES = bytes(
    code
    for code, sample in enumerate(np.frombuffer(ulaw_decode(bytes(range(256))), dtype="<i2"))
    if abs(int(sample)) < _AUDIBLE_SAMPLE
)


class CallerAudio(Protocol):
    """A source of sound for a caller."""

    def frames(self) -> Iterator[bytes]:
        """Yields the sound from its beginning in frames of 160 bytes, the last padded with silence; may be endless."""
        ...


class RecordedAudio:
    """Sound that is wholly in memory."""

    def __init__(self, ulaw: bytes) -> None:
        self.ulaw = ulaw

    @property
    def duration_ms(self) -> float:
        """Its length in milliseconds."""
        return len(self.ulaw) * 1000 / SAMPLE_RATE_HZ

    def frames(self) -> Iterator[bytes]:
        """Yields frames of 160 bytes."""
        for begin in range(0, len(self.ulaw), FRAME_BYTES):
            yield self.ulaw[begin : begin + FRAME_BYTES].ljust(FRAME_BYTES, SILENT_FRAME[:1])


class RepeatedAudio:
    """A sound said again and again, with silence between."""

    def __init__(self, sound: RecordedAudio, *, pause_ms: float = 1000.0) -> None:
        self._sound = sound
        self._pause_frames = max(round(pause_ms / 20), 1)

    def frames(self) -> Iterator[bytes]:
        """Yields frames of 160 bytes, without end."""
        while True:
            yield from self._sound.frames()
            for _ in range(self._pause_frames):
                yield SILENT_FRAME


def sound_from_wav(path: Path) -> RecordedAudio:
    """Loads a WAV file of any rate; channels are mixed.

    Raises:
        AudioFileError: The file is missing or of an unsupported format.
    """
    wav = read_wav(path)
    samples = np.frombuffer(wav.pcm, dtype="<i2").reshape(-1, wav.channels)
    mono = samples.mean(axis=1).astype("<i2") if wav.channels > 1 else samples[:, 0]
    return sound_from_pcm(mono.tobytes(), sample_rate_hz=wav.sample_rate_hz)


def sound_from_pcm(pcm: bytes, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> RecordedAudio:
    """Makes a sound of int16 little-endian mono samples at `sample_rate_hz`."""
    if sample_rate_hz != SAMPLE_RATE_HZ:
        resampler = Resampler(sample_rate_hz, SAMPLE_RATE_HZ)
        pcm = resampler.process(pcm) + resampler.flush()
    return RecordedAudio(ulaw_encode(pcm))


def silence(duration_ms: float) -> RecordedAudio:
    """Makes silence."""
    return RecordedAudio(SILENT_FRAME[:1] * round(duration_ms * SAMPLE_RATE_HZ / 1000))


def tone(hz: float, duration_ms: float, *, level: float = 0.25) -> RecordedAudio:
    """Makes a sine tone; `level` is its amplitude as a part of full scale."""
    times = np.arange(round(duration_ms * SAMPLE_RATE_HZ / 1000)) / SAMPLE_RATE_HZ
    return sound_from_pcm((np.sin(2 * np.pi * hz * times) * level * 32767).astype("<i2").tobytes())


def is_audible(ulaw: bytes) -> bool:
    """Says whether more than a twentieth of the samples is louder than line noise (-42 dBFS)."""
    return len(ulaw.translate(None, _QUIET_CODES)) * 20 > len(ulaw)
