"""Time per frame, delay and quality of anything that turns frames of audio into frames of audio.

Sans-IO but for the performance counter. Tones are fitted by least squares, so no output needs to be aligned beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_S: Final = 0.020
_AMPLITUDE: Final = 16_000.0
_BATCHES: Final = 5
# Left out of a fit at both ends of a signal: a filter begins and ends there.
_EDGE_S: Final = 0.1
_TONE_S: Final = 1.5

Convert = Callable[[bytes], bytes]
Signal = NDArray[np.float64]


def tone(frequency_hz: float, rate_hz: int, seconds: float = _TONE_S) -> bytes:
    """A sine of 16,000 at its peak, int16 little-endian, mono."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.rint(_AMPLITUDE * np.sin(2 * np.pi * frequency_hz * times_s)).astype("<i2").tobytes()


def cut(audio: bytes, rate_hz: int, bytes_per_sample: int) -> list[bytes]:
    """Audio in whole 20 ms frames."""
    size = round(rate_hz * FRAME_S) * bytes_per_sample
    return [audio[start : start + size] for start in range(0, len(audio) - size + 1, size)]


def time_per_frame_us(make: Callable[[], Convert], frames: Sequence[bytes], batch_s: float) -> float:
    """Microseconds per frame: the fastest of five batches, each at least `batch_s` long, since noise only ever adds."""
    convert = make()
    rounds, spent_s = 1, 0.0
    while spent_s < batch_s:
        rounds *= 2
        spent_s = _time_rounds(convert, frames, rounds)
    fastest_s = min(_time_rounds(convert, frames, rounds) for _ in range(_BATCHES))
    return fastest_s / (rounds * len(frames)) * 1e6


def _time_rounds(convert: Convert, frames: Sequence[bytes], rounds: int) -> float:
    began_at = time.perf_counter()
    for _ in range(rounds):
        for frame in frames:
            convert(frame)
    return time.perf_counter() - began_at


def fit_tone(signal: Signal, frequency_hz: float, rate_hz: int) -> tuple[complex, Signal]:
    """The tone in a signal, as amplitude and phase of `sin`, and what is left when it is taken out."""
    times_s = np.arange(len(signal)) / rate_hz
    angle = 2 * np.pi * frequency_hz * times_s
    basis = np.stack([np.sin(angle), np.cos(angle), np.ones_like(angle)], axis=1)
    (sine, cosine, offset), *_ = np.linalg.lstsq(basis, signal, rcond=None)
    return complex(sine, cosine), signal - basis @ np.array([sine, cosine, offset])


def _inner(signal: Signal, rate_hz: int) -> Signal:
    edge = round(_EDGE_S * rate_hz)
    return signal[edge:-edge]


def snr_db(signal: Signal, frequency_hz: float, rate_hz: int) -> float:
    """Power of a tone over the power of everything else (distortion, images, rounding), in dB."""
    fitted, rest = fit_tone(_inner(signal, rate_hz), frequency_hz, rate_hz)
    return float(10 * np.log10(abs(fitted) ** 2 / 2 / max(float(np.mean(rest**2)), 1e-12)))


def alias_db(signal: Signal, rate_hz: int) -> float:
    """What came through of a tone that must not, against the tone that went in, in dB."""
    inner = _inner(signal, rate_hz)
    power = float(np.mean((inner - inner.mean()) ** 2))
    return float(10 * np.log10(max(power, 1e-3) / (_AMPLITUDE**2 / 2)))


def delay_ms(convert: Convert, *, input_hz: int, output_hz: int) -> float:
    """How long after a sample went in it has come out, at worst over the frames of a second, in ms.

    Audio that is held back counts, and audio that comes out shifted. Both sides int16; sample j of the output belongs to the
    time `j / output_hz` of the input unless it is shifted.
    """
    frequency_hz = 60.0
    given, held_s, out = 0, 0.0, bytearray()
    for index, frame in enumerate(cut(tone(frequency_hz, input_hz), input_hz, 2)):
        out += convert(frame)
        given += len(frame) // 2
        if index >= 25:
            held_s = max(held_s, given / input_hz - len(out) // 2 / output_hz)
    edge = round(_EDGE_S * output_hz)
    signal = np.frombuffer(bytes(out), "<i2").astype(np.float64)[edge:-edge]
    fitted, _ = fit_tone(signal, frequency_hz, output_hz)
    expected = 2 * np.pi * frequency_hz * edge / output_hz
    turned = np.angle(fitted * np.exp(-1j * expected))
    shift_s = -float(turned) / (2 * np.pi * frequency_hz)
    return (held_s + shift_s) * 1000
