"""`pacing`: sweeps FRAME_MS, LEAD_MS, calls, stalls and network delay over the real engine; recommends a setting."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Final

from benchmarks.option_lists import list_from_zero, positive_list
from benchmarks.outcome import Cell, Column, Heatmap, LinePlot, Outcome, Section, Series, Table
from benchmarks.pacing.recommendation import Recommendation, Worst, recommend, worst_of
from benchmarks.pacing.trial import Condition, Setting, Trial, read_trial
from benchmarks.peer import Load, cores, load_warnings, run_load
from benchmarks.progress import Progress

SUMMARY: Final = "which FRAME_MS and LEAD_MS suit this machine: a sweep with stalls and network delay"
QUESTION: Final = "Which FRAME_MS and LEAD_MS give no gaps, leave little over when interrupted, and cost least?"
_FRAMES_MS: Final = (20, 40, 100)
_LEADS_MS: Final = (60, 120, 200, 400)
_STALLS_MS: Final = (0.0, 150.0)
# After a stall the engine gets so long to recover before the next.
_RECOVERY_S: Final = 0.8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("--frame-ms", type=positive_list(int), metavar="MS,MS", help="FRAME_MS to try (default 20,40,100)")
    add("--lead-ms", type=list_from_zero(int), metavar="MS,MS", help="LEAD_MS to try (default 60,120,200,400)")
    add("--calls", type=positive_list(int), metavar="N,N", default=(20,), help="calls at the same time (default 20)")
    add("--stalls-ms", type=list_from_zero(float), metavar="MS,MS", help="stalls to ride out, 0: none (default 0,150)")
    add(
        "--delays-ms",
        type=list_from_zero(float),
        metavar="MS,MS",
        default=(20.0,),
        help="network delay to Twilio each way (default 20)",
    )
    add("--jitter-ms", type=float, default=5.0, help="most that is added to the delay (default 5)")
    add("--seconds", type=float, help="measured seconds of each trial (default 5)")
    add("--audio", choices=("pcmu", "pcm24k"), default="pcmu", help="OPENAI_AUDIO")


def _plan(options: argparse.Namespace) -> list[tuple[Setting, Condition]]:
    frames_ms = options.frame_ms or ((20, 40) if options.quick else _FRAMES_MS)
    leads_ms = options.lead_ms if options.lead_ms is not None else ((60, 200) if options.quick else _LEADS_MS)
    stalls_ms = (
        options.stalls_ms if options.stalls_ms is not None else (_STALLS_MS[1:] if options.quick else _STALLS_MS)
    )
    settings = [Setting(frame_ms=frame, lead_ms=lead) for frame, lead in product(frames_ms, leads_ms)]
    conditions = [
        Condition(calls=calls, stall_ms=stall, delay_ms=delay)
        for calls, stall, delay in product(options.calls, stalls_ms, options.delays_ms)
    ]
    return list(product(settings, conditions))


def _load(setting: Setting, condition: Condition, options: argparse.Namespace) -> Load:
    engine_core, load_core = cores()
    return Load(
        calls=condition.calls,
        seconds=options.seconds or (3.0 if options.quick else 5.0),
        warmup_s=0.5,
        audio=options.audio,
        frame_ms=setting.frame_ms,
        lead_ms=setting.lead_ms,
        stall_ms=condition.stall_ms,
        stall_every_s=_RECOVERY_S + condition.stall_ms / 1000,
        network_delay_ms=condition.delay_ms,
        network_jitter_ms=options.jitter_ms,
        barge_in_every_s=2.0,
        engine_core=engine_core,
        load_core=load_core,
    )


def expected_s(options: argparse.Namespace) -> float:
    """About how long it takes."""
    return sum(_load(setting, condition, options).expected_s for setting, condition in _plan(options))


def measure(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Try every setting under every condition."""
    plan = _plan(options)
    trials, runs = [], []
    for done, (setting, condition) in enumerate(plan):
        progress.step(done, len(plan), f"{setting}, {condition}")
        run = run_load(_load(setting, condition, options))
        runs.append(run)
        trials.append(read_trial(setting, condition, run))
    return summarise(trials, load_warnings(runs))


def summarise(trials: list[Trial], warnings: tuple[str, ...]) -> Outcome:
    """Say what the trials mean."""
    found, settings = recommend(trials), worst_of(trials)
    return Outcome(
        command="pacing",
        question=QUESTION,
        conclusions=_conclusions(found, trials),
        warnings=warnings,
        sections=(_settings_section(settings, found), _trials_section(trials)),
        figures={
            "recommended": {"FRAME_MS": found.best.setting.frame_ms, "LEAD_MS": found.best.setting.lead_ms},
            "reasons": list(found.reasons),
            "trials": [trial.to_json() for trial in trials],
        },
    )


