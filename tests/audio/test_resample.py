"""The resampler: exact lengths, alignment, indifference to cuts, and floors for noise and aliases."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.audio.resample import Quality, Resampler

RATES = [(8000, 24000), (24000, 8000), (8000, 16000), (16000, 8000), (8000, 44100), (44100, 8000), (22050, 24000)]
QUALITIES: list[Quality] = ["sinc_fastest", "sinc_medium", "sinc_best"]
LOUD = 16000.0


def tone(frequency_hz: float, rate_hz: int, samples: int) -> NDArray[np.float64]:
    return LOUD * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz)


def resampled(wave: NDArray[np.float64], input_hz: int, output_hz: int, quality: Quality) -> NDArray[np.float64]:
    resampler = Resampler(input_hz, output_hz, quality=quality)
    pcm = resampler.process(np.rint(wave).astype("<i2").tobytes()) + resampler.flush()
    return np.frombuffer(pcm, "<i2").astype(float)


def in_pieces(resampler: Resampler, pcm: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(2 * (cut % (len(pcm) // 2 + 1)) for cut in cuts), len(pcm)]
    given_out = [resampler.process(pcm[start:end]) for start, end in pairwise(edges)]
    return b"".join(given_out) + resampler.flush()


def noise(samples: int, seed: int = 7) -> bytes:
    return np.random.default_rng(seed).integers(-32768, 32768, samples).astype("<i2").tobytes()


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
@settings(deadline=None, max_examples=30)
@given(samples=st.integers(0, 3000), cuts=st.lists(st.integers(0, 3000), max_size=12), seed=st.integers(0, 9))
def test_samples_are_the_same_however_the_input_is_cut(
    input_hz: int, output_hz: int, samples: int, cuts: list[int], seed: int
) -> None:
    pcm = noise(samples, seed)
    whole = in_pieces(Resampler(input_hz, output_hz), pcm, [])
    assert in_pieces(Resampler(input_hz, output_hz), pcm, cuts) == whole
    assert len(whole) == 2 * round(samples * output_hz / input_hz)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_one_sample_at_a_time_gives_what_the_whole_gives(input_hz: int, output_hz: int, quality: Quality) -> None:
    pcm = noise(1500)
    whole = in_pieces(Resampler(input_hz, output_hz, quality=quality), pcm, [])
    assert in_pieces(Resampler(input_hz, output_hz, quality=quality), pcm, list(range(1500))) == whole


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("input_hz", "output_hz"), [(8000, 24000), (24000, 8000), (44100, 8000)])
def test_a_long_stream_loses_no_sample(input_hz: int, output_hz: int, quality: Quality) -> None:
    samples = 100_001  # several times libsamplerate's inner buffer, in one piece
    assert len(in_pieces(Resampler(input_hz, output_hz, quality=quality), noise(samples), [])) == 2 * round(
        samples * output_hz / input_hz
    )


@pytest.mark.parametrize(
    ("quality", "floor_db"), [("sinc_fastest", 72), ("sinc_medium", 78), ("sinc_best", 78)], ids=QUALITIES
)
@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
@pytest.mark.parametrize("frequency_hz", [300.0, 1000.3, 2700.0])
def test_a_tone_comes_out_in_place_and_clean(
    input_hz: int, output_hz: int, frequency_hz: float, quality: Quality, floor_db: float
) -> None:
    # Against the same tone sampled at the output's rate: noise, a shift of any size and a wrong level all count.
    # 16-bit rounding leaves about 90 dB; sinc_fastest at 2700 Hz is 0.02 % too quiet, which leaves 74.
    wave = resampled(tone(frequency_hz, input_hz, input_hz), input_hz, output_hz, quality)
    expected = tone(frequency_hz, output_hz, len(wave))
    middle = slice(len(wave) // 4, len(wave) * 3 // 4)
    error = wave[middle] - expected[middle]
    assert 10 * np.log10(np.mean(expected[middle] ** 2) / np.mean(error**2)) > floor_db


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("frequency_hz", [5500.0, 7000.0, 9000.0, 11500.0])
def test_what_telephones_cannot_carry_does_not_alias(frequency_hz: float, quality: Quality) -> None:
    wave = resampled(tone(frequency_hz, 24000, 24000), 24000, 8000, quality)
    middle = wave[2000:6000]
    assert 20 * np.log10(LOUD / np.sqrt(2) / max(np.sqrt(np.mean(middle**2)), 1e-3)) > 75


@pytest.mark.parametrize("quality", QUALITIES)
def test_no_image_of_a_telephone_band_appears_above_it(quality: Quality) -> None:
    wave = resampled(tone(2500.0, 8000, 8000), 8000, 24000, quality)[6000:18000]
    spectrum = np.abs(np.fft.rfft(wave * np.blackman(len(wave))))
    above = spectrum[len(spectrum) * 5000 // 12000 :]
    assert 20 * np.log10(spectrum.max() / above.max()) > 75


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("input_hz", "output_hz"), [(8000, 24000), (24000, 8000)])
def test_a_click_stays_where_it_was(input_hz: int, output_hz: int, quality: Quality) -> None:
    wave = np.zeros(2400)
    wave[1200] = LOUD
    assert int(np.argmax(resampled(wave, input_hz, output_hz, quality))) == 1200 * output_hz // input_hz


@pytest.mark.parametrize(("quality", "delay_ms"), [("sinc_fastest", 3), ("sinc_medium", 6.5), ("sinc_best", 18.5)])
@pytest.mark.parametrize(("input_hz", "output_hz"), [(8000, 24000), (24000, 8000)])
def test_samples_are_given_within_the_documented_delay(
    input_hz: int, output_hz: int, quality: Quality, delay_ms: float
) -> None:
    given_out = Resampler(input_hz, output_hz, quality=quality).process(noise(input_hz // 10))
    assert 100 - delay_ms <= len(given_out) / 2 / output_hz * 1000 <= 100


def test_the_tail_reaches_to_the_end_of_the_input() -> None:
    wave = resampled(np.full(800, LOUD), 8000, 24000, "sinc_fastest")
    assert np.all(np.abs(wave[2000:2300] - LOUD) < LOUD * 0.01)
    assert np.all(wave[-30:-3] > LOUD / 3)


def test_full_scale_saturates_and_never_wraps() -> None:
    square = np.repeat(np.tile([32767.0, -32768.0], 20), 40)
    wave = resampled(square, 8000, 24000, "sinc_fastest")
    assert wave.max() == 32767
    assert wave.min() == -32768
    plateaus = wave.reshape(-1, 120)[:, 15:-15]
    assert np.all(np.sign(plateaus) == np.tile([1, -1], 20)[:, None])


def test_equal_rates_pass_samples_untouched() -> None:
    resampler = Resampler(8000, 8000)
    assert resampler.process(noise(100)) == noise(100)
    assert resampler.flush() == b""


def test_after_a_flush_a_new_stream_begins() -> None:
    resampler = Resampler(8000, 24000)
    first = in_pieces(resampler, noise(333), [100])
    assert in_pieces(resampler, noise(333), [5]) == first


def test_nothing_in_gives_nothing_out() -> None:
    resampler = Resampler(8000, 24000)
    assert resampler.process(b"") == b""
    assert resampler.flush() == b""


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        Resampler(8000, 24000).process(b"abc")


@pytest.mark.parametrize(("input_hz", "output_hz"), [(0, 8000), (8000, -1), (8000, 8000 * 257)])
def test_impossible_rates_are_refused(input_hz: int, output_hz: int) -> None:
    with pytest.raises(ValueError, match="cannot convert"):
        Resampler(input_hz, output_hz)


def test_an_unknown_quality_is_refused() -> None:
    with pytest.raises(ValueError, match="no such quality"):
        Resampler(8000, 24000, quality="linear")  # type: ignore[arg-type]


def test_a_dropped_resampler_is_freed_at_once() -> None:
    resampler = Resampler(8000, 24000)
    resampler.process(noise(200))
    gone = weakref.ref(resampler)
    del resampler
    assert gone() is None
