"""Checks for audio that was transcoded on its way: exact bytes are gone, so length and alignment are compared.

Length is followed on every call, less what a resampler may hold back. On some calls everything is kept, and after the
run each half second is correlated with the tape: its lag must stay where it was (a lost or repeated frame moves it by
20 ms) and the correlation must stay high (damage lowers it). All correlation is done at 8 kHz.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .speech import FRAME_SAMPLES, PCM24K_BYTES_PER_SAMPLE, SAMPLES_PER_MS, Tape, ulaw_decoding_table

# What a resampler may hold back, generously: 5 ms.
HELD_BACK_SAMPLES = 5 * SAMPLES_PER_MS
_ALIGN_BYTES = 300 * SAMPLES_PER_MS * PCM24K_BYTES_PER_SAMPLE
_WINDOW = 500 * SAMPLES_PER_MS
_SEARCH = 500 * SAMPLES_PER_MS
_STEP_SAMPLES = 1 * SAMPLES_PER_MS
_WORST_CORRELATION = 0.9

_Signal = np.ndarray[tuple[int], np.dtype[np.float64]]


def best_lag(signal: _Signal, reference: _Signal) -> tuple[int, float]:
    """Offset of `signal` inside the longer `reference`, in samples, and the normalised correlation there."""
    size = 1 << (len(signal) + len(reference)).bit_length()
    spectrum = np.fft.rfft(reference, size) * np.conj(np.fft.rfft(signal, size))
    correlation = np.fft.irfft(spectrum, size)[: len(reference) - len(signal) + 1]
    lag = int(correlation.argmax())
    matched = reference[lag : lag + len(signal)]
    scale = float(np.linalg.norm(signal) * np.linalg.norm(matched))
    return lag, float(correlation[lag]) / scale if scale else 0.0


def pcm24k_as_8k(pcm: bytes) -> _Signal:
    """Every third sample of int16 24 kHz audio; the tape holds nothing above 3.3 kHz, so nothing aliases."""
    return np.frombuffer(pcm[: len(pcm) // 6 * 6], dtype="<i2")[::3].astype(np.float64)


def ulaw_as_8k(ulaw: bytes) -> _Signal:
    """Mu-law decoded."""
    return ulaw_decoding_table()[np.frombuffer(ulaw, dtype=np.uint8)].astype(np.float64)


class CountedUp:
    """Follows caller audio at the provider by counting, once its beginning has been found on the tape.

    Attributes:
        position: samples (8 kHz) accounted for, or None while the beginning is sought.
    """

    def __init__(self, tape: Tape, origin: int, *, keep: bool) -> None:
        self._tape, self._origin, self._keep = tape, origin, keep
        self._bytes = 0
        self._start = 0
        self.kept = bytearray()
        self.position: int | None = None
        self.skipped_at_start = 0
        self.unaligned = False

    def take(self, pcm: bytes, sent_samples: int) -> None:
        """Account for received PCM (int16, 24 kHz); `sent_samples` is all the caller has said so far, at 8 kHz."""
        self._bytes += len(pcm)
        if self._keep or self.position is None:
            self.kept += pcm
        if self.position is None:
            if self._bytes < _ALIGN_BYTES:
                return
            self._align(sent_samples)
        self.position = self._start + self._bytes // PCM24K_BYTES_PER_SAMPLE

    def _align(self, sent_samples: int) -> None:
        reference = pcm24k_as_8k(self._tape.pcm24k(self._origin, 0, sent_samples + _SEARCH))
        lag, correlation = best_lag(pcm24k_as_8k(bytes(self.kept)), reference)
        self.unaligned = correlation < _WORST_CORRELATION
        # The carrier speaks in whole frames, so only whole frames can be missing in front.
        self._start = self.skipped_at_start = round(lag / FRAME_SAMPLES) * FRAME_SAMPLES
        if not self._keep:
            self.kept.clear()


@dataclass
class Stretch:
    """Audio received without a break, and the position on its direction at which it began."""

    start: int
    audio: bytearray


@dataclass(frozen=True)
class Alignment:
    """What correlating one stretch showed."""

    windows: int
    steps: int
    damaged: int
    delay_ms: float


def check_alignment(signal: _Signal, tape: Tape, origin: int, start: int) -> Alignment:
    """Correlate a received signal (8 kHz) with the tape from `start` on, half a second at a time."""
    lags: list[int] = []
    damaged = 0
    for begin in range(0, len(signal) - _WINDOW + 1, _WINDOW):
        low = max(0, start + begin - _SEARCH)
        reference = pcm24k_as_8k(tape.pcm24k(origin, low, _WINDOW + 2 * _SEARCH))
        lag, correlation = best_lag(signal[begin : begin + _WINDOW], reference)
        if correlation < _WORST_CORRELATION:
            damaged += 1
        else:
            lags.append(low + lag - start - begin)
    steps = sum(abs(after - before) > _STEP_SAMPLES for before, after in pairwise(lags))
    delay_ms = -lags[0] / SAMPLES_PER_MS if lags else 0.0
    return Alignment(len(lags) + damaged, steps, damaged, delay_ms)
