"""G.711 against the ITU's reference hashes, and against its own promises about blocks and buffers."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audio import g711

EVERY_SAMPLE = np.arange(-32768, 32768).astype("<i2").tobytes()
EVERY_CODE = bytes(range(256))
GENERATOR = Path(__file__).parents[2] / "codec_c" / "g711_tables.py"

ENCODERS = [pytest.param(g711.ulaw_encode, id="ulaw"), pytest.param(g711.alaw_encode, id="alaw")]
DECODERS = [pytest.param(g711.ulaw_decode, id="ulaw"), pytest.param(g711.alaw_decode, id="alaw")]
LAWS = [
    pytest.param(g711.ulaw_encode, g711.ulaw_decode, id="ulaw"),
    pytest.param(g711.alaw_encode, g711.alaw_decode, id="alaw"),
]

Convert = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("convert", "material", "sha256"),
    [
        (g711.ulaw_encode, EVERY_SAMPLE, "90c29de505fb68e766118303bd552a16005dcf810873698bee1d8f3b247ce28c"),
        (g711.alaw_encode, EVERY_SAMPLE, "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b"),
        (g711.ulaw_decode, EVERY_CODE, "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827"),
        (g711.alaw_decode, EVERY_CODE, "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174"),
    ],
    ids=["ulaw_encode", "alaw_encode", "ulaw_decode", "alaw_decode"],
)
def test_every_sample_and_code_converts_as_the_itu_does(convert: Convert, material: bytes, sha256: str) -> None:
    assert hashlib.sha256(convert(material)).hexdigest() == sha256


def test_minus_one_is_the_mirror_of_zero() -> None:
    assert g711.ulaw_encode(b"\xff\xff") == b"\x7f"
    assert g711.ulaw_encode(b"\0\0") == bytes([g711.ULAW_SILENCE])
    assert g711.alaw_encode(b"\0\0") == bytes([g711.ALAW_SILENCE])


@pytest.mark.parametrize(("encode", "decode"), LAWS)
def test_coding_a_second_time_changes_nothing(encode: Convert, decode: Convert) -> None:
    once = decode(encode(EVERY_SAMPLE))
    assert decode(encode(once)) == once


@pytest.mark.parametrize(("encode", "decode"), LAWS)
def test_every_code_survives_but_negative_zero(encode: Convert, decode: Convert) -> None:
    survived = encode(decode(EVERY_CODE))
    changed = [code for code in range(256) if survived[code] != code]
    assert changed == ([0x7F] if encode is g711.ulaw_encode else [])


@pytest.mark.parametrize(
    ("encode", "decode", "bias", "loudest"),
    [
        pytest.param(g711.ulaw_encode, g711.ulaw_decode, 132, 32124, id="ulaw"),
        pytest.param(g711.alaw_encode, g711.alaw_decode, 0, 32256, id="alaw"),
    ],
)
def test_no_sample_moves_by_more_than_half_a_step(encode: Convert, decode: Convert, bias: int, loudest: int) -> None:
    # A segment has 16 steps and ends at twice its beginning, both counted from -bias: half a step is 1/32 of what is below.
    samples = np.frombuffer(EVERY_SAMPLE, "<i2").astype(int)
    error = np.abs(np.frombuffer(decode(encode(EVERY_SAMPLE)), "<i2") - samples)
    unclipped = np.abs(samples) <= loudest
    half_step = np.maximum(8 if bias == 0 else 4, (np.abs(samples) + bias) / 32)
    assert np.all(error[unclipped] <= half_step[unclipped])
    assert np.all(error <= 644)


@pytest.mark.parametrize("encode", ENCODERS)
@given(samples=st.binary(max_size=700).map(lambda noise: noise[: len(noise) // 2 * 2]), cut=st.integers(0, 350))
def test_a_block_encodes_like_its_two_parts(encode: Convert, samples: bytes, cut: int) -> None:
    assert encode(samples[: 2 * cut]) + encode(samples[2 * cut :]) == encode(samples)


@pytest.mark.parametrize("decode", DECODERS)
@given(codes=st.binary(max_size=350), cut=st.integers(0, 350))
def test_a_block_decodes_like_its_two_parts(decode: Convert, codes: bytes, cut: int) -> None:
    assert decode(codes[:cut]) + decode(codes[cut:]) == decode(codes)


@pytest.mark.parametrize("encode", ENCODERS)
def test_any_contiguous_buffer_of_samples_is_taken(encode: Callable[[object], bytes]) -> None:
    expected = encode(EVERY_SAMPLE)
    assert encode(bytearray(EVERY_SAMPLE)) == expected
    assert encode(memoryview(b"-" + EVERY_SAMPLE)[1:]) == expected  # at an odd address
    assert encode(np.frombuffer(EVERY_SAMPLE, np.int16)) == expected


@pytest.mark.parametrize("decode", DECODERS)
def test_any_contiguous_buffer_of_codes_is_taken(decode: Callable[[object], bytes]) -> None:
    expected = decode(EVERY_CODE)
    assert decode(bytearray(EVERY_CODE)) == expected
    assert decode(memoryview(b"-" + EVERY_CODE)[1:]) == expected


@pytest.mark.parametrize("encode", ENCODERS)
def test_half_a_sample_is_refused(encode: Convert) -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        encode(b"abc")


@pytest.mark.parametrize("encode", ENCODERS)
def test_samples_of_another_type_are_refused(encode: Callable[[object], bytes]) -> None:
    with pytest.raises(TypeError, match="int16"):
        encode(np.zeros(4, np.float32))
    with pytest.raises(BufferError):
        encode(np.zeros(8, np.int16)[::2])


@pytest.mark.parametrize("decode", DECODERS)
def test_codes_of_another_type_are_refused(decode: Callable[[object], bytes]) -> None:
    with pytest.raises(TypeError, match="single bytes"):
        decode(memoryview(np.zeros(4, np.int16)))


def check_tables(generator: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(generator), "--check"], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_tables_are_what_their_program_writes() -> None:
    assert check_tables(GENERATOR).returncode == 0


def test_an_edited_table_is_noticed(tmp_path: Path) -> None:
    program = tmp_path / GENERATOR.name
    program.write_bytes(GENERATOR.read_bytes())
    header = GENERATOR.with_suffix(".h").read_text()
    program.with_suffix(".h").write_text(header.replace("-32124", "-32120"))
    checked = check_tables(program)
    assert checked.returncode == 1
    assert "stale" in checked.stderr
