"""`pacer`: how late frames leave with many calls, and how a stall of the process is heard and made good."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from typing import Any, Final

import trio

from benchmarks.load.figures import percentile
from benchmarks.option_lists import positive_list
from benchmarks.outcome import Cell, Column, LinePlot, Outcome, Section, Series, Table
from benchmarks.pacer.calls import Pacing
from benchmarks.pacer.ways import LONGEST_S, WAYS, Measured
from benchmarks.progress import Progress

SUMMARY: Final = "how late frames leave with 1 to 1,000 calls, and what a stall does"
QUESTION: Final = "How punctually do frames leave, what does that cost, and what does the caller hear of a stall?"
_CALLS: Final = (1, 10, 100, 300, 1000)
_STALLS_MS: Final = (50.0, 150.0, 400.0)
_STALL_STEP_S: Final = 1.0
_STALLS_PER_RUN: Final = 2
# Settling, and starting a Trio run.
_OVERHEAD_S: Final = 0.8
_ENGINE: Final = "engine: clock and mover"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "--calls", type=positive_list(int), metavar="N,N", help="calls at the same time (default 1 to 1000)"
    )
    parser.add_argument("--stalls-ms", type=positive_list(float), metavar="MS,MS", help="stalls (default 50,150,400)")
    parser.add_argument("--stall-calls", type=int, default=100, help="calls during the stalls (default 100)")
    parser.add_argument("--seconds", type=float, help="measured seconds of each run (default 3)")
    parser.add_argument("--frame-ms", type=int, default=20)
    parser.add_argument("--lead-ms", type=int, default=200)


def _plan(options: argparse.Namespace) -> tuple[list[Pacing], list[Pacing]]:
    calls = options.calls or ((1, 100) if options.quick else _CALLS)
    stalls_ms = options.stalls_ms or (_STALLS_MS[1:2] if options.quick else _STALLS_MS)
    seconds = min(LONGEST_S, options.seconds or (1.0 if options.quick else 3.0))
    shape = {"frame_ms": options.frame_ms, "lead_ms": options.lead_ms}
    even = [Pacing(calls=count, seconds=seconds, **shape) for count in calls]
    stalled = [
        Pacing(
            calls=options.stall_calls,
            seconds=_STALL_STEP_S * (_STALLS_PER_RUN + 1),
            stalls_ms=(stall_ms,) * _STALLS_PER_RUN,
            **shape,
        )
        for stall_ms in stalls_ms
    ]
    return even, stalled


def expected_s(options: argparse.Namespace) -> float:
    """About how long it takes."""
    even, stalled = _plan(options)
    return len(WAYS) * sum(pacing.seconds + sum(pacing.stalls_ms) / 1000 + _OVERHEAD_S for pacing in even + stalled)


def measure(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Run every way with every number of calls and every stall."""
    _allow_descriptors()
    even, stalled = _plan(options)
    found: dict[Pacing, dict[str, Measured]] = {}
    steps = [(pacing, name) for pacing in even + stalled for name in WAYS]
    for done, (pacing, name) in enumerate(steps):
        stall = f", stalls of {pacing.stalls_ms[0]:g} ms" if pacing.stalls_ms else ""
        progress.step(done, len(steps), f"{name}, {pacing.calls} calls{stall}")
        found.setdefault(pacing, {})[name] = trio.run(WAYS[name], pacing)
    late, stalls = [(pacing, found[pacing]) for pacing in even], [(pacing, found[pacing]) for pacing in stalled]
    return Outcome(
        command="pacer",
        question=QUESTION,
        conclusions=_conclusions(late, stalls),
        sections=(_lateness(late), _stalls(stalls)),
        figures={"runs": [_plain(pacing, name, each) for pacing in found for name, each in found[pacing].items()]},
    )


