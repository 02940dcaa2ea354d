"""Geometry of the page's drawings: times and samples in, SVG coordinates and path data out.

Owns the one time axis that all lanes share, and the close-up's. Knows no colours and no words but labels cut to their
space. Coordinates are the user units of an SVG `WIDTH` wide; path data are rounded to a tenth of a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.demo.stereo import SAMPLE_RATE_HZ, Samples

WIDTH = 1120
# Room for row and scale labels on the left; none is needed on the right but a breath.
LEFT = 58
RIGHT = 12
# Average advance of the label face at 12 px, measured on English text, with a little to spare.
_CHARACTER_WIDTH = 7.0


@dataclass(frozen=True)
class Axis:
    """Maps absolute times to x, linearly, from `begin_s` at `LEFT` to `end_s` at the right margin."""

    begin_s: float
    end_s: float

    @property
    def scale(self) -> float:
        """Units per second."""
        return (WIDTH - LEFT - RIGHT) / (self.end_s - self.begin_s)

    def x(self, at_s: float) -> float:
        """The coordinate of a time, held inside the plot."""
        inside = min(max(at_s, self.begin_s), self.end_s)
        return round(LEFT + (inside - self.begin_s) * self.scale, 1)

    def width(self, begin_s: float, end_s: float) -> float:
        """How wide an interval is drawn, never invisible."""
        return round(max(self.x(end_s) - self.x(begin_s), 1.5), 1)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One mark of a scale."""

    position: float
    label: str


def time_ticks(axis: Axis) -> tuple[Tick, ...]:
    """Whole seconds, few enough to be read, counted from the axis' beginning."""
    duration_s = axis.end_s - axis.begin_s
    step = next(step for step in (1, 2, 5, 10, 30, 60, 600) if duration_s / step <= 16)
    last = int(duration_s // step)
    return tuple(Tick(position=axis.x(axis.begin_s + n * step), label=f"{n * step} s") for n in range(last + 1))


def wave_path(track: Samples, axis: Axis, *, origin_s: float, middle: float, height: float) -> str:
    """The envelope of a track as one closed shape.

    Args:
        track: int16, 8000 Hz; its first sample is at `origin_s`.
        axis: What part of it is drawn, one column per unit.
        origin_s: Absolute time of the first sample.
        middle: y of silence.
        height: Distance of full scale from the middle.

    Returns:
        SVG path data; two points per column.
    """
    columns = WIDTH - LEFT - RIGHT
    times = np.linspace(axis.begin_s, axis.end_s, columns + 1) - origin_s
    edges = np.clip(np.round(times * SAMPLE_RATE_HZ).astype(int), 0, track.size)
    upper, lower = [], []
    for column in range(columns):
        samples = track[edges[column] : edges[column + 1]]
        high, low = (int(samples.max()), int(samples.min())) if samples.size else (0, 0)
        # A hairline stays where it is silent, so that the lane never looks broken.
        upper.append(f"{LEFT + column} {middle - max(high / 32768 * height, 0.4):.1f}")
        lower.append(f"{LEFT + column} {middle - min(low / 32768 * height, -0.4):.1f}")
    return "M" + "L".join((*upper, *reversed(lower))) + "Z"


def full_scale(*tracks: Samples) -> float:
    """How much the tracks may be magnified together before the loudest touches full scale."""
    peak = max((int(np.abs(track.astype(np.int32)).max()) for track in tracks if track.size), default=0)
    return 32768 / peak if peak else 1.0


def depth_path(depth: Sequence[tuple[float, float]], axis: Axis, *, bottom: float, height: float, top_ms: float) -> str:
    """Buffer depth over time as a filled area standing on `bottom`.

    Between two samples the depth changes linearly: it plays. Points that fall on one column keep only the extremes.
    """
    if not depth:
        return ""
    points = [(axis.x(depth[0][0]), bottom)]
    for at_s, depth_ms in depth:
        x, y = axis.x(at_s), bottom - min(depth_ms / top_ms, 1.0) * height
        if len(points) > 2 and points[-1][0] == points[-2][0] == x:
            points.pop()
        points.append((x, y))
    points.append((points[-1][0], bottom))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"


def depth_scale_ms(depth: Sequence[tuple[float, float]], lead_ms: float) -> float:
    """The top of the depth scale: a round number above everything drawn."""
    highest = max((depth_ms for _, depth_ms in depth), default=0.0)
    steps = (100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 1000.0, 2000.0, 5000.0, 10000.0)
    return next((step for step in steps if step >= 1.05 * max(highest, lead_ms)), 60000.0)


def fit_label(text: str, width: float) -> str:
    """The text, cut behind a word to what fits and marked so; nothing if not even one word would."""
    room = int(width / _CHARACTER_WIDTH)
    if len(text) <= room:
        return text
    cut = text[: max(room, 1)]
    whole_words = cut.rpartition(" ")[0].rstrip(" ,.")
    return f"{whole_words}…" if whole_words else ""
