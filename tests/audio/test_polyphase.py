"""The fixed filters: what they keep and stop, their delay, exact lengths, indifference to cuts, and G.711 in the same call."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.audio.g711 import ulaw_decode, ulaw_encode
from engine.audio.polyphase import (
    LOOKAHEAD_MS,
    PolyphaseResampler,
    RateConverter,
    UlawDownsampler,
    UlawUpsampler,
    make_resampler,
)
from engine.audio.resample import Resampler

Wave = NDArray[np.float64]

UP = [(8000, 16000), (8000, 24000)]
DOWN = [(16000, 8000), (24000, 8000)]
RATES = [*UP, *DOWN]
WIDEBAND = [16000, 24000]
LOUD = 32000.0
GENERATORS = [Path(__file__).parents[2] / "codec_c" / f"polyphase_{product}.py" for product in ("filters", "plot")]


def tone(frequency_hz: float, rate_hz: int, samples: int, amplitude: float = LOUD) -> Wave:
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz)


def as_pcm(wave: Wave) -> bytes:
    return np.rint(wave).astype("<i2").tobytes()


def as_wave(pcm: bytes) -> Wave:
    return np.frombuffer(pcm, "<i2").astype(float)


def noise(samples: int, seed: int = 7) -> bytes:
    return np.random.default_rng(seed).integers(-32768, 32768, samples).astype("<i2").tobytes()


def speech_like(samples: int, rate_hz: int, seed: int = 3) -> Wave:
    """Noise within the telephone band, at a level that does not saturate."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=samples))
    hz = np.fft.rfftfreq(samples, 1 / rate_hz)
    spectrum[(hz < 200) | (hz > 3300)] = 0
    wave = np.fft.irfft(spectrum, samples)
    return wave * (28000 / np.abs(wave).max())


def whole(converter: RateConverter, data: bytes) -> bytes:
    return converter.process(data) + converter.flush()


