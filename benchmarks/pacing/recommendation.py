"""Which setting to take, and why. Sans-IO.

Rules in order of what a caller minds most; each keeps the settings that are as good as the best, within a tolerance below which
nobody would notice, and hands them to the next: silence heard, a wrong account of what was heard, audio sent for nothing when
interrupted, the machine's time, the network's bytes. A setting counts with its worst condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.pacing.trial import Setting, Trial

# Of a minute: far below what is heard as a gap.
SILENT_MS_PER_MINUTE = 5.0


@dataclass(frozen=True, kw_only=True)
class Worst:
    """A setting under the worst of its conditions, figure by figure; the costs are means, for they hardly depend on it."""

    setting: Setting
    gap_ms: float
    gap_max_ms: float
    heard_error_p99_ms: float
    left_over_p99_ms: float
    talk_over_p99_ms: float
    cpu_ms_per_call_second: float
    bytes_per_call_second: float


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The setting, and one sentence for each rule that took part."""

    best: Worst
    reasons: tuple[str, ...]

    @property
    def is_silent(self) -> bool:
        """Whether no gap is heard with it in any condition tried."""
        return self.best.gap_ms < SILENT_MS_PER_MINUTE


@dataclass(frozen=True)
class _Rule:
    figure: Callable[[Worst], float]
    tolerance: Callable[[float], float]
    text: str


_RULES = (
    _Rule(lambda worst: worst.gap_ms, lambda _: SILENT_MS_PER_MINUTE, "{best:.0f} ms of gaps a minute at worst"),
    _Rule(
        lambda worst: max(20.0, worst.heard_error_p99_ms),
        lambda _: 0.0,
        "what was heard is known within {best:.0f} ms (p99)",
    ),
    _Rule(lambda worst: worst.left_over_p99_ms, lambda _: 30.0, "about {best:.0f} ms left over at a barge-in"),
    _Rule(
        lambda worst: worst.cpu_ms_per_call_second,
        lambda best: 0.05 * best,
        "{best:.2f} ms of CPU per call-second",
    ),
    _Rule(lambda worst: worst.bytes_per_call_second, lambda _: 0.0, "{best:,.0f} bytes to Twilio per call-second"),
    # of equals, what is most usual
    _Rule(lambda worst: abs(worst.setting.frame_ms - 20), lambda _: 0.0, ""),
    _Rule(lambda worst: worst.setting.lead_ms, lambda _: 0.0, ""),
)


def worst_of(trials: Sequence[Trial]) -> list[Worst]:
    """Each setting under its worst condition, in order."""
    found = []
    for setting in sorted({trial.setting for trial in trials}):
        own = [trial for trial in trials if trial.setting == setting]
        found.append(
            Worst(
                setting=setting,
                gap_ms=max(trial.gap_ms for trial in own),
                gap_max_ms=max(trial.gap_max_ms for trial in own),
                heard_error_p99_ms=max(trial.heard_error_p99_ms for trial in own),
                left_over_p99_ms=max(trial.left_over_p99_ms for trial in own),
                talk_over_p99_ms=max(trial.talk_over_p99_ms for trial in own),
                cpu_ms_per_call_second=sum(trial.cpu_ms_per_call_second for trial in own) / len(own),
                bytes_per_call_second=sum(trial.bytes_per_call_second for trial in own) / len(own),
            )
        )
    return found


def recommend(trials: Sequence[Trial]) -> Recommendation:
    """The setting to take.

    Raises:
        ValueError: There are no trials.
    """
    left = worst_of(trials)
    if not left:
        raise ValueError("nothing was tried")
    reasons = []
    for rule in _RULES:
        best = min(map(rule.figure, left))
        kept = [worst for worst in left if rule.figure(worst) <= best + rule.tolerance(best)]
        if len(kept) < len(left) and rule.text:
            reasons.append(_reason(rule, best, left, kept))
        left = kept
    return Recommendation(best=left[0], reasons=tuple(reasons))


def _reason(rule: _Rule, best: float, left: list[Worst], kept: list[Worst]) -> str:
    worse = max(rule.figure(worst) for worst in left)
    dropped = len(left) - len(kept)
    text = rule.text.format(best=best)
    return f"{text}; this rules out {dropped} setting{'s' if dropped > 1 else ''} with up to {worse:,.4g}"
