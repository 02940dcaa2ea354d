"""What the page draws: the call's lanes on one axis, and the barge-in from close up.

Owns the choice and arrangement of what is seen; `chart` does the arithmetic, the template the looks. Pure: an `Account`
and its `Figures` in, plain frozen data out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.demo.account import Account
from engine.demo.chart import (
    LEFT,
    RIGHT,
    WIDTH,
    Axis,
    Tick,
    depth_path,
    depth_scale_ms,
    fit_label,
    full_scale,
    time_ticks,
    wave_path,
)
from engine.demo.figures import BargeIn, Figures
from engine.demo.stereo import Samples

WAVE_MIDDLE, WAVE_HEIGHT = 58, 34
DEPTH_BOTTOM, DEPTH_HEIGHT = 92, 78
# Between two neighbours' labels.
LABEL_GAP = 10
CLOSE_MIDDLE_CALLER, CLOSE_MIDDLE_AGENT, CLOSE_HEIGHT = 106, 194, 34
# The close-up's window around the moment Twilio's buffer was cleared.
_BEFORE_S, _AFTER_S = 0.75, 0.45


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a lane with a label that fits it."""

    x: float
    width: float
    label: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All lanes of the whole call."""

    axis: Axis
    ticks: tuple[Tick, ...]
    caller_path: str
    agent_path: str
    caller_spans: tuple[Span, ...]
    agent_spans: tuple[Span, ...]
    depth_path: str
    depth_ticks: tuple[Tick, ...]
    lead_y: float
    tool_spans: tuple[Span, ...]
    marks_sent: tuple[float, ...]
    marks_returned: tuple[float, ...]
    clears: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CloseUp:
    """The barge-in: a second around the `clear`."""

    axis: Axis
    caller_path: str
    agent_path: str
    began_x: float
    noticed_x: float
    cleared_x: float
    discarded_width: float
    discarded_ms: float
    true_x: float
    told_x: float
    ticks: tuple[Tick, ...]


def draw_timeline(account: Account, figures: Figures, caller: Samples, agent: Samples) -> Timeline:
    """Arranges the whole call on one axis, from the stream's start to the call's end."""
    record = account.record
    axis = Axis(record.started_at_s, max(record.ended_at_s, record.started_at_s + 1))
    scale = full_scale(caller, agent)
    top_ms = depth_scale_ms(record.depth, account.lead_ms)
    return Timeline(
        axis=axis,
        ticks=time_ticks(axis),
        caller_path=_wave(caller, axis, axis.begin_s, WAVE_MIDDLE, WAVE_HEIGHT * scale),
        agent_path=_wave(agent, axis, axis.begin_s, WAVE_MIDDLE, WAVE_HEIGHT * scale),
        caller_spans=_spans(axis, [(one.started_at_s, one.ended_at_s, one.text) for one in account.lines]),
        agent_spans=_spans(axis, [(one.started_at_s, one.ended_at_s, one.reply.text) for one in figures.hearings]),
        depth_path=depth_path(record.depth, axis, bottom=DEPTH_BOTTOM, height=DEPTH_HEIGHT, top_ms=top_ms),
        depth_ticks=tuple(
            Tick(position=_depth_y(value, top_ms), label=f"{value:.0f}") for value in (0, top_ms / 2, top_ms)
        ),
        lead_y=_depth_y(account.lead_ms, top_ms),
        tool_spans=_tool_spans(account, axis),
        marks_sent=_event_positions(account, axis, "mark_received"),
        marks_returned=_event_positions(account, axis, "mark_returned"),
        clears=_event_positions(account, axis, "clear"),
    )


def draw_close_up(account: Account, barge_in: BargeIn, caller: Samples, agent: Samples) -> CloseUp:
    """Arranges the moment of interruption."""
    record, hearing = account.record, barge_in.hearing
    axis = Axis(barge_in.cleared_at_s - _BEFORE_S, barge_in.cleared_at_s + _AFTER_S)
    began_s = min((one.started_at_s for one in account.lines), key=lambda at_s: abs(at_s - barge_in.noticed_at_s))
    scale = CLOSE_HEIGHT * full_scale(caller, agent)
    discarded_ms = _depth_before(account, barge_in.cleared_at_s)
    error_s = barge_in.error_ms / 1000
    return CloseUp(
        axis=axis,
        caller_path=_wave(caller, axis, record.started_at_s, CLOSE_MIDDLE_CALLER, scale),
        agent_path=_wave(agent, axis, record.started_at_s, CLOSE_MIDDLE_AGENT, scale),
        began_x=axis.x(began_s),
        noticed_x=axis.x(barge_in.noticed_at_s),
        cleared_x=axis.x(barge_in.cleared_at_s),
        discarded_width=axis.width(barge_in.cleared_at_s, barge_in.cleared_at_s + discarded_ms / 1000),
        discarded_ms=discarded_ms,
        true_x=axis.x(hearing.ended_at_s),
        told_x=axis.x(hearing.ended_at_s + error_s),
        ticks=tuple(
            Tick(position=axis.x(barge_in.cleared_at_s + ms / 1000), label=f"{ms:+d} ms" if ms else "clear")
            for ms in range(-600, 401, 100)
        ),
    )


def plot_share(at_s: float, axis: Axis) -> float:
    """A time's place in the whole drawing, as a percentage of its width."""
    return round(axis.x(at_s) / WIDTH * 100, 3)


