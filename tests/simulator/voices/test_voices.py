"""The recordings are there, are telephone speech, and are listed."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from engine.errors import AudioFileError
from engine.simulator.voices import RECORDINGS, load_pcm, load_ulaw


def test_every_sound_file_is_listed_and_every_listed_file_is_there() -> None:
    folder = resources.files("engine.simulator.voices")
    files = {entry.name for entry in folder.iterdir() if entry.name.endswith(".wav")}
    assert files == {recording.file for recording in RECORDINGS.values()}
    assert sum(len((folder / name).read_bytes()) for name in files) < 1_000_000


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_speech_of_about_20_dbfs(name: str) -> None:
    samples = np.frombuffer(load_pcm(name), dtype="<i2").astype(float)
    level_dbfs = 20 * np.log10(np.sqrt(np.mean(samples**2)) / 32768)
    # `caller` holds pauses, which lower its average.
    assert (-25 if name == "caller" else -21.5) < level_dbfs < -18.5
    assert len(load_ulaw(name)) == len(samples)
    seconds_per_word = len(samples) / 8000 / len(RECORDINGS[name].transcript.split())
    assert 0.2 < seconds_per_word < 0.7


def test_the_long_answer_leaves_time_to_interrupt() -> None:
    assert 8 < len(load_ulaw("agent_order")) / 8000 < 11


def test_an_unknown_recording_is_named_in_the_error() -> None:
    with pytest.raises(AudioFileError, match="nobody"):
        load_pcm("nobody")
