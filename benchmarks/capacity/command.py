"""`capacity`: raises the calls until the budget breaks; says how many one core holds and what MAX_CALLS to set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from benchmarks.capacity.search import Search, broken_reasons, generator_reasons
from benchmarks.outcome import BarPlot, Cell, Column, LinePlot, Outcome, Section, Series, Table
from benchmarks.peer import Load, LoadFailed, cores, load_warnings, run_load
from benchmarks.progress import Progress

SUMMARY: Final = "how many calls one core holds, the MAX_CALLS to set, and where the CPU time goes"
QUESTION: Final = "How many calls does one core of this machine hold, and what does one cost?"
_START: Final = 50
_LIMIT: Final = 2000
_EXPECTED_PROBES: Final = 8
# Calls while the cost of each leg is measured, unless fewer are held.
_LEG_CALLS: Final = 100
_LEGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "open, nobody speaks": {"legs": "idle"},
    "caller to provider only": {"legs": "up"},
    "provider to caller only": {"legs": "down"},
    "both ways": {},
    "both ways, TLS to the provider": {"tls": True},
    "both ways, transcoded": {"audio": "pcm24k"},
}

_Run = Mapping[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--start", type=int, default=_START, help=f"calls of the first try (default {_START})")
    parser.add_argument("--limit", type=int, default=_LIMIT, help=f"calls never exceeded (default {_LIMIT})")
    parser.add_argument("--seconds", type=float, help="measured seconds of each try (default 8)")
    parser.add_argument("--audio", choices=("pcmu", "pcm24k"), default="pcmu", help="OPENAI_AUDIO of the tries")
    parser.add_argument("--tls", action="store_true", help="TLS to the provider in the tries")
    parser.add_argument("--no-legs", action="store_true", help="leave out the cost of each leg")
    parser.add_argument("--frame-ms", type=int, default=20)
    parser.add_argument("--lead-ms", type=int, default=200)
    parser.add_argument("--engine-core", type=int, help="core for the engine (default: the first)")
    parser.add_argument("--load-core", type=int, help="core for the load generator (default: the second)")


def _base(options: argparse.Namespace) -> Load:
    engine_core, load_core = cores()
    return Load(
        calls=options.start,
        seconds=options.seconds or (2.0 if options.quick else 8.0),
        warmup_s=1.0 if options.quick else 2.0,
        audio=options.audio,
        tls=options.tls,
        frame_ms=options.frame_ms,
        lead_ms=options.lead_ms,
        engine_core=engine_core if options.engine_core is None else options.engine_core,
        load_core=load_core if options.load_core is None else options.load_core,
    )


def expected_s(options: argparse.Namespace) -> float:
    """About how long it takes; unknown before, as it depends on what is held."""
    tries = replace(_base(options), calls=min(options.limit, 4 * options.start)).expected_s * _EXPECTED_PROBES
    return tries + (0.0 if options.no_legs else len(_LEGS) * replace(_base(options), calls=_LEG_CALLS).expected_s)


def measure(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Search, then measure each leg's cost."""
    base = _base(options)
    search, runs = find_capacity(base, options.limit, progress)
    legs = {} if options.no_legs or not search.held else measure_legs(base, min(_LEG_CALLS, search.held), progress)
    return summarise(search, runs, legs, base)


def find_capacity(base: Load, limit: int, progress: Progress) -> tuple[Search, list[_Run]]:
    """Try until the number held is known."""
    search, runs = Search(base.calls, limit), []
    while (calls := search.next_calls()) is not None:
        progress.say(f"trying {calls} calls")
        try:
            run = run_load(replace(base, calls=calls))
        except LoadFailed as error:
            if not search.held:
                raise
            progress.say(f"  not held: {error}")
            search.note(calls, held=False)
            continue
        runs.append(run)
        reasons = broken_reasons(run)
        search.note(calls, held=not reasons)
        progress.say(f"  {'not held: ' + ', '.join(reasons) if reasons else 'held'}")
    return search, runs


def measure_legs(base: Load, calls: int, progress: Progress) -> dict[str, _Run]:
    """The same calls with one leg at a time, with TLS, and transcoded."""
    found = {}
    for done, (name, changed) in enumerate(_LEGS.items()):
        progress.step(done, len(_LEGS), f"{calls} calls, {name}")
        plain = replace(base, calls=calls, audio="pcmu", tls=False, barge_in_every_s=0.0)
        found[name] = run_load(replace(plain, **changed))
    return found


