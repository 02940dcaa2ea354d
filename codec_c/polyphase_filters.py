"""Writes `polyphase_filters.h`: the filters of `polyphase.c`, with how they were made. Needs numpy, which `polyphase.c` does not.

    python codec_c/polyphase_filters.py             rewrite polyphase_filters.h
    python codec_c/polyphase_filters.py --check     exit with status 1 if the file is not what this program writes
    python codec_c/polyphase_filters.py --search    print the weights of the stopband that suit each filter best

One low-pass filter for each factor between 8000 Hz and the higher rate, 2 and 3, of odd length and symmetric: its delay is a whole
number of samples and the same at all frequencies. It keeps 0 to 3400 Hz, the telephone band, and stops what lies from 4600 Hz on:
8000 - 3400 is the lowest image of the band that is kept, and the lowest frequency whose alias would fall into it. In between,
only what lies above 3400 Hz is at stake.

The length, 24 samples at 8000 Hz, makes three registers of eight samples for each phase of an interpolator, and a lookahead of
12 samples: 1.5 ms. The error is minimax (Lawson's iteration of weighted least squares), the stopband's weighed STOP_WEIGHT times
the passband's. The taps are rounded to 16 bits such that each phase of an interpolator, and each decimator as a whole, adds up to
exactly 1: a constant comes out as it went in. Of the weights 20, 22 ... 70 that keep the ripple below 0.042 dB, each filter has
that with the lowest floor after rounding, the flatter one at a tie; without rounding, floors would be near -80 dB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Taps = NDArray[np.int64]

HEADER = Path(__file__).with_name("polyphase_filters.h")
LOW_HZ = 8000
PASS_HZ, STOP_HZ = 3400.0, 4600.0
LOOKAHEAD = 12  # samples at 8000 Hz
STOP_WEIGHT = {(2, "up"): 52.0, (3, "up"): 46.0, (2, "down"): 38.0, (3, "down"): 40.0}
# 2^bits is a tap of 1. The most that the sum of |tap| may be is 65535, or full-scale input could overflow 32 bits.
BITS = {"up": 14, "down": 15}
MOST_TAP_SUM = 65535
GRID_POINTS = 200  # in the passband
PIN_WEIGHT = 1e4  # of the error at 0 Hz and at 8000 Hz, the image of 0 Hz: next to none before rounding, none after
ROUNDS = 100
MOST_RIPPLE_DB = 0.042
VALUES_PER_LINE = 12


def design_half(factor: int, stop_weight: float) -> Floats:
    """Taps 0 to 12 * factor - 1 of the symmetric low-pass filter with the least weighted error, counted from its middle."""
    nyquist_hz = LOW_HZ * factor / 2
    stop_points = round(GRID_POINTS * (nyquist_hz - STOP_HZ) / PASS_HZ)
    kept_hz, stopped_hz = np.linspace(0, PASS_HZ, GRID_POINTS), np.linspace(STOP_HZ, nyquist_hz, stop_points)
    grid_hz = np.concatenate([kept_hz, stopped_hz, [0, LOW_HZ]])
    wanted = np.where(grid_hz <= PASS_HZ, 1.0, 0.0)
    importance = np.where(grid_hz <= PASS_HZ, 1.0, stop_weight)
    importance[-2:] = PIN_WEIGHT
    cosines = 2 * np.cos(2 * np.pi * np.outer(grid_hz, np.arange(LOOKAHEAD * factor)) / (LOW_HZ * factor))
    cosines[:, 0] = 1  # the middle tap is there once
    weight = np.ones_like(grid_hz)
    for _ in range(ROUNDS):
        scale = np.sqrt(weight) * importance
        half: Floats = np.linalg.lstsq(cosines * scale[:, None], wanted * scale, rcond=None)[0]
        error = np.abs(cosines @ half - wanted) * importance
        weight[:-2] *= error[:-2]  # what errs most counts more in the next round
        weight[:-2] = np.maximum(weight[:-2] / weight[:-2].max(), 1e-12)
    return half


def positions(factor: int, way: str) -> Taps:
    """Where the taps stand in the filter, counted from its middle: a row for each phase, in the order of the samples they weigh.

    Output j of an interpolator is the product of row j % factor and the samples at 8000 Hz from j // factor - 11 to
    j // factor + 12; output j of a decimator that of its only row and the samples from factor * j - (12 * factor - 1) to
    factor * j + 12 * factor. At both ends stand places beyond the filter: their taps are 0.
    """
    if way == "down":
        return np.arange(1 - LOOKAHEAD * factor, LOOKAHEAD * factor + 1)[None, :]
    samples = np.arange(1 - LOOKAHEAD, LOOKAHEAD + 1)
    return np.arange(factor)[:, None] - factor * samples[None, :]


def round_to_sum(values: Floats, times: Taps, total: int) -> Taps:
    """Whole numbers near `values` whose sum, each counted `times`, is `total`; the roundings nearest to a half give way."""
    rounded = np.rint(values).astype(np.int64)
    while (missing := total - int(rounded @ times)) != 0:
        step = 1 if missing > 0 else -1
        gain = np.where(times <= abs(missing), (values - rounded) * step, -np.inf)
        rounded[int(np.argmax(gain))] += step
    return rounded


def rounded_rows(half: Floats, factor: int, way: str) -> Taps:
    """The rows of `positions`, filled from `design_half`: 16-bit fractions, and each row adds up to 1."""
    one = 1 << BITS[way]
    rounded = np.zeros(LOOKAHEAD * factor + 1, np.int64)  # the last is beyond the filter: 0
    places = np.abs(positions(factor, way))
    for row in places[: factor // 2 + 1]:  # the other rows mirror these
        index, times = np.unique(row[row < len(half)], return_counts=True)
        rounded[index] = round_to_sum(half[index] / (half[index] @ times) * one, times, one)
    return rounded[np.minimum(places, len(half))]


def make_rows(factor: int, way: str, stop_weight: float | None = None) -> Taps:
    """The taps of one filter as the header has them: `factor` rows for `up`, one row for `down`."""
    weight = STOP_WEIGHT[factor, way] if stop_weight is None else stop_weight
    return rounded_rows(design_half(factor, weight), factor, way)


def response_db(rows: Taps, factor: int, hz: Floats) -> Floats:
    """How much of each frequency the rounded filter lets through, in dB."""
    way = "down" if len(rows) == 1 else "up"
    one = (1 << BITS[way]) * len(rows)
    angles = 2 * np.pi * np.outer(hz, positions(factor, way).ravel()) / (LOW_HZ * factor)
    amplitude: Floats = np.abs(np.cos(angles) @ rows.ravel()) / one
    return 20 * np.log10(np.maximum(amplitude, 1e-9))


def ripple_and_floor_db(rows: Taps, factor: int) -> tuple[float, float]:
    """The largest deviation in the passband, and the largest remnant in the stopband, both in dB."""
    kept = response_db(rows, factor, np.linspace(0, PASS_HZ, 2000))
    stopped = response_db(rows, factor, np.linspace(STOP_HZ, LOW_HZ * factor / 2, 5000))
    return float(np.abs(kept).max()), float(stopped.max())


def table_text(factor: int, way: str) -> str:
    """One filter as C: what it is and measures in a comment, then its rows."""
    rows = make_rows(factor, way)
    ripple_db, floor_db = ripple_and_floor_db(rows, factor)
    most = int(np.abs(rows).sum(axis=1).max())
    assert most <= MOST_TAP_SUM
    assert all(int(row.sum()) == 1 << BITS[way] for row in rows)
    low, high = LOW_HZ, LOW_HZ * factor
    rates = f"{low} to {high} Hz" if way == "up" else f"{high} to {low} Hz"
    comment = f"/* {rates}: ripple {ripple_db:.3f} dB, floor {floor_db:.1f} dB; the |taps| of a row add up to at most {most} */"
    body = "\n".join(f"    {{\n{row_text(row)}\n    }}," for row in rows)
    name = f"polyphase_{way}_by_{factor}"
    return f"{comment}\nstatic const int16_t {name}[{len(rows)}][{rows.shape[1]}] = {{\n{body}\n}};\n"


def row_text(row: Taps) -> str:
    """One row's taps, twelve per line."""
    lines = (row[start : start + VALUES_PER_LINE] for start in range(0, len(row), VALUES_PER_LINE))
    return "\n".join("        " + " ".join(f"{tap}," for tap in line) for line in lines)


