"""Draws docs/resampling.svg: what the filters of `polyphase_filters.h` let through. Needs numpy.

    python codec_c/polyphase_plot.py            redraw it
    python codec_c/polyphase_plot.py --check    exit with status 1 if the picture is not what this program draws

Two panels: the whole range down to -100 dB, and the telephone band within 0.15 dB. Drawn from the rounded taps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from polyphase_filters import PASS_HZ, STOP_HZ, make_rows, response_db

PICTURE = Path(__file__).parents[1] / "docs" / "resampling.svg"
FILTERS = ((2, "up", "#0072b2"), (3, "up", "#d55e00"), (2, "down", "#009e73"), (3, "down", "#cc79a7"))
POINTS = 600
REQUIRED_DB = -70.0


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A rectangle of the picture and the ranges of its axes."""

    left: float
    top: float
    width: float
    height: float
    most_hz: float
    low_db: float
    high_db: float

    def x(self, hz: float) -> float:
        """Where a frequency lies in the picture."""
        return self.left + self.width * hz / self.most_hz

    def y(self, db: float) -> float:
        """Where a level lies in the picture; what is below the panel lies on its lower edge."""
        return self.top + self.height * (self.high_db - max(db, self.low_db)) / (self.high_db - self.low_db)

    def line(self, hz: tuple[float, float], db: tuple[float, float], colour: str, dashes: str = "") -> str:
        """A straight line from one point of the panel to another."""
        ends = f'x1="{self.x(hz[0]):.1f}" y1="{self.y(db[0]):.1f}" x2="{self.x(hz[1]):.1f}" y2="{self.y(db[1]):.1f}"'
        return f'<line {ends} stroke="{colour}" stroke-dasharray="{dashes or "none"}"/>'


WHOLE = Panel(left=60, top=30, width=800, height=280, most_hz=12000, low_db=-100, high_db=5)
BAND = Panel(left=60, top=370, width=800, height=160, most_hz=4000, low_db=-0.15, high_db=0.15)


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#333") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def axes(panel: Panel, step_hz: int, step_db: float) -> list[str]:
    """Grid lines and their labels."""
    drawn = []
    for hz in range(0, round(panel.most_hz) + 1, step_hz):
        drawn.append(panel.line((hz, hz), (panel.low_db, panel.high_db), "#ddd"))
        drawn.append(text(panel.x(hz), panel.top + panel.height + 16, f"{hz} Hz"))
    first, last = np.ceil(panel.low_db / step_db), np.floor(panel.high_db / step_db)
    for db in np.arange(first, last + 1) * step_db:
        drawn.append(panel.line((0, panel.most_hz), (float(db), float(db)), "#ddd"))
        drawn.append(text(panel.left - 6, panel.y(float(db)) + 4, f"{db:+.4g}", "end"))
    return drawn


def curve(panel: Panel, factor: int, way: str, colour: str) -> str:
    """The response of one filter as far as its Nyquist frequency."""
    frequencies = np.linspace(0, min(panel.most_hz, 4000.0 * factor), POINTS)
    levels = response_db(make_rows(factor, way), factor, frequencies)
    seen = levels >= panel.low_db if panel is BAND else np.full(POINTS, True)
    points = (f"{panel.x(hz):.1f},{panel.y(db):.1f}" for hz, db in zip(frequencies[seen], levels[seen], strict=True))
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>'


def limits() -> list[str]:
    """The borders of the bands, and what is required within them."""
    drawn = [WHOLE.line((hz, hz), (WHOLE.low_db, WHOLE.high_db), "#555", "2 3") for hz in (PASS_HZ, STOP_HZ)]
    drawn.append(WHOLE.line((STOP_HZ, WHOLE.most_hz), (REQUIRED_DB, REQUIRED_DB), "#555", "6 3"))
    drawn.append(BAND.line((PASS_HZ, PASS_HZ), (BAND.low_db, BAND.high_db), "#555", "2 3"))
    return drawn + [BAND.line((0, PASS_HZ), (db, db), "#555", "6 3") for db in (-0.1, 0.1)]


def legend() -> list[str]:
    """The names of the filters in their colours."""
    names = (f"{8 * factor} kHz to 8" if way == "down" else f"8 kHz to {8 * factor}" for factor, way, _ in FILTERS)
    return [
        text(WHOLE.left + 500 + 110 * (index % 2), WHOLE.top + 20 + 18 * (index // 2), name, "start", FILTERS[index][2])
        for index, name in enumerate(names)
    ]


def picture() -> str:
    """The whole of the SVG file."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 570" font-family="sans-serif" font-size="12">',
        '<rect width="900" height="570" fill="white"/>',
        text(WHOLE.left, 18, "Response in dB; dashed: what is required", "start"),
        text(BAND.left, 358, "The telephone band", "start"),
        *axes(WHOLE, 2000, 20.0),
        *axes(BAND, 500, 0.05),
        *limits(),
        *(curve(panel, *which) for panel in (WHOLE, BAND) for which in FILTERS),
        *legend(),
        "</svg>\n",
    ]
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Draw the picture, or compare it when `--check` is among the arguments; the result is an exit status."""
    if "--check" not in arguments:
        PICTURE.write_text(picture(), encoding="ascii")
        return 0
    if PICTURE.read_text(encoding="ascii") == picture():
        return 0
    print(f"{PICTURE} is stale: run python {Path(__file__).name}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
