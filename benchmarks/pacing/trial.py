"""One setting under one condition, and what it did to the caller. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, order=True)
class Setting:
    """What a user can turn."""

    frame_ms: int
    lead_ms: int

    def __str__(self) -> str:
        """As it is written in the environment."""
        return f"FRAME_MS={self.frame_ms} LEAD_MS={self.lead_ms}"


@dataclass(frozen=True, kw_only=True, order=True)
class Condition:
    """What happens to it.

    Attributes:
        calls: Calls at the same time.
        stall_ms: Length of the engine's stalls, 0 for none.
        delay_ms: Of the network to Twilio, each way.
    """

    calls: int
    stall_ms: float
    delay_ms: float

    def __str__(self) -> str:
        """In words."""
        stall = f"stalls of {self.stall_ms:g} ms" if self.stall_ms else "no stalls"
        return f"{self.calls} calls, {stall}, {self.delay_ms:g} ms to Twilio"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of it; per caller and minute where not said otherwise."""

    setting: Setting
    condition: Condition
    gaps: float
    gap_ms: float
    gap_max_ms: float
    # Audio at Twilio when a clear arrived (sent for nothing), and heard after the caller began to speak.
    left_over_p50_ms: float
    left_over_p99_ms: float
    talk_over_p99_ms: float
    heard_error_p99_ms: float
    cpu_ms_per_call_second: float
    bytes_per_call_second: float
    up_p99_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_trial(setting: Setting, condition: Condition, run: Mapping[str, Any]) -> Trial:
    """What a run of the load generator means for the caller."""
    call_minutes = run["seconds"] * run["calls"] / 60
    return Trial(
        setting=setting,
        condition=condition,
        gaps=run["gap_ms"]["count"] / call_minutes,
        gap_ms=run["gap_total_ms"] / call_minutes,
        gap_max_ms=run["gap_ms"]["max"],
        left_over_p50_ms=run["left_over_ms"]["p50"],
        left_over_p99_ms=run["left_over_ms"]["p99"],
        talk_over_p99_ms=run["talk_over_ms"]["p99"],
        heard_error_p99_ms=run["heard_error_ms"]["abs_p99"],
        cpu_ms_per_call_second=run["engine_cpu_ms_per_call_second"],
        bytes_per_call_second=run["carrier_bytes_per_call_second"],
        up_p99_ms=run["up_ms"]["p99"],
    )