def plot_margins() -> tuple[float, float]:
    """The plot's left edge and its width as shares of the drawing, for the playhead."""
    return LEFT / WIDTH, (WIDTH - LEFT - RIGHT) / WIDTH


def _wave(track: Samples, axis: Axis, origin_s: float, middle: float, height: float) -> str:
    return wave_path(track, axis, origin_s=origin_s, middle=middle, height=height)


def _spans(axis: Axis, stretches: Sequence[tuple[float, float, str]]) -> tuple[Span, ...]:
    """Spans whose labels may reach beyond them, up to where the next one begins."""
    rooms = [axis.x(begin_s) for begin_s, _, _ in stretches[1:]] + [float(WIDTH)]
    return tuple(
        Span(
            x=axis.x(begin_s),
            # A hair less than it lasted, so that neighbours stay apart.
            width=round(axis.width(begin_s, end_s) - 1.4, 1),
            label=fit_label(text, room - axis.x(begin_s) - LABEL_GAP),
            title=text,
        )
        for (begin_s, end_s, text), room in zip(stretches, rooms, strict=False)
    )


def _tool_spans(account: Account, axis: Axis) -> tuple[Span, ...]:
    spans = []
    for use in account.provider.tool_uses:
        end_s = account.record.ended_at_s if use.answered_at_s is None else use.answered_at_s
        took = "no answer" if use.answered_at_s is None else f"{(end_s - use.called_at_s) * 1000:.0f} ms"
        label = f"{use.name}, {took}"
        spans.append(
            Span(x=axis.x(use.called_at_s), width=axis.width(use.called_at_s, end_s), label=label, title=use.arguments)
        )
    return tuple(spans)


def _event_positions(account: Account, axis: Axis, kind: str) -> tuple[float, ...]:
    return tuple(axis.x(event.at_s) for event in account.record.events if event.kind == kind)


def _depth_y(depth_ms: float, top_ms: float) -> float:
    return round(DEPTH_BOTTOM - depth_ms / top_ms * DEPTH_HEIGHT, 1)


def _depth_before(account: Account, at_s: float) -> float:
    """How much audio waited just before a moment; the sample at the moment itself is of what is left."""
    earlier = [depth_ms for sampled_s, depth_ms in account.record.depth if sampled_s <= at_s and depth_ms > 0]
    return earlier[-1] if earlier else 0.0
