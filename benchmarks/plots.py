"""Plots as PNG, in a light and a dark version, by matplotlib: the optional extra `plots`.

Draws what an outcome describes and decides nothing. Each call makes its own figure and closes it; no state of matplotlib
outside the drawing is changed, and no display is needed.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from benchmarks.outcome import BarPlot, Heatmap, LinePlot, Plot

_INK = {"light": "#1c1e21", "dark": "#e4e6eb"}
_PAPER = {"light": "#ffffff", "dark": "#18191a"}
_LINES = ("#2b7de9", "#e8710a", "#12a150", "#c13bd6", "#d1a000", "#e0245e", "#00a3a3", "#7a6ff0")
_DPI = 130


class PlotsUnavailable(Exception):
    """matplotlib is not installed."""


def require_plots() -> None:
    """Raises PlotsUnavailable, which says what to install, unless plots can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotsUnavailable("--report needs matplotlib: pip install 'media-engine[plots]'")


def draw(plot: Plot, theme: str) -> bytes:
    """A plot as PNG.

    Args:
        plot: What to draw.
        theme: `light` or `dark`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  optional

    height = 0.42 * len(plot.labels) + 1.4 if isinstance(plot, BarPlot) else 3.8
    figure = Figure(figsize=(6.0, height), dpi=_DPI, facecolor=_PAPER[theme], layout="constrained")
    axes = figure.add_subplot()
    _dress(axes, plot.title, theme)
    match plot:
        case LinePlot():
            _draw_lines(axes, plot, theme)
        case BarPlot():
            _draw_bars(axes, plot, theme)
        case Heatmap():
            _draw_heatmap(axes, plot, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=_PAPER[theme])
    return buffer.getvalue()


def _dress(axes: Any, title: str, theme: str) -> None:
    ink = _INK[theme]
    axes.set_facecolor(_PAPER[theme])
    axes.set_title(title, color=ink, fontsize=11, loc="left")
    axes.tick_params(colors=ink, labelsize=9)
    axes.xaxis.label.set_color(ink)
    axes.yaxis.label.set_color(ink)
    for spine in axes.spines.values():
        spine.set_color(ink)
        spine.set_alpha(0.4)


def _draw_lines(axes: Any, plot: LinePlot, theme: str) -> None:
    for index, series in enumerate(plot.series):
        axes.plot(series.x, series.y, marker="o", ms=4, lw=1.8, color=_LINES[index % len(_LINES)], label=series.name)
    for name, value in plot.limits:
        axes.axhline(value, color="#e0245e", lw=1.2, ls="--")
        axes.annotate(
            name, (0.995, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#e0245e", size=8
        )
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.grid(visible=True, color=_INK[theme], alpha=0.15)
    if len(plot.series) > 1:
        axes.legend(fontsize=8, labelcolor=_INK[theme], facecolor=_PAPER[theme], framealpha=0.7)


def _draw_bars(axes: Any, plot: BarPlot, theme: str) -> None:
    places = range(len(plot.labels))
    axes.barh(places, plot.values, color=_LINES[0])
    axes.set_yticks(places, plot.labels)
    axes.invert_yaxis()
    axes.set_xlabel(plot.x_label)
    for place, value in zip(places, plot.values, strict=True):
        axes.annotate(f" {value:,.3g}", (value, place), va="center", color=_INK[theme], size=8, annotation_clip=False)
    axes.margins(x=0.15)


def _draw_heatmap(axes: Any, plot: Heatmap, theme: str) -> None:
    known = [[float("nan") if value is None else value for value in row] for row in plot.values]
    image = axes.imshow(known, cmap="RdYlGn_r", aspect="auto", origin="lower")
    axes.set_xticks(range(len(plot.x_ticks)), plot.x_ticks)
    axes.set_yticks(range(len(plot.y_ticks)), plot.y_ticks)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    for y, row in enumerate(plot.values):
        for x, value in enumerate(row):
            if value is not None:
                ink = _readable_on(image.cmap(image.norm(value)))
                axes.text(x, y, f"{value:,.{plot.digits}f}", ha="center", va="center", color=ink, size=11)
    if plot.chosen is not None:
        x, y = plot.chosen
        outline = axes.add_patch(_rectangle(x - 0.5, y - 0.5))
        outline.set_clip_on(False)
    bar = axes.figure.colorbar(image, ax=axes)
    bar.set_label(plot.unit, color=_INK[theme])
    bar.ax.tick_params(colors=_INK[theme], labelsize=8)


def _readable_on(color: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out."""
    red, green, blue, _ = color
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#111111"


def _rectangle(x: float, y: float) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  optional

    return Rectangle((x, y), 1, 1, fill=False, lw=3, ec="#2b7de9")
