"""The latency the engine may add, leg by leg, and whether a run of the load generator kept to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One way through the engine; `key` is where a run's figures have it, in milliseconds."""

    name: str
    key: str
    p50_key: str = "p50"
    p99_key: str = "p99"
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class LegFound:
    """What a run took for a leg; None where nothing went that way."""

    leg: Leg
    p50_ms: float | None
    p99_ms: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether both figures are within the budget; None if there are none."""
        if self.p50_ms is None or self.p99_ms is None:
            return None
        return self.p50_ms <= self.leg.p50_ms and self.p99_ms <= self.leg.p99_ms

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or a dash."""
        return {True: "met", False: "missed", None: "-"}[self.is_met]


LEGS: Final = (
    Leg(name="caller frame received, sent to the provider", key="up_ms", p50_ms=0.7, p99_ms=2.0),
    Leg(name="first provider audio, first frame to Twilio", key="down_first_audio_ms", p50_ms=0.7, p99_ms=2.0),
    Leg(name="speech_started, clear", key="clear_ms", p50_ms=0.7, p99_ms=2.0),
    Leg(name="frame departure behind schedule", key="frame_late_ms", p50_ms=0.1, p99_ms=1.0),
    Leg(
        name="heard-ms error at barge-in",
        key="heard_error_ms",
        p50_key="abs_p50",
        p99_key="abs_p99",
        p50_ms=5.0,
        p99_ms=20.0,
    ),
)


def judge(run: Mapping[str, Any]) -> list[LegFound]:
    """Every leg of a run."""
    found = []
    for leg in LEGS:
        samples = run[leg.key]
        none = samples["count"] == 0
        p50, p99 = (None, None) if none else (samples[leg.p50_key], samples[leg.p99_key])
        found.append(LegFound(leg=leg, p50_ms=p50, p99_ms=p99))
    return found
