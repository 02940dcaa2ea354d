"""What a run measured: samples, counters and violations, filled during the run and read by the report.

Samples are taken only while `measuring` is true; faults are counted from the first byte to the last.
"""

from array import array
from collections import Counter
from collections.abc import Sequence

# Examples kept of each kind of violation: enough to find the cause, bounded however bad the run.
_EXAMPLES_PER_KIND = 2
_EXAMPLE_CHARS = 300


def percentile(ordered: Sequence[float], share: float) -> float:
    """Value below which `share` (0 to 1) of the sorted samples lie; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(samples: "array[float]") -> dict[str, float]:
    """Count, p50, p99, p99.9, smallest and largest of samples, in the samples' own unit."""
    ordered = sorted(samples)
    return {
        "count": len(ordered),
        "p50": percentile(ordered, 0.50),
        "p99": percentile(ordered, 0.99),
        "p99.9": percentile(ordered, 0.999),
        "min": ordered[0] if ordered else 0.0,
        "max": ordered[-1] if ordered else 0.0,
    }


class Figures:
    """All figures of one run."""

    def __init__(self) -> None:
        # True inside the measured window; samples outside it are not kept.
        self.measuring = False
        self.up_ms: array[float] = array("d")
        self.first_audio_ms: array[float] = array("d")
        self.clear_ms: array[float] = array("d")
        self.frame_late_ms: array[float] = array("d")
        self.heard_error_ms: array[float] = array("d")
        self.hangup_ms: array[float] = array("d")
        self.load_late_ms: array[float] = array("d")
        # Silence the caller heard although the engine held audio for it.
        self.gap_ms: array[float] = array("d")
        # Barge-ins: what the caller still heard after speech_started, and what the clear then dropped at the carrier.
        self.talk_over_ms: array[float] = array("d")
        self.left_over_ms: array[float] = array("d")
        # WebSocket messages and bytes from the engine to the carriers, while measuring.
        self.carrier_messages = 0
        self.carrier_bytes = 0
        # Deepest playout buffer of any call, milliseconds.
        self.depth_max_ms = 0.0
        # Faults and volumes by name; a name never counted reads 0.
        self.counts: Counter[str] = Counter()
        # Breaches of a protocol by kind, and the first examples of each.
        self.violations: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        # Oddities that are not failures.
        self.notices: Counter[str] = Counter()

    def violation(self, kind: str, example: str | bytes = "") -> None:
        """Count a breach of protocol; keeps the first examples."""
        self.violations[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES_PER_KIND:
            kept.append((example if isinstance(example, str) else repr(example))[:_EXAMPLE_CHARS])