def in_pieces(converter: RateConverter, data: bytes, cuts: list[int], size: int = 2) -> bytes:
    edges = [0, *sorted(size * (cut % (len(data) // size + 1)) for cut in cuts), len(data)]
    given_out = [converter.process(data[start:end]) for start, end in pairwise(edges)]
    return b"".join(given_out) + converter.flush()


def middle(wave: Wave) -> Wave:
    return wave[len(wave) // 4 : len(wave) * 3 // 4]


def power_db(wave: Wave) -> float:
    return 10 * np.log10(max(float(np.mean(wave**2)), 1e-9))


def level_db(wave: Wave, frequency_hz: float, rate_hz: int) -> float:
    """The level of one frequency in `wave` against LOUD, and nothing else in it, by a least-squares fit."""
    angle = 2 * np.pi * frequency_hz * np.arange(len(wave)) / rate_hz
    fit = np.linalg.lstsq(np.stack([np.cos(angle), np.sin(angle)], axis=1), wave, rcond=None)[0]
    return 20 * np.log10(np.hypot(*fit) / LOUD)


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_the_telephone_band_is_kept_within_a_tenth_of_a_decibel(input_hz: int, output_hz: int) -> None:
    for frequency_hz in [*np.arange(30.0, 3400.0, 53.7), 3400.0]:
        wave = as_wave(
            whole(PolyphaseResampler(input_hz, output_hz), as_pcm(tone(frequency_hz, input_hz, input_hz // 4)))
        )
        assert abs(level_db(middle(wave), frequency_hz, output_hz)) < 0.1, frequency_hz


@pytest.mark.parametrize(("input_hz", "output_hz"), UP)
def test_images_of_the_telephone_band_are_70_db_down(input_hz: int, output_hz: int) -> None:
    for frequency_hz in [*np.arange(50.0, 3400.0, 61.3), 3400.0]:
        wave = middle(
            as_wave(whole(PolyphaseResampler(input_hz, output_hz), as_pcm(tone(frequency_hz, input_hz, 8000))))
        )
        spectrum = np.abs(np.fft.rfft(wave * np.blackman(len(wave))))
        stopped = spectrum[np.fft.rfftfreq(len(wave), 1 / output_hz) >= 4550]
        assert 20 * np.log10(spectrum.max() / stopped.max()) > 70, frequency_hz


@pytest.mark.parametrize(("input_hz", "output_hz"), DOWN)
def test_aliases_into_the_telephone_band_are_70_db_down(input_hz: int, output_hz: int) -> None:
    for frequency_hz in [4600.0, *np.arange(4603.0, input_hz / 2, 67.9)]:
        wave = middle(
            as_wave(whole(PolyphaseResampler(input_hz, output_hz), as_pcm(tone(frequency_hz, input_hz, 8000))))
        )
        assert power_db(tone(frequency_hz, input_hz, 8000)) - power_db(wave) > 70, frequency_hz


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_what_lies_between_the_bands_is_never_made_louder(input_hz: int, output_hz: int) -> None:
    for frequency_hz in np.arange(3400.0, 4600.0 if input_hz > 8000 else 4000.0, 33.3):
        wave = as_wave(
            whole(PolyphaseResampler(input_hz, output_hz), as_pcm(tone(frequency_hz, input_hz, 8000, 16000)))
        )
        assert power_db(middle(wave)) < power_db(tone(frequency_hz, input_hz, 8000, 16000)) + 0.1, frequency_hz


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_speech_comes_out_as_from_the_reference_resampler(input_hz: int, output_hz: int) -> None:
    # In place, at the same level, and as clean: the difference is the passband's ripple, and 16-bit rounding.
    pcm = as_pcm(speech_like(input_hz, input_hz))
    expected = middle(as_wave(whole(Resampler(input_hz, output_hz, quality="sinc_best"), pcm)))
    wave = middle(as_wave(whole(PolyphaseResampler(input_hz, output_hz), pcm)))
    assert power_db(expected) - power_db(wave - expected) > 49


@pytest.mark.parametrize("wideband_hz", WIDEBAND)
def test_speech_survives_the_way_up_and_down(wideband_hz: int) -> None:
    pcm = as_pcm(speech_like(8000, 8000))
    back = whole(PolyphaseResampler(wideband_hz, 8000), whole(PolyphaseResampler(8000, wideband_hz), pcm))
    assert len(back) == len(pcm)
    assert power_db(as_wave(pcm)) - power_db(middle(as_wave(back)) - middle(as_wave(pcm))) > 44


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_a_click_stays_where_it_was(input_hz: int, output_hz: int) -> None:
    click = np.zeros(2400)
    click[1200] = LOUD
    wave = as_wave(whole(PolyphaseResampler(input_hz, output_hz), as_pcm(click)))
    place = 1200 * output_hz // input_hz
    assert int(np.argmax(wave)) == place
    assert np.array_equal(wave[place - 60 : place], wave[place + 60 : place : -1])


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_an_output_is_given_once_the_input_reaches_a_lookahead_beyond_it(input_hz: int, output_hz: int) -> None:
    resampler = PolyphaseResampler(input_hz, output_hz)
    given_samples = 0
    for taken_samples in range(1, input_hz // 50):
        given_samples += len(resampler.process(b"\0\0")) // 2
        last_input_s, next_output_s = (taken_samples - 1) / input_hz, given_samples / output_hz
        assert next_output_s > last_input_s - LOOKAHEAD_MS / 1000  # or it should have been given
        assert taken_samples / input_hz - given_samples / output_hz <= LOOKAHEAD_MS / 1000 + 1e-9
    assert LOOKAHEAD_MS <= 2.5


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
@pytest.mark.parametrize("constant", [-32768, -1, 0, 1, 12345, 32767])
def test_a_constant_comes_out_as_it_went_in(input_hz: int, output_hz: int, constant: int) -> None:
    wave = as_wave(PolyphaseResampler(input_hz, output_hz).process(as_pcm(np.full(600, constant))))
    settled = wave[round(2 * LOOKAHEAD_MS * output_hz / 1000) :]
    assert len(settled) > 100
    assert np.all(settled == constant)


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_full_scale_saturates_and_never_wraps(input_hz: int, output_hz: int) -> None:
    half_period = input_hz // 200
    square = np.repeat(np.tile([32767.0, -32768.0], 20), half_period)
    wave = as_wave(whole(PolyphaseResampler(input_hz, output_hz), as_pcm(square)))
    assert wave.max() == 32767
    assert wave.min() == -32768
    edge = output_hz // 1000
    plateaus = wave.reshape(40, -1)[:, edge:-edge]
    assert np.all(np.sign(plateaus) == np.tile([1, -1], 20)[:, None])


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_the_loudest_output_there_can_be_saturates(input_hz: int, output_hz: int) -> None:
    # Full scale with the signs of the filter itself, which a click shows: no input sums to more.
    reach = round(LOOKAHEAD_MS * input_hz / 1000)
    click = np.zeros(4 * reach + 1)
    click[2 * reach] = LOUD
    response = as_wave(whole(PolyphaseResampler(input_hz, output_hz), as_pcm(click)))
    for phase in range(output_hz // input_hz or 1):
        if output_hz > input_hz:  # the taps that meet in outputs of this phase, in the order of their inputs
            signs = np.where(response[phase :: output_hz // input_hz][::-1] < 0, -1, 1)
        else:
            signs = np.sign(np.sinc(np.arange(-2 * reach, 2 * reach + 1) * output_hz / input_hz))
        for direction in (1, -1):
            wave = as_wave(
                whole(
                    PolyphaseResampler(input_hz, output_hz), as_pcm(np.clip(direction * signs * 32768, -32768, 32767))
                )
            )
            assert np.max(direction * wave) >= 32767


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
@settings(deadline=None, max_examples=40)
@given(samples=st.integers(0, 3000), cuts=st.lists(st.integers(0, 3000), max_size=12), seed=st.integers(0, 9))
def test_samples_are_the_same_however_the_input_is_cut(
    input_hz: int, output_hz: int, samples: int, cuts: list[int], seed: int
) -> None:
    pcm = noise(samples, seed)
    uncut = whole(PolyphaseResampler(input_hz, output_hz), pcm)
    assert in_pieces(PolyphaseResampler(input_hz, output_hz), pcm, cuts) == uncut
    assert len(uncut) == 2 * round(samples * output_hz / input_hz)


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
def test_one_sample_at_a_time_gives_what_the_whole_gives(input_hz: int, output_hz: int) -> None:
    pcm = noise(1500)
    uncut = whole(PolyphaseResampler(input_hz, output_hz), pcm)
    assert in_pieces(PolyphaseResampler(input_hz, output_hz), pcm, list(range(1500))) == uncut


@pytest.mark.parametrize(("input_hz", "output_hz"), RATES)
@settings(deadline=None, max_examples=40)
@given(pieces=st.lists(st.integers(0, 700), max_size=8))
def test_how_much_is_given_depends_only_on_how_much_went_in(input_hz: int, output_hz: int, pieces: list[int]) -> None:
    resampler = PolyphaseResampler(input_hz, output_hz)
    given_bytes = sum(len(resampler.process(noise(piece, seed))) for seed, piece in enumerate(pieces))
    assert given_bytes == len(PolyphaseResampler(input_hz, output_hz).process(bytes(2 * sum(pieces))))


@pytest.mark.parametrize("output_hz", WIDEBAND)
@settings(deadline=None)
@given(ulaw=st.binary(max_size=1200), cuts=st.lists(st.integers(0, 1200), max_size=12))
def test_the_ulaw_upsampler_gives_what_decoding_and_resampling_give(
    output_hz: int, ulaw: bytes, cuts: list[int]
) -> None:
    expected = whole(PolyphaseResampler(8000, output_hz), ulaw_decode(ulaw))
    assert in_pieces(UlawUpsampler(output_hz), ulaw, cuts, size=1) == expected


@pytest.mark.parametrize("input_hz", WIDEBAND)
@settings(deadline=None)
@given(samples=st.integers(0, 3000), cuts=st.lists(st.integers(0, 3000), max_size=12), seed=st.integers(0, 9))
def test_the_ulaw_downsampler_gives_what_resampling_and_encoding_give(
    input_hz: int, samples: int, cuts: list[int], seed: int
) -> None:
    pcm = noise(samples, seed)
    expected = ulaw_encode(whole(PolyphaseResampler(input_hz, 8000), pcm))
    assert in_pieces(UlawDownsampler(input_hz), pcm, cuts) == expected


def test_the_tail_reaches_to_the_end_of_the_input() -> None:
    wave = as_wave(whole(PolyphaseResampler(8000, 24000), as_pcm(np.full(800, 16000.0))))
    assert np.all(np.abs(wave[2000:2300] - 16000) < 160)
    assert np.all(wave[-30:-3] > 16000 / 3)


@pytest.mark.parametrize(
    "make", [lambda: PolyphaseResampler(24000, 8000), lambda: UlawUpsampler(24000), lambda: UlawDownsampler(16000)]
)
def test_after_a_flush_a_new_stream_begins(make: Callable[[], RateConverter]) -> None:
    converter = make()
    first = whole(converter, noise(334))
    assert whole(converter, noise(334)) == first
    assert converter.flush() == b""
    assert converter.process(b"") == b""


@pytest.mark.parametrize("make", [lambda: PolyphaseResampler(8000, 24000), lambda: UlawDownsampler(24000)])
def test_half_a_sample_is_refused_and_changes_nothing(make: Callable[[], RateConverter]) -> None:
    converter = make()
    with pytest.raises(ValueError, match="3 bytes"):
        converter.process(b"abc")
    assert whole(converter, noise(100)) == whole(make(), noise(100))


@pytest.mark.parametrize(
    "make", [lambda: PolyphaseResampler(8000, 24000), lambda: UlawUpsampler(24000), lambda: UlawDownsampler(24000)]
)
def test_any_contiguous_buffer_is_taken(make: Callable[[], RateConverter]) -> None:
    expected = whole(make(), noise(400))
    assert whole(make(), bytearray(noise(400))) == expected
    assert whole(make(), memoryview(b"-" + noise(400))[1:]) == expected
    with pytest.raises(BufferError):
        make().process(memoryview(noise(400))[::2])
    with pytest.raises(TypeError, match="format 'f'"):
        make().process(memoryview(np.zeros(8, np.float32)))


def test_buffers_of_samples_are_samples_and_never_codes() -> None:
    samples = memoryview(np.frombuffer(noise(400), np.int16))
    assert whole(UlawDownsampler(24000), samples) == whole(UlawDownsampler(24000), noise(400))
    with pytest.raises(TypeError, match="format 'h'"):
        UlawUpsampler(24000).process(samples)


@pytest.mark.parametrize(
    "rates_hz", [(8000, 8000), (8000, 48000), (16000, 24000), (44100, 8000), (0, 8000), (8000, -1)]
)
def test_ratios_without_a_filter_are_refused(rates_hz: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no fixed filter"):
        PolyphaseResampler(*rates_hz)


@pytest.mark.parametrize("make", [UlawUpsampler, UlawDownsampler])
@pytest.mark.parametrize("rate_hz", [8000, 48000, 0])
def test_ulaw_is_converted_to_and_from_no_other_rates(make: Callable[[int], RateConverter], rate_hz: int) -> None:
    with pytest.raises(ValueError, match="no fixed filter"):
        make(rate_hz)


@pytest.mark.parametrize("rates_hz", RATES)
def test_the_telephone_ratios_go_to_the_fixed_filters(rates_hz: tuple[int, int]) -> None:
    assert isinstance(make_resampler(*rates_hz), PolyphaseResampler)
    assert isinstance(make_resampler(*rates_hz, quality="sinc_best"), Resampler)


@pytest.mark.parametrize("rates_hz", [(8000, 8000), (8000, 44100), (24000, 16000), (8000, 48000)])
def test_every_other_ratio_goes_to_libsamplerate(rates_hz: tuple[int, int]) -> None:
    assert isinstance(make_resampler(*rates_hz), Resampler)


@pytest.mark.parametrize("rates_hz", RATES)
def test_both_resamplers_give_equally_long_streams(rates_hz: tuple[int, int]) -> None:
    for samples in range(12):
        assert len(whole(PolyphaseResampler(*rates_hz), noise(samples))) == len(
            whole(Resampler(*rates_hz), noise(samples))
        )


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_the_committed_filters_and_their_plot_are_what_their_programs_write(generator: Path) -> None:
    checked = subprocess.run(
        [sys.executable, str(generator), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_an_edited_filter_is_noticed(tmp_path: Path) -> None:
    program = tmp_path / GENERATORS[0].name
    program.write_bytes(GENERATORS[0].read_bytes())
    header = GENERATORS[0].with_suffix(".h").read_text()
    assert "8864, 10626" in header
    program.with_suffix(".h").write_text(header.replace("8864, 10626", "8864, 10627"))
    checked = subprocess.run(
        [sys.executable, str(program), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 1
    assert "stale" in checked.stderr
