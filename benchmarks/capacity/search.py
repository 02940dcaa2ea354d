"""Which number of calls to try next, and whether a try was held. Sans-IO.

Held means what a caller would call held: no gap, and no frame of theirs more than 20 ms late (p99). A number that was held
above one that was not is taken for luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

UP_P99_LIMIT_MS: Final = 20.0
# From here on the generator may be the limit, not the engine.
GENERATOR_BUSY_SHARE: Final = 0.9
GENERATOR_LATE_MS: Final = 5.0
# Share of the calls held that MAX_CALLS should be.
HEADROOM: Final = 0.8
_RESOLUTION: Final = 0.06
_LEAST_STEP: Final = 5


def broken_reasons(run: Mapping[str, Any]) -> list[str]:
    """Why a run's calls were not held; empty if they were."""
    reasons = []
    if run["calls_standing"] < run["calls"]:
        reasons.append(f"{run['calls'] - run['calls_standing']} calls did not stand")
    up_p99_ms = run["up_ms"]["p99"]
    if run["up_ms"]["count"] == 0:
        reasons.append("no caller audio reached the provider")
    elif up_p99_ms >= UP_P99_LIMIT_MS:
        reasons.append(f"up-latency p99 {up_p99_ms:.1f} ms")
    underruns = run["counts"].get("underruns", 0)
    if underruns:
        reasons.append(f"{underruns} underruns")
    return reasons


def generator_reasons(run: Mapping[str, Any]) -> list[str]:
    """Why a run's figures may be the generator's; empty if they are the engine's."""
    reasons = []
    if run["load_cpu_share"] > GENERATOR_BUSY_SHARE:
        reasons.append(f"the generator used {run['load_cpu_share']:.0%} of its core")
    if run["load_late_ms"]["p99"] > GENERATOR_LATE_MS:
        reasons.append(f"the generator was late: p99 {run['load_late_ms']['p99']:.1f} ms")
    return reasons


@dataclass
class Search:
    """Doubles until calls break, then halves the interval."""

    start: int
    limit: int
    tried: dict[int, bool] = field(default_factory=dict)

    def note(self, calls: int, *, held: bool) -> None:
        """A number of calls was tried."""
        self.tried[calls] = held

    @property
    def broken_from(self) -> int | None:
        """Least number that was not held."""
        return min((calls for calls, held in self.tried.items() if not held), default=None)

    @property
    def held(self) -> int:
        """Largest number held below any that was not; 0 if none was."""
        above = self.broken_from
        return max(
            (calls for calls, held in self.tried.items() if held and (above is None or calls < above)), default=0
        )

    def next_calls(self) -> int | None:
        """The number to try next; None when it is known well enough."""
        held, broken_from = self.held, self.broken_from
        if broken_from is None:
            proposed = min(held * 2 or self.start, self.limit)
        elif broken_from - held <= max(_LEAST_STEP, _RESOLUTION * broken_from):
            return None
        else:
            proposed = (held + broken_from) // 2
        return None if proposed in self.tried or proposed < 1 else proposed

    @property
    def max_calls(self) -> int:
        """What MAX_CALLS should be: 80 % of what was held, at least 1 if anything was."""
        return max(1, int(self.held * HEADROOM)) if self.held else 0