def summarise(search: Search, runs: list[_Run], legs: Mapping[str, _Run], base: Load) -> Outcome:
    """Say what the runs mean."""
    sections = [_tries_section(runs)]
    if legs:
        sections.append(_legs_section(legs))
    return Outcome(
        command="capacity",
        question=QUESTION,
        conclusions=_conclusions(search, runs, legs, base),
        warnings=load_warnings([*runs, *legs.values()]),
        sections=tuple(sections),
        figures={
            "calls_per_core": search.held,
            "max_calls": search.max_calls,
            "memory_kib_per_call": memory_kib_per_call(runs),
            "runs": [dict(run) for run in runs],
            "legs": {name: dict(run) for name, run in legs.items()},
        },
    )


def memory_kib_per_call(runs: list[_Run]) -> float | None:
    """Growth of the engine's resident memory with the calls; None of fewer than two different numbers of calls."""
    ordered = sorted(runs, key=lambda run: run["calls"])
    if len(ordered) < 2 or ordered[0]["calls"] == ordered[-1]["calls"]:
        return None
    grown_mib = float(ordered[-1]["engine_rss_mib"] - ordered[0]["engine_rss_mib"])
    return grown_mib * 1024 / int(ordered[-1]["calls"] - ordered[0]["calls"])


def _tries_section(runs: list[_Run]) -> Section:
    ordered = sorted(runs, key=lambda run: run["calls"])
    rows: list[tuple[Cell, ...]] = [
        (
            run["calls"],
            "held" if not broken_reasons(run) else ", ".join(broken_reasons(run)),
            run["up_ms"]["p50"],
            run["up_ms"]["p99"],
            run["engine_cpu_ms_per_call_second"],
            run["engine_cpu_share"] * 100,
            run["engine_rss_mib"],
            run["load_cpu_share"] * 100,
            run["load_late_ms"]["p99"],
        )
        for run in ordered
    ]
    columns = (
        Column(name="calls", digits=0),
        Column(name="verdict"),
        Column(name="up p50 ms"),
        Column(name="up p99 ms"),
        Column(name="CPU ms per call-second"),
        Column(name="engine core %", digits=0),
        Column(name="engine MiB", digits=0),
        Column(name="generator core %", digits=0),
        Column(name="generator late p99 ms"),
    )
    table = Table(title="tries", columns=columns, rows=tuple(rows))
    calls = tuple(float(run["calls"]) for run in ordered)
    series = tuple(
        Series(name=name, x=calls, y=tuple(max(0.01, run["up_ms"][name]) for run in ordered)) for name in ("p50", "p99")
    )
    plot = LinePlot(
        name="up-latency",
        title="Caller frame to provider",
        x_label="calls",
        y_label="ms",
        series=series,
        log_y=True,
        limits=(("held", 20.0),),
    )
    return Section(heading="Calls held", tables=(table,), plots=(plot,))


def _legs_section(legs: Mapping[str, _Run]) -> Section:
    columns = (
        Column(name="calls do"),
        Column(name="calls", digits=0),
        Column(name="engine CPU ms per call-second"),
        Column(name="generator CPU ms per call-second"),
    )
    rows = tuple(
        (name, run["calls"], run["engine_cpu_ms_per_call_second"], run["load_cpu_share"] * 1000 / run["calls"])
        for name, run in legs.items()
    )
    plot = BarPlot(
        name="cpu-by-leg",
        title="CPU time per call-second, by leg",
        x_label="ms",
        labels=tuple(legs),
        values=tuple(float(run["engine_cpu_ms_per_call_second"]) for run in legs.values()),
    )
    table = Table(title="where the CPU time goes, no barge-ins", columns=columns, rows=rows)
    return Section(heading="Cost of each leg", tables=(table,), plots=(plot,))


def _conclusions(search: Search, runs: list[_Run], legs: Mapping[str, _Run], base: Load) -> tuple[str, ...]:
    if not search.held:
        return (f"not even {min(search.tried, default=base.calls)} calls were held; see the tries",)
    said = []
    limited = [run for run in runs if run["calls"] > search.held and generator_reasons(run)]
    if search.broken_from is None or limited:
        why = "; ".join(reason for run in limited for reason in generator_reasons(run)) or "the limit was reached"
        said.append(f"at least {search.held} calls on one core: the engine was not the limit ({why})")
    else:
        said.append(f"{search.held} calls on one core, {search.broken_from} no more")
    said.append(f"set MAX_CALLS={search.max_calls} for each worker: 80 % of what was held")
    if base.engine_core is None:
        said.append("engine and generator shared the only core: a machine that runs the engine alone holds more")
    memory = memory_kib_per_call(runs)
    if memory is not None:
        said.append(f"memory: {memory:.0f} KiB per call")
    if "both ways" in legs:
        said.append(f"CPU: {legs['both ways']['engine_cpu_ms_per_call_second']:.2f} ms per call-second, both ways")
    return tuple(said)