def _conclusions(found: Recommendation, trials: list[Trial]) -> tuple[str, ...]:
    best = found.best
    stall_ms = max(trial.condition.stall_ms for trial in trials)
    said = [f"recommended here: {best.setting}"]
    if found.is_silent:
        said.append(f"no gap was heard with it{f', not even in stalls of {stall_ms:g} ms' if stall_ms else ''}")
    else:
        said.append(f"even so gaps up to {best.gap_max_ms:.0f} ms were heard: try a larger LEAD_MS, or fewer calls")
    said += [f"because: {reason}" for reason in found.reasons]
    said.append(
        f"interrupted, the caller hears {best.talk_over_p99_ms:.0f} ms more (p99), "
        f"and {best.left_over_p99_ms:.0f} ms are dropped at Twilio"
    )
    return tuple(said)


def _settings_section(settings: list[Worst], found: Recommendation) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (
            worst.setting.frame_ms,
            worst.setting.lead_ms,
            worst.gap_ms,
            worst.gap_max_ms,
            worst.left_over_p99_ms,
            worst.talk_over_p99_ms,
            worst.heard_error_p99_ms,
            worst.cpu_ms_per_call_second,
            worst.bytes_per_call_second,
            "<- recommended" if worst.setting == found.best.setting else "",
        )
        for worst in settings
    ]
    columns = (
        Column(name="FRAME_MS", digits=0),
        Column(name="LEAD_MS", digits=0),
        Column(name="gap ms/min", digits=1),
        Column(name="longest gap", digits=0),
        Column(name="left over p99", digits=0),
        Column(name="talked over p99", digits=0),
        Column(name="heard error p99", digits=1),
        Column(name="CPU ms/s", digits=2),
        Column(name="bytes/s", digits=0),
        Column(name=""),
    )
    note = "milliseconds; the worst condition counts, CPU and bytes (per call and second) are means"
    table = Table(title="settings", columns=columns, rows=tuple(rows), note=note)
    draw = partial(_heatmap, settings=settings, found=found)
    maps = (
        draw("gaps", "Gaps heard, worst condition", "ms per call and minute", figure=lambda worst: worst.gap_ms),
        draw("left-over", "Left over at a barge-in, p99", "ms", figure=lambda worst: worst.left_over_p99_ms),
        draw("cpu", "CPU time", "ms per call-second", figure=lambda worst: worst.cpu_ms_per_call_second, digits=2),
    )
    return Section(heading="Settings", tables=(table,), plots=(*maps, _trade_off(settings)))


def _heatmap(
    name: str,
    title: str,
    unit: str,
    *,
    settings: list[Worst],
    found: Recommendation,
    figure: Callable[[Worst], float],
    digits: int = 0,
) -> Heatmap:
    leads_ms = sorted({worst.setting.lead_ms for worst in settings})
    frames_ms = sorted({worst.setting.frame_ms for worst in settings})
    values = {worst.setting: figure(worst) for worst in settings}
    best = found.best.setting
    return Heatmap(
        name=name,
        title=title,
        x_label="LEAD_MS",
        y_label="FRAME_MS",
        x_ticks=tuple(map(str, leads_ms)),
        y_ticks=tuple(map(str, frames_ms)),
        values=tuple(
            tuple(values.get(Setting(frame_ms=frame, lead_ms=lead)) for lead in leads_ms) for frame in frames_ms
        ),
        unit=unit,
        digits=digits,
        chosen=(leads_ms.index(best.lead_ms), frames_ms.index(best.frame_ms)),
    )


def _trade_off(settings: list[Worst]) -> LinePlot:
    """Gaps against what is left over: the choice that a lead is."""
    frames = sorted({worst.setting.frame_ms for worst in settings})
    series = []
    for frame_ms in frames:
        points = sorted((w.left_over_p99_ms, w.gap_ms) for w in settings if w.setting.frame_ms == frame_ms)
        series.append(Series(name=f"FRAME_MS={frame_ms}", x=tuple(x for x, _ in points), y=tuple(y for _, y in points)))
    return LinePlot(
        name="trade-off",
        title="What a lead buys",
        x_label="left over at a barge-in, ms (p99)",
        y_label="gaps heard, ms per call and minute",
        series=tuple(series),
    )


def _trials_section(trials: list[Trial]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (
            trial.setting.frame_ms,
            trial.setting.lead_ms,
            str(trial.condition),
            trial.gaps,
            trial.gap_ms,
            trial.gap_max_ms,
            trial.left_over_p50_ms,
            trial.left_over_p99_ms,
            trial.heard_error_p99_ms,
            trial.cpu_ms_per_call_second,
            trial.up_p99_ms,
        )
        for trial in trials
    ]
    columns = (
        Column(name="FRAME_MS", digits=0),
        Column(name="LEAD_MS", digits=0),
        Column(name="condition"),
        Column(name="gaps/min", digits=1),
        Column(name="gap ms/min", digits=1),
        Column(name="longest gap", digits=0),
        Column(name="left over p50", digits=0),
        Column(name="p99", digits=0),
        Column(name="heard error p99", digits=1),
        Column(name="CPU ms/s", digits=2),
        Column(name="up p99", digits=1),
    )
    return Section(
        heading="Every trial", tables=(Table(title="trials, each caller", columns=columns, rows=tuple(rows)),)
    )