def _allow_descriptors() -> None:
    """As many descriptors as the system lets this process have: two for each call."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shares(ordered: Sequence[float]) -> tuple[float, float, float, float]:
    p50, p99, p999 = (percentile(ordered, share) for share in (0.5, 0.99, 0.999))
    return p50, p99, p999, ordered[-1] if ordered else 0.0


def _plain(pacing: Pacing, name: str, each: Measured) -> dict[str, Any]:
    late = dict(zip(("p50", "p99", "p99.9", "max"), _shares(each.late_ms), strict=True))
    return {
        "way": name,
        "calls": pacing.calls,
        "frame_ms": pacing.frame_ms,
        "lead_ms": pacing.lead_ms,
        "stalls_ms": list(pacing.stalls_ms),
        "late_ms": late,
        "cpu_ms_per_call_second": each.cpu_ms_per_call_second,
        "gaps": len(each.gap_ms),
        "gap_total_ms": sum(each.gap_ms),
        "gap_max_ms": max(each.gap_ms, default=0.0),
        "rebuilt_ms_max": max(each.rebuilt_ms, default=0.0),
        "never_rebuilt": each.never_rebuilt,
    }


_Runs = list[tuple[Pacing, dict[str, Measured]]]


def _silence_ms(pacing: Pacing, each: Measured) -> float:
    return sum(each.gap_ms) / (pacing.calls * pacing.seconds)


def _lateness(runs: _Runs) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (pacing.calls, name, *_shares(each.late_ms), _silence_ms(pacing, each), each.cpu_ms_per_call_second)
        for pacing, ways in runs
        for name, each in ways.items()
    ]
    columns = (
        Column(name="calls", digits=0),
        Column(name="way"),
        *(Column(name=name) for name in ("p50", "p99", "p99.9", "max")),
        Column(name="silence ms per call-second", digits=1),
        Column(name="CPU ms per call-second", digits=3),
    )
    note = "frames as WebSocket messages into sockets, arrivals stamped by the kernel; late against the earliest since the last gap"
    table = Table(title="a frame's departure behind its schedule, ms", columns=columns, rows=tuple(rows), note=note)
    series = tuple(
        Series(
            name=name,
            x=tuple(float(pacing.calls) for pacing, _ in runs),
            y=tuple(max(0.001, _shares(ways[name].late_ms)[1]) for _, ways in runs),
        )
        for name in WAYS
    )
    plot = LinePlot(
        name="lateness",
        title="Frame lateness, p99",
        x_label="calls",
        y_label="ms",
        series=series,
        log_x=True,
        log_y=True,
        limits=(("budget", 1.0),),
    )
    return Section(heading="Punctuality", tables=(table,), plots=(plot,))


def _stalls(runs: _Runs) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for pacing, ways in runs:
        for name, each in ways.items():
            stalls = pacing.calls * len(pacing.stalls_ms)
            rebuilt = max(each.rebuilt_ms, default=0.0) if not each.never_rebuilt else None
            gaps = (sum(each.gap_ms) / stalls, max(each.gap_ms, default=0.0))
            rows.append((pacing.stalls_ms[0], name, *gaps, rebuilt, each.never_rebuilt / stalls * 100))
    columns = (
        Column(name="stall ms", digits=0),
        Column(name="way"),
        Column(name="silence per stall, ms", digits=1),
        Column(name="longest gap, ms", digits=1),
        Column(name="lead rebuilt after, ms", digits=1),
        Column(name="never rebuilt, %", digits=0),
    )
    lead_ms = runs[0][0].lead_ms if runs else 0
    note = f"LEAD_MS={lead_ms}; a dash: within {_STALL_STEP_S:g} s the carrier's buffer was not full again"
    return Section(
        heading="Stalls",
        tables=(Table(title="a stall of the whole process", columns=columns, rows=tuple(rows), note=note),),
    )


def _conclusions(late: _Runs, stalls: _Runs) -> tuple[str, ...]:
    said = []
    held = [pacing.calls for pacing, ways in late if _shares(ways[_ENGINE].late_ms)[1] <= 1.0]
    said.append(
        f"frames leave within 1 ms of their schedule (p99) up to {max(held)} calls"
        if held
        else "frames do not leave within 1 ms of their schedule (p99) on this machine now"
    )
    ridden = [pacing.stalls_ms[0] for pacing, ways in stalls if not ways[_ENGINE].gap_ms]
    if ridden:
        said.append(f"a stall of {max(ridden):g} ms is not heard with LEAD_MS={stalls[0][0].lead_ms}")
    return tuple(said)