def header_text() -> str:
    """The whole of `polyphase_filters.h`."""
    opening = (
        "/* Written by polyphase_filters.py, which has the filters' origin. Do not edit: change and run the program. */\n"
        "#ifndef POLYPHASE_FILTERS_H\n#define POLYPHASE_FILTERS_H\n\n#include <stdint.h>\n\n"
        f"#define POLYPHASE_LOOKAHEAD {LOOKAHEAD} /* samples at {LOW_HZ} Hz */\n"
        f"#define POLYPHASE_UP_BITS {BITS['up']} /* a tap of 1 is 2^bits */\n"
        f"#define POLYPHASE_DOWN_BITS {BITS['down']}\n"
    )
    return "\n".join([opening, *(table_text(factor, way) for way in BITS for factor in (2, 3)), "#endif\n"])


def search_weights() -> None:
    """Print, for each filter, the stopband weights with the lowest floors among those that keep the ripple small."""
    for factor, way in STOP_WEIGHT:
        weights = range(20, 72, 2)
        tried = [(*ripple_and_floor_db(make_rows(factor, way, weight), factor), weight) for weight in weights]
        flat = [found for found in tried if found[0] < MOST_RIPPLE_DB]
        for ripple_db, floor_db, weight in sorted(flat, key=lambda found: (round(found[1], 1), found[0]))[:3]:
            print(f"{way} by {factor}: weight {weight}, ripple {ripple_db:.3f} dB, floor {floor_db:.1f} dB")


def main(arguments: Sequence[str]) -> int:
    """Do what the module's docstring says; the result is an exit status."""
    if arguments[:1] == ["--search"]:
        search_weights()
    elif "--check" not in arguments:
        HEADER.write_text(header_text(), encoding="ascii")
    elif HEADER.read_text(encoding="ascii") != header_text():
        print(f"{HEADER} is stale: run python {Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
