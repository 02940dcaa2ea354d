"""Writes `g711_tables.h`: the lookup tables of `g711.c`, with the formula that made each.

    python codec_c/g711_tables.py            rewrite g711_tables.h
    python codec_c/g711_tables.py --check    exit with status 1 if the file is not what this program writes

Everything follows from ITU-T G.711 (1988), tables 1 and 2, with samples scaled to 16 bits:

    mu-law  14-bit magnitude m, bias 33; segment e holds biased magnitudes 2^(e+5) to 2^(e+6) - 1, in 16 steps of 2^(e+1)
    A-law   13-bit magnitude m, no bias; segment 0 is linear, segment e > 0 holds magnitudes 2^(e+4) to 2^(e+5) - 1, in 16
            steps (magnitudes here are counted in A-law's own step of two, so m runs from 0 to 2047)

Negative samples are mirrored as one's complement (-1 is the mirror of 0), as the ITU's own software does it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HEADER = Path(__file__).with_name("g711_tables.h")
VALUES_PER_LINE = 16


def ulaw_sample(code: int) -> int:
    """The 16-bit sample at the middle of a mu-law code's step: ((2 * mantissa + 33) * 2^segment - 33) * 4."""
    inverted = ~code & 0xFF
    segment, mantissa = inverted >> 4 & 7, inverted & 15
    magnitude = (((mantissa << 1) + 33 << segment) - 33) * 4
    return -magnitude if inverted & 0x80 else magnitude


def alaw_sample(code: int) -> int:
    """The 16-bit sample at the middle of an A-law code's step: (mantissa [+ 16] + 1/2) * 16 * 2^max(segment - 1, 0)."""
    plain = code ^ 0x55
    segment, mantissa = plain >> 4 & 7, plain & 15
    step = (mantissa if segment == 0 else mantissa + 16) * 16 + 8
    magnitude = step << max(segment - 1, 0)
    return magnitude if plain & 0x80 else -magnitude


def ulaw_segment(biased_by_32: int) -> int:
    """The mu-law segment of a biased 13-bit magnitude, given as magnitude // 32: floor(log2(index)), index 1 to 255."""
    return max(biased_by_32.bit_length() - 1, 0)


def alaw_segment(magnitude_by_16: int) -> int:
    """The A-law segment of an 11-bit magnitude, given as magnitude // 16: floor(log2(index)) + 1, and 0 for index 0."""
    return magnitude_by_16.bit_length()


TABLES: Sequence[tuple[str, str, int, Callable[[int], int], str]] = (
    ("int16_t", "g711_ulaw_sample", 256, ulaw_sample, "[code] = +-((2 * mantissa + 33) * 2^segment - 33) * 4"),
    ("int16_t", "g711_alaw_sample", 256, alaw_sample, "[code] = +-(16 * mantissa' + 8) * 2^max(segment - 1, 0)"),
    ("uint8_t", "g711_ulaw_segment", 256, ulaw_segment, "[biased magnitude / 32] = floor(log2(index)); [0] is unused"),
    ("uint8_t", "g711_alaw_segment", 128, alaw_segment, "[magnitude / 16] = floor(log2(index)) + 1, and 0 for 0"),
)


def table_text(ctype: str, name: str, size: int, value: Callable[[int], int], formula: str) -> str:
    """One table as C: its formula in a comment, then sixteen values per line."""
    rows = (range(start, start + VALUES_PER_LINE) for start in range(0, size, VALUES_PER_LINE))
    body = "\n".join("    " + " ".join(f"{value(index)}," for index in row) for row in rows)
    return f"/* {name}{formula} */\nstatic const {ctype} {name}[{size}] = {{\n{body}\n}};\n"


def header_text() -> str:
    """The whole of `g711_tables.h`."""
    opening = (
        "/* Written by g711_tables.py, which has the formulas' origin. Do not edit: change and run the program. */\n"
        "#ifndef G711_TABLES_H\n#define G711_TABLES_H\n\n#include <stdint.h>\n"
    )
    return "\n".join([opening, *(table_text(*table) for table in TABLES), "#endif\n"])


def main(arguments: Sequence[str]) -> int:
    """Write the header, or compare it when `--check` is among the arguments; the result is an exit status."""
    if "--check" not in arguments:
        HEADER.write_text(header_text(), encoding="ascii")
        return 0
    if HEADER.read_text(encoding="ascii") == header_text():
        return 0
    print(f"{HEADER} is stale: run python {Path(__file__).name}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
