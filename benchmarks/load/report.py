"""The end of a run: a table of figures, the list of requirements passed or failed, and the same as JSON."""

from dataclasses import dataclass
from typing import Any

from .call import Call
from .figures import Figures, percentile, summary
from .options import Options
from .speech import SAMPLES_PER_MS, Tape
from .transcoded import Alignment, check_alignment, pcm24k_as_8k, ulaw_as_8k

_UP_P99_MS = 5.0
_HEARD_ERROR_P99_MS = 20.0
_HANGUP_MS = 1000.0
# One frame: what a caller may notice at a turn's edges.
_TURN_P99_MS = 20.0
_DEPTH_MARGIN_MS = 40.0
_LOAD_BUSY_SHARE = 0.8
_LOAD_LATE_MS = 5.0
_OTHERS_BUSY_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """What the run cost; the engine's figures are 0 if the engine was not started here."""

    window_s: float
    engine_cpu_s: float
    engine_idle_bytes: int
    engine_busy_bytes: int
    load_cpu_share: float
    # Everything else that ran on the machine; with --url that includes the engine.
    others_cpu_share: float
    stalls: int = 0


@dataclass(frozen=True)
class Requirement:
    """One line of the verdict."""

    name: str
    passed: bool
    found: str


def _alignments(calls: list[Call], tape: Tape) -> list[Alignment]:
    found = []
    for call in calls:
        if call.up_counted.position is not None and call.up_counted.kept:
            signal = pcm24k_as_8k(bytes(call.up_counted.kept))
            found.append(check_alignment(signal, tape, call.carrier.origin, call.up_counted.skipped_at_start))
        found += [
            check_alignment(ulaw_as_8k(bytes(stretch.audio)), tape, call.down_origin, stretch.start)
            for stretch in call.stretches
        ]
    return [alignment for alignment in found if alignment.windows]


def gather(
    options: Options, figures: Figures, calls: list[Call], tape: Tape, used: Consumption, *, lanes: bool = False
) -> dict[str, Any]:
    """Every figure of the run, by name."""
    alignments = _alignments(calls, tape) if options.audio == "pcm24k" else []
    heard = sorted(abs(error) for error in figures.heard_error_ms)
    heard_late = summary(figures.heard_error_ms)
    depths = figures.depth_max_ms
    call_seconds = used.window_s * len(calls)
    skipped = [
        call.up_counted.skipped_at_start if options.audio == "pcm24k" else call.up.skipped_at_start for call in calls
    ]
    return {
        "calls": options.calls,
        "calls_standing": sum(call.ready_at is not None for call in calls),
        "audio": options.audio,
        "seconds": round(used.window_s, 3),
        "up_ms": summary(figures.up_ms),
        "down_first_audio_ms": summary(figures.first_audio_ms),
        "clear_ms": summary(figures.clear_ms),
        "frame_late_ms": summary(figures.frame_late_ms),
        "heard_error_ms": {
            **heard_late,
            "abs_p50": percentile(heard, 0.5),
            "abs_p99": percentile(heard, 0.99),
        },
        "hangup_to_provider_closed_ms": summary(figures.hangup_ms),
        "depth_max_ms": depths,
        "counts": dict(figures.counts),
        "up_lost_bytes": sum(call.up.lost for call in calls),
        "up_repeated_bytes": sum(call.up.repeated for call in calls),
        "up_foreign_bytes": sum(call.up.foreign for call in calls),
        "up_skipped_at_start_ms": max(skipped, default=0) / SAMPLES_PER_MS,
        "up_unaligned_calls": sum(call.up_counted.unaligned for call in calls),
        "down_lost_bytes": sum(call.down.lost for call in calls),
        "down_repeated_bytes": sum(call.down.repeated for call in calls),
        "down_foreign_bytes": sum(call.down.foreign for call in calls),
        "padding_bytes": sum(call.down.padding + call.up.padding for call in calls),
        "aligned_windows": sum(alignment.windows for alignment in alignments),
        "alignment_steps": sum(alignment.steps for alignment in alignments),
        "damaged_windows": sum(alignment.damaged for alignment in alignments),
        "alignment_delay_ms": max((alignment.delay_ms for alignment in alignments), default=0.0),
        "violations": dict(figures.violations),
        "examples": figures.examples,
        "notices": dict(figures.notices),
        "engine_cpu_ms_per_call_second": used.engine_cpu_s * 1000 / call_seconds,
        "engine_cpu_share": used.engine_cpu_s / used.window_s,
        "engine_rss_kib_per_call": (used.engine_busy_bytes - used.engine_idle_bytes) / 1024 / len(calls),
        "engine_rss_mib": used.engine_busy_bytes / 2**20,
        "load_cpu_share": used.load_cpu_share,
        "others_cpu_share": used.others_cpu_share,
        "load_late_ms": summary(figures.load_late_ms),
        "legs": options.legs,
        "lanes": lanes,
        "tls": options.tls,
        "frame_ms": options.frame_ms,
        "lead_ms": options.lead_ms,
        "stall_ms": options.stall_ms,
        "stalls": used.stalls,
        "network_delay_ms": options.network_delay_ms,
        "network_jitter_ms": options.network_jitter_ms,
        "gap_ms": summary(figures.gap_ms),
        "gap_total_ms": sum(figures.gap_ms),
        "talk_over_ms": summary(figures.talk_over_ms),
        "left_over_ms": summary(figures.left_over_ms),
        "carrier_messages_per_call_second": figures.carrier_messages / call_seconds,
        "carrier_bytes_per_call_second": figures.carrier_bytes / call_seconds,
    }


