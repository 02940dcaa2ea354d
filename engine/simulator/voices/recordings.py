"""The table of recordings: name, words, and how to load the samples.

Owns the names and the transcripts; the sound itself lies beside this file and is made by ``make_voices.sh``. Every recording
is 8000 Hz, mono, int16, about -20 dBFS RMS, without leading or trailing silence (``caller`` excepted: it holds pauses).
Nothing here touches the file system before a recording is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from engine.audio.g711 import ulaw_encode
from engine.audio.wav import read_wav
from engine.errors import AudioFileError

RECORDING_HZ = 8000


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One spoken recording.

    Attributes:
        name: What scripts call it.
        file: The file's name, beside this module.
        transcript: The words spoken.
    """

    name: str
    file: str
    transcript: str


def _table(*rows: tuple[str, str]) -> Mapping[str, Recording]:
    return MappingProxyType(
        {name: Recording(name=name, file=f"{name}.wav", transcript=transcript) for name, transcript in rows}
    )


RECORDINGS: Mapping[str, Recording] = _table(
    ("caller_question", "Hello, can you tell me where my order four seven one one is?"),
    ("caller_bargein", "Wait, stop, that is enough, thanks."),
    ("caller_goodbye", "Thank you, goodbye."),
    (
        "caller",
        (
            "Hello, can you tell me where my order four seven one one is? Wait, stop, that is enough, thanks. "
            "Thank you, goodbye."
        ),
    ),
    ("agent_greeting", "Hello, and welcome to the parcel desk. How can I help you today?"),
    ("agent_tool_wait", "One moment, I am looking that up for you."),
    (
        "agent_order",
        (
            "Your order, four seven one one, left our warehouse on Tuesday. It is on a van in your town now, "
            "so please expect it between two and four o'clock this afternoon."
        ),
    ),
    ("agent_sorry", "Sorry, of course. Is there anything else?"),
    ("agent_goodbye", "You are welcome. Thank you for calling, and goodbye."),
)


@contextmanager
def recording_path(name: str) -> Iterator[Path]:
    """Give the WAV file of one recording as a path for the time of the block.

    Args:
        name: A key of ``RECORDINGS``.

    Yields:
        A readable path (a temporary copy if the package is installed as an archive).

    Raises:
        AudioFileError: There is no recording of that name.
    """
    recording = RECORDINGS.get(name)
    if recording is None:
        raise AudioFileError(f"no recording is named {name!r}; there are {', '.join(RECORDINGS)}")
    with resources.as_file(resources.files(__package__) / recording.file) as path:
        yield path


def load_pcm(name: str) -> bytes:
    """Load one recording's samples.

    Args:
        name: A key of ``RECORDINGS``.

    Returns:
        int16 little-endian, 8000 Hz, mono.

    Raises:
        AudioFileError: There is no such recording, or its file is damaged.
    """
    with recording_path(name) as path:
        wav = read_wav(path)
    if (wav.sample_rate_hz, wav.channels) != (RECORDING_HZ, 1):
        raise AudioFileError(
            f"{name}: {wav.sample_rate_hz} Hz with {wav.channels} channels, not {RECORDING_HZ} Hz mono"
        )
    return wav.pcm


def load_ulaw(name: str) -> bytes:
    """Load one recording as telephone audio.

    Args:
        name: A key of ``RECORDINGS``.

    Returns:
        G.711 mu-law, 8000 Hz, mono; one byte per sample (8 per millisecond).

    Raises:
        AudioFileError: There is no such recording, or its file is damaged.
    """
    return ulaw_encode(load_pcm(name))
