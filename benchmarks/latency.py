"""`latency`: what the engine adds, every leg of its budget, at rising load, with and without TLS, as it is and transcoded."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.budget import LEGS, LegFound, judge
from benchmarks.option_lists import positive_list
from benchmarks.outcome import Cell, Column, LinePlot, Outcome, Section, Series, Table
from benchmarks.peer import Load, cores, load_warnings, run_load
from benchmarks.progress import Progress

SUMMARY: Final = "the latency budget, leg by leg, at rising load, with and without TLS and transcoding"
QUESTION: Final = "How much time does the engine add on each leg, and is that within its budget?"
_CALLS: Final = (25, 100, 200)
_AUDIO: Final = {"pcmu": "pass-through", "pcm24k": "transcoded"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "--calls", type=positive_list(int), metavar="N,N", help="calls at the same time (default 25,100,200)"
    )
    parser.add_argument("--seconds", type=float, help="measured seconds of each run (default 10)")
    parser.add_argument(
        "--audio", choices=("pcmu", "pcm24k", "both"), default="both", help="OPENAI_AUDIO (default both)"
    )
    parser.add_argument("--tls", choices=("without", "with", "both"), default="both", help="TLS to the provider")
    parser.add_argument("--frame-ms", type=int, default=20)
    parser.add_argument("--lead-ms", type=int, default=200)


def _plan(options: argparse.Namespace) -> list[Load]:
    engine_core, load_core = cores()
    return [
        Load(
            calls=calls,
            seconds=options.seconds or (3.0 if options.quick else 10.0),
            audio=audio,
            tls=tls,
            frame_ms=options.frame_ms,
            lead_ms=options.lead_ms,
            # often enough for a p99 of the turns' legs
            barge_in_every_s=2.5,
            engine_core=engine_core,
            load_core=load_core,
        )
        for audio in (_AUDIO if options.audio == "both" else (options.audio,))
        for tls in {"without": (False,), "with": (True,), "both": (False, True)}[options.tls]
        for calls in options.calls or ((10,) if options.quick else _CALLS)
    ]


def expected_s(options: argparse.Namespace) -> float:
    """About how long it takes."""
    return sum(load.expected_s for load in _plan(options))


def measure(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Run the load for every number of calls and every kind of provider leg."""
    plan, runs = _plan(options), []
    for done, load in enumerate(plan):
        progress.step(done, len(plan), f"{load.calls} calls, {describe(load)}")
        runs.append(run_load(load))
    return summarise(plan, runs)


def describe(load: Load) -> str:
    """The kind of provider leg, in words."""
    return f"{_AUDIO[load.audio]}, {'TLS' if load.tls else 'no TLS'}"


def summarise(plan: list[Load], runs: list[Mapping[str, Any]]) -> Outcome:
    """Say what runs of the load generator mean."""
    judged = list(zip(plan, map(judge, runs), strict=True))
    return Outcome(
        command="latency",
        question=QUESTION,
        conclusions=_conclusions(judged),
        warnings=load_warnings(runs),
        sections=(
            Section(heading="Each leg", tables=tuple(_tables(judged)), plots=tuple(_plots(judged))),
            Section(heading="What the runs cost", tables=(_costs(plan, runs),)),
        ),
        figures={"runs": [dict(run) for run in runs]},
    )


_Judged = list[tuple[Load, list[LegFound]]]


def _tables(judged: _Judged) -> list[Table]:
    tables = []
    columns = (
        Column(name="calls", digits=0),
        Column(name="provider leg"),
        Column(name="p50"),
        Column(name="p99"),
        Column(name="verdict"),
    )
    for index, leg in enumerate(LEGS):
        rows: list[tuple[Cell, ...]] = [
            (load.calls, describe(load), found[index].p50_ms, found[index].p99_ms, found[index].verdict)
            for load, found in judged
        ]
        title = f"{leg.name}, ms; budget p50 {leg.p50_ms:g}, p99 {leg.p99_ms:g}"
        transcoded = leg.key == "up_ms" and any(load.audio != "pcmu" for load, _ in judged)
        note = "transcoded: without the last 5 ms of a frame, which a resampler may hold back" if transcoded else ""
        tables.append(Table(title=title, columns=columns, rows=tuple(rows), note=note))
    return tables


def _plots(judged: _Judged) -> list[LinePlot]:
    plots = []
    kinds = list(dict.fromkeys(describe(load) for load, _ in judged))
    for index, leg in enumerate(LEGS):
        series = []
        for kind in kinds:
            points = [
                (float(load.calls), found[index].p99_ms)
                for load, found in judged
                if describe(load) == kind and found[index].p99_ms is not None
            ]
            series.append(
                Series(name=kind, x=tuple(x for x, _ in points), y=tuple(max(0.01, y or 0.0) for _, y in points))
            )
        plots.append(
            LinePlot(
                name=leg.key.removesuffix("_ms").replace("_", "-"),
                title=f"{leg.name}, p99",
                x_label="calls",
                y_label="ms",
                series=tuple(series),
                log_y=True,
                limits=(("budget", leg.p99_ms),),
            )
        )
    return plots


def _costs(plan: list[Load], runs: list[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            load.calls,
            describe(load),
            run["engine_cpu_ms_per_call_second"],
            run["engine_cpu_share"] * 100,
            run["counts"].get("underruns", 0),
            run["load_cpu_share"] * 100,
            run["load_late_ms"]["p99"],
        )
        for load, run in zip(plan, runs, strict=True)
    )
    columns = (
        Column(name="calls", digits=0),
        Column(name="provider leg"),
        Column(name="engine CPU ms per call-second"),
        Column(name="engine core %", digits=0),
        Column(name="underruns", digits=0),
        Column(name="generator core %", digits=0),
        Column(name="generator late p99 ms"),
    )
    return Table(title="cost, and the generator's own state", columns=columns, rows=rows)


def _conclusions(judged: _Judged) -> tuple[str, ...]:
    said = []
    for load, found in judged:
        missed = [each for each in found if each.is_met is False]
        kind = f"{load.calls} calls, {describe(load)}"
        if missed:
            names = "; ".join(f"{each.leg.name} (p50 {each.p50_ms:.2f}, p99 {each.p99_ms:.2f} ms)" for each in missed)
            said.append(f"{kind}: missed: {names}")
        else:
            said.append(f"{kind}: every leg within its budget")
    return tuple(said)
