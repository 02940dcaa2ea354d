"""Sound files: what is written is read back, and everything else is an AudioFileError that names the file."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.audio.wav import Wav, read_wav, write_wav
from engine.errors import AudioFileError

SOUND = Wav(8000, 2, bytes(range(64)))


def riff(bits: int, *, format_tag: int = 1, rate_hz: int = 8000, data: bytes = bytes(16)) -> bytes:
    """A mono WAV file by hand, with what the library under test would not write."""
    frame_bytes = bits // 8
    layout = struct.pack("<HHIIHH", format_tag, 1, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("rate_hz", [8000, 24000, 44100])
def test_a_written_file_reads_back_the_same(tmp_path: Path, channels: int, rate_hz: int) -> None:
    sound = Wav(rate_hz, channels, bytes(range(240)) * channels)
    write_wav(tmp_path / "sound.wav", sound)
    assert read_wav(tmp_path / "sound.wav") == sound


def test_silence_of_no_length_is_a_file_too(tmp_path: Path) -> None:
    write_wav(tmp_path / "empty.wav", Wav(8000, 1, b""))
    assert read_wav(tmp_path / "empty.wav").frames == 0


def test_the_header_is_the_one_every_player_expects(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", Wav(8000, 1, bytes(16)))
    assert (tmp_path / "sound.wav").read_bytes() == riff(16)


def test_a_sound_knows_how_long_it_lasts() -> None:
    assert Wav(8000, 2, bytes(32000)).duration_s == 1.0


@pytest.mark.parametrize(
    ("rate_hz", "channels", "pcm"), [(8000, 2, bytes(6)), (8000, 0, b""), (0, 1, b""), (-1, 1, b"")]
)
def test_an_impossible_sound_is_refused(rate_hz: int, channels: int, pcm: bytes) -> None:
    with pytest.raises(ValueError, match=r"channels at|whole number of frames"):
        Wav(rate_hz, channels, pcm)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends before any sound"),
        (b"ID3\x04 this is no WAV file at all", "not a WAV file"),
        (riff(8), "8-bit"),
        (riff(24, data=bytes(24)), "24-bit"),
        (riff(8, format_tag=7), "not a WAV file with 16-bit PCM"),
        (riff(16)[:-4], "cut short"),
        (riff(16, rate_hz=0), "damaged"),
    ],
    ids=["empty", "noise", "8 bits", "24 bits", "mu-law", "cut", "no rate"],
)
def test_an_unusable_file_is_named_with_its_fault(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=reason) as raised:
        read_wav(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_or_folder_is_an_audio_file_error(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="cannot be read"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(AudioFileError, match="cannot be written"):
        write_wav(tmp_path / "nowhere" / "sound.wav", SOUND)


def test_a_file_cut_anywhere_is_an_audio_file_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_wav(path, SOUND)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(AudioFileError):
            read_wav(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 107), noise=st.binary(min_size=1, max_size=8))
def test_a_damaged_file_reads_or_is_an_audio_file_error(tmp_path: Path, place: int, noise: bytes) -> None:
    path = tmp_path / "sound.wav"
    write_wav(path, SOUND)
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    with suppress(AudioFileError):
        sound = read_wav(path)
        assert len(sound.pcm) == sound.frames * sound.channels * 2