def requirements(options: Options, run: dict[str, Any]) -> list[Requirement]:
    """The verdict, requirement by requirement."""
    counts, closed = run["counts"], run["hangup_to_provider_closed_ms"]
    lost = {
        f"{way} {key}": run[f"{way}_{key}_bytes"] for way in ("up", "down") for key in ("lost", "repeated", "foreign")
    }
    lost |= {key: run[key] for key in ("alignment_steps", "damaged_windows", "up_unaligned_calls")}
    faults = {key: value for key, value in lost.items() if value}
    broken = {
        key: counts[key]
        for key in (
            "carrier sockets closed by the engine",
            "provider sockets closed during the call",
            "calls whose audio the engine did not read",
        )
        if counts.get(key)
    }
    unanswered = {
        key: counts[key] for key in ("barge-ins without clear", "barge-ins without truncate") if counts.get(key)
    }
    up_p99, heard_p99 = run["up_ms"]["p99"], run["heard_error_ms"]["abs_p99"]
    # Jitter brings messages together, and delay is no fault of the engine.
    depth_limit_ms = options.lead_ms + _DEPTH_MARGIN_MS + options.network_jitter_ms
    away_ms = options.network.worst_s * 1000
    judged = options.barge_in_every_s > 0 and options.legs == "both"
    standing = run["calls_standing"]
    closed_ok = closed["count"] == standing and closed["max"] <= _HANGUP_MS
    return [
        Requirement(
            "every call stood to the end", standing == options.calls and not broken, f"{standing} {broken or ''}"
        ),
        Requirement("no underrun", not counts.get("underruns"), str(counts.get("underruns", 0))),
        Requirement("no audio lost, repeated or foreign", not faults, str(faults or 0)),
        Requirement("no protocol error", not run["violations"], str(run["violations"] or 0)),
        Requirement(
            "buffer depth within LEAD_MS + 40", run["depth_max_ms"] <= depth_limit_ms, f"{run['depth_max_ms']:.1f} ms"
        ),
        Requirement(
            "up-latency p99 under 5 ms",
            up_p99 < _UP_P99_MS + away_ms and (run["up_ms"]["count"] > 0 or not options.caller_speaks),
            f"{up_p99:.2f} ms",
        ),
        _within_a_frame("first provider audio to caller", run["down_first_audio_ms"], away_ms),
        _within_a_frame("speech_started to clear", run["clear_ms"], away_ms),
        Requirement("barge-ins answered by clear and truncate", not unanswered, str(unanswered or 0)),
        Requirement(
            "heard error p99 within 20 ms",
            heard_p99 <= _HEARD_ERROR_P99_MS and (run["heard_error_ms"]["count"] > 0 or not judged),
            f"{heard_p99:.1f} ms of {run['heard_error_ms']['count']}",
        ),
        Requirement(
            "provider closed within 1 s of hang-up",
            closed_ok,
            f"{closed['max']:.0f} ms, {closed['count']} of {standing}",
        ),
    ]


