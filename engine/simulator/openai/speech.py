"""The sound of the simulated model: recordings and synthetic speech in the format a session asks for.

Owns a cache of encoded audio, one per peer, so that hundreds of sessions share the same bytes. Refuses unknown recordings.
Audio never changes once made; synthetic speech is a loop of `LOOP_S` seconds, the same in every session.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.audio.resample import Resampler
from engine.simulator.openai.formats import AudioFormat
from engine.simulator.openai.script import Speak
from engine.simulator.voices import RECORDINGS, load_pcm

SOURCE_HZ = 8000
LOOP_S = 8


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Something to say, ready to send.

    Attributes:
        audio: Encoded audio; repeated from its start where `size_bytes` is more.
        size_bytes: Bytes to send in all.
        words: The transcript.
        format: The format of `audio`.
    """

    audio: bytes
    size_bytes: int
    words: tuple[str, ...]
    format: AudioFormat

    @property
    def duration_ms(self) -> float:
        """Length of the whole, in ms."""
        return self.format.duration_ms(self.size_bytes)

    def cut(self, start_bytes: int, stop_bytes: int) -> bytes:
        """Cut a piece out of the whole; offsets count from the first byte sent."""
        first, last = start_bytes % len(self.audio), start_bytes % len(self.audio) + stop_bytes - start_bytes
        if last <= len(self.audio):
            return self.audio[first:last]
        return (self.audio * (last // len(self.audio) + 1))[first:last]


class SpeechLibrary:
    """Every speech of one peer, made at most once per format."""

    def __init__(self) -> None:
        # Encoded audio by recording (None is the synthetic loop) and format name.
        self._encoded: dict[tuple[str | None, str], bytes] = {}

    def speech(self, speak: Speak, audio_format: AudioFormat) -> Speech:
        """Make what a script step says.

        Args:
            speak: The step.
            audio_format: The format to send.

        Raises:
            AudioFileError: The recording is unknown or damaged.
        """
        audio = self._audio(speak.recording, audio_format)
        samples = len(audio) // audio_format.sample_bytes
        if speak.seconds is not None:
            samples = round(speak.seconds * audio_format.rate_hz)
        return Speech(
            audio=audio, size_bytes=samples * audio_format.sample_bytes, words=_words(speak), format=audio_format
        )

    def _audio(self, recording: str | None, audio_format: AudioFormat) -> bytes:
        key = (recording, audio_format.name)
        if key not in self._encoded:
            pcm = synthetic_speech() if recording is None else load_pcm(recording)
            if audio_format.rate_hz != SOURCE_HZ:
                resampler = Resampler(SOURCE_HZ, audio_format.rate_hz)
                pcm = resampler.process(pcm) + resampler.flush()
            self._encoded[key] = audio_format.encode(pcm)
        return self._encoded[key]


def synthetic_speech() -> bytes:
    """Make speech-like sound: a gliding harmonic voice in syllables of 4 a second, without pauses long enough to end a turn.

    Returns:
        int16 little-endian, 8000 Hz, mono, `LOOP_S` seconds, about -20 dBFS RMS; its end joins its start.
    """
    time_s = np.arange(LOOP_S * SOURCE_HZ) / SOURCE_HZ
    # Every frequency below is a multiple of 1 / LOOP_S: the loop closes without a click.
    phase = 2 * np.pi * 120 * time_s + 8 * np.sin(2 * np.pi * 0.5 * time_s)
    harmonics = np.arange(1, 20)[:, np.newaxis]
    voice = np.sum(np.sin(harmonics * phase) / harmonics, axis=0)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_s)
    breath = np.random.default_rng(1).normal(0, 0.02, len(time_s))
    sound = voice * syllables + breath
    scaled = sound * (0.1 * 32768 / np.sqrt(np.mean(sound**2)))
    samples: NDArray[np.int16] = np.clip(np.round(scaled), -32768, 32767).astype("<i2")
    return samples.tobytes()


def _words(speak: Speak) -> tuple[str, ...]:
    if speak.words is not None:
        return tuple(speak.words.split())
    if speak.recording is not None and speak.recording in RECORDINGS:
        return tuple(RECORDINGS[speak.recording].transcript.split())
    return ("la",) * round(4 * (speak.seconds or 0))
