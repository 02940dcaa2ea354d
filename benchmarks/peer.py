"""One run of the load generator in a process of its own, so that its memory, core and collector are not the benchmark's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What a run takes besides its measured seconds: start, the calls' dialling, hang-ups, the end of the engine.
_OVERHEAD_S: Final = 2.5
_DIAL_S: Final = 0.012
# A run that takes this many times as long, and a minute, hangs.
_PATIENCE: Final = 3.0
_ENDING_S: Final = 10.0


class LoadFailed(RuntimeError):
    """The load generator or the engine did not get through a run; the text says what was last heard of them."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One run: how many calls for how long, under which conditions."""

    calls: int
    seconds: float
    warmup_s: float = 1.0
    audio: str = "pcmu"
    frame_ms: int = 20
    lead_ms: int = 200
    legs: str = "both"
    tls: bool = False
    stall_ms: float = 0.0
    stall_every_s: float = 2.0
    network_delay_ms: float = 0.0
    network_jitter_ms: float = 0.0
    barge_in_every_s: float = 5.0
    engine_core: int | None = None
    load_core: int | None = None

    @property
    def expected_s(self) -> float:
        """About how long the run takes."""
        return self.seconds + self.warmup_s + _OVERHEAD_S + self.calls * _DIAL_S

    def arguments(self) -> list[str]:
        """The load generator's command line."""
        stated: dict[str, object] = {
            "--calls": self.calls,
            "--seconds": self.seconds,
            "--warmup": self.warmup_s,
            "--audio": self.audio,
            "--frame-ms": self.frame_ms,
            "--lead-ms": self.lead_ms,
            "--legs": self.legs,
            "--stall-ms": self.stall_ms,
            "--stall-every": self.stall_every_s,
            "--network-delay-ms": self.network_delay_ms,
            "--network-jitter-ms": self.network_jitter_ms,
            "--barge-in-every": self.barge_in_every_s,
        }
        stated |= {} if self.engine_core is None else {"--pin-engine": self.engine_core}
        stated |= {} if self.load_core is None else {"--pin-load": self.load_core}
        written = [text for name, value in stated.items() for text in (name, str(value))]
        return [*written, *(["--tls"] if self.tls else [])]


def cores() -> tuple[int | None, int | None]:
    """A core for the engine and another for the load generator; None where there is but one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def run_load(load: Load) -> Mapping[str, Any]:
    """Run the load generator.

    Returns:
        Every figure of the run, as `python -m benchmarks.load --json` writes it.

    Raises:
        LoadFailed: No figures came.
    """
    limit_s = max(60.0, _PATIENCE * load.expected_s)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        found = Path(directory, "figures.json")
        log = Path(directory, "engine.log")
        command = [sys.executable, "-m", "benchmarks.load", *load.arguments()]
        command += ["--json", str(found), "--engine-log", str(log)]
        said = _run_bounded(command, limit_s)
        if not found.exists():
            raise LoadFailed(f"a run of {load.calls} calls gave no figures:\n{said[-2000:]}")
        figures: Mapping[str, Any] = json.loads(found.read_text())
        return figures


def _run_bounded(command: list[str], limit_s: float) -> str:
    """Run a command and give what it said on standard error. SIGINT makes the generator end its engine first."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            return process.communicate(timeout=limit_s)[1]
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"a run did not end within {limit_s:.0f} s: {' '.join(command[3:])}") from None
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_ENDING_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def load_warnings(runs: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """Why figures of these runs may not be the engine's: a busy machine, a late or busy generator."""
    warnings = []
    others = max((run["others_cpu_share"] for run in runs), default=0.0)
    late_ms = max((run["load_late_ms"]["p99"] for run in runs), default=0.0)
    if others > 0.1:
        warnings.append(f"other processes used up to {others:.0%} of a core; repeat on a quiet machine")
    if late_ms > 1.0:
        warnings.append(f"the load generator itself was late: p99 up to {late_ms:.1f} ms")
    if any(run["violations"] for run in runs):
        warnings.append(f"protocol violations: {[run['violations'] for run in runs if run['violations']]}")
    return tuple(warnings)