def _within_a_frame(name: str, samples: dict[str, float], away_ms: float) -> Requirement:
    passed = samples["p99"] <= _TURN_P99_MS + away_ms
    return Requirement(f"{name} p99 within 20 ms", passed, f"{samples['p99']:.2f} ms")


def _row(name: str, figures: dict[str, float]) -> str:
    cells = "".join(f"{figures[key]:>10.2f}" for key in ("p50", "p99", "p99.9", "max"))
    return f"  {name:<34}{cells}{figures['count']:>10.0f}"


def render(options: Options, run: dict[str, Any], verdict: list[Requirement]) -> str:
    """The report as text."""
    head = f"{options.calls} calls, {run['seconds']:.0f} s, {options.audio}, {options.frame_ms} ms frames, lead {options.lead_ms} ms"
    lines = [head, f"  {'milliseconds':<34}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}{'count':>10}"]
    rows = {
        "caller frame to provider": "up_ms",
        "first provider audio to caller": "down_first_audio_ms",
        "speech_started to clear": "clear_ms",
        "frame lateness": "frame_late_ms",
        "heard error (engine - true)": "heard_error_ms",
        "hang-up to provider closed": "hangup_to_provider_closed_ms",
        "left over at the carrier at a clear": "left_over_ms",
        "heard after speech_started": "talk_over_ms",
        "the generator's own lateness": "load_late_ms",
    }
    lines += [_row(name, run[key]) for name, key in rows.items()]
    lines.append(f"  heard error from {run['heard_error_ms']['min']:.1f} to {run['heard_error_ms']['max']:.1f} ms")
    lines.append(f"  buffer depth at most {run['depth_max_ms']:.1f} ms; counted: {run['counts']}")
    lines.append(
        f"  caller audio before the first that arrived: at most {run['up_skipped_at_start_ms']:.0f} ms; "
        f"silence put in: {run['padding_bytes']} bytes"
    )
    if options.audio == "pcm24k":
        lines.append(f"  {run['aligned_windows']} windows correlated, delay {run['alignment_delay_ms']:.2f} ms")
    lines.append(
        f"  engine CPU {run['engine_cpu_ms_per_call_second']:.2f} ms per call-second, {run['engine_cpu_share']:.0%} of a core; "
        f"resident {run['engine_rss_mib']:.0f} MiB, {run['engine_rss_kib_per_call']:.0f} KiB per call"
    )
    lines.append(
        f"  generator CPU {run['load_cpu_share']:.0%} of a core; other processes {run['others_cpu_share']:.0%} of a core"
    )
    if run["others_cpu_share"] > _OTHERS_BUSY_SHARE and options.url is None:
        lines.append("  WARNING: other processes were busy on this machine; latencies may be theirs")
    if run["load_cpu_share"] > _LOAD_BUSY_SHARE:
        lines.append("  WARNING: the generator used over 80 % of a core; it, not the engine, may be the limit")
    if run["load_late_ms"]["max"] > _LOAD_LATE_MS:
        lines.append(
            f"  WARNING: the generator itself was up to {run['load_late_ms']['max']:.1f} ms late; see its own row"
        )
    lines += [f"  notice: {notice}: {count}" for notice, count in run["notices"].items() if count]
    lines += [f"  example of {kind}: {example}" for kind, examples in run["examples"].items() for example in examples]
    lines += [f"{'PASS' if line.passed else 'FAIL'}  {line.name}: {line.found}" for line in verdict]
    return "\n".join(lines)
