"""Sound files: WAV with 16-bit samples, nothing else.

Owns reading and writing such files whole. Refuses every other format, and damaged or cut files, always with `AudioFileError`,
which names the file and the reason.
"""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from engine.errors import AudioFileError

FilePath: TypeAlias = str | os.PathLike[str]

_BYTES_PER_SAMPLE: Final = 2


@dataclass(frozen=True)
class Wav:
    """Sound as a WAV file holds it.

    Attributes:
        sample_rate_hz: Frames per second.
        channels: 1 for mono, 2 for stereo, and so on.
        pcm: int16 little-endian samples, those of one frame next to each other (left, right, left, right).
    """

    sample_rate_hz: int
    channels: int
    pcm: bytes

    def __post_init__(self) -> None:
        """Refuse what no file could hold.

        Raises:
            ValueError: No channel, no rate, or `pcm` is not a whole number of frames.
        """
        if self.sample_rate_hz <= 0 or self.channels <= 0:
            raise ValueError(f"no sound has {self.channels} channels at {self.sample_rate_hz} Hz")
        if len(self.pcm) % (self.channels * _BYTES_PER_SAMPLE):
            raise ValueError(
                f"{len(self.pcm)} bytes are not a whole number of frames of {self.channels} 16-bit samples"
            )

    @property
    def frames(self) -> int:
        """How many frames (one sample of each channel) there are."""
        return len(self.pcm) // (self.channels * _BYTES_PER_SAMPLE)

    @property
    def duration_s(self) -> float:
        """How long the sound lasts, in seconds."""
        return self.frames / self.sample_rate_hz


def read_wav(path: FilePath) -> Wav:
    """Read a whole WAV file.

    Raises:
        AudioFileError: The file cannot be read, is damaged or cut short, or does not hold 16-bit PCM.
    """
    try:
        with wave.open(os.fspath(path), "rb") as file:
            return _read_frames(path, file)
    except OSError as error:
        raise AudioFileError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error
    except EOFError as error:
        raise AudioFileError(f"{os.fspath(path)}: ends before any sound") from error
    except (
        wave.Error,
        RuntimeError,
    ) as error:  # the wave module's bare RuntimeError: a chunk that reaches beyond its parent
        raise AudioFileError(f"{os.fspath(path)}: not a WAV file with 16-bit PCM: {error}") from error


def write_wav(path: FilePath, wav: Wav) -> None:
    """Write a WAV file, replacing what was there.

    Raises:
        AudioFileError: The file cannot be written.
    """
    try:
        # opened here: the wave module's own opening leaves a broken object behind when it fails
        with Path(path).open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(wav.channels)
            file.setsampwidth(_BYTES_PER_SAMPLE)
            file.setframerate(wav.sample_rate_hz)
            file.writeframes(wav.pcm)
    except OSError as error:
        raise AudioFileError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from error


def _read_frames(path: FilePath, file: wave.Wave_read) -> Wav:
    if file.getsampwidth() != _BYTES_PER_SAMPLE:
        raise AudioFileError(
            f"{os.fspath(path)}: has {8 * file.getsampwidth()}-bit samples; only 16-bit PCM is supported"
        )
    if file.getframerate() <= 0:
        raise AudioFileError(f"{os.fspath(path)}: damaged: says that it has {file.getframerate()} frames per second")
    pcm = file.readframes(file.getnframes())
    if len(pcm) != file.getnframes() * file.getnchannels() * _BYTES_PER_SAMPLE:
        raise AudioFileError(f"{os.fspath(path)}: cut short: the header promises {file.getnframes()} frames")
    return Wav(file.getframerate(), file.getnchannels(), pcm)
