"""Garbage collection kept off the path of frames, and measured.

Python's collector runs whenever enough objects have been made, which is in the middle of a pass as likely as not, and
looks at everything when it looks at the oldest. Here it runs by itself no more: the young objects are collected once a
second, right after a pass, and the old ones only while no call is up, or when that has not come for half an hour. What
exists when the service is ready is never looked at again.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

INTERVAL_S: Final = 1.0
FULL_INTERVAL_S: Final = 30 * 60.0
# After so long without a call a full collection disturbs nobody.
IDLE_S: Final = 5.0

_log = logging.getLogger("engine.collector")


@dataclass(slots=True)
class CollectorCounts:
    """What the collections cost."""

    young: int = 0
    full: int = 0
    young_worst_ms: float = 0.0
    full_worst_ms: float = 0.0


async def run_collector(calls: Callable[[], int], counts: CollectorCounts) -> None:
    """Collects until cancelled; then the collector runs by itself again.

    Args:
        calls: How many calls are up.
        counts: Where the cost is noted.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        full_at = idle_since = trio.current_time()
        while True:
            await trio.sleep(INTERVAL_S)
            now = trio.current_time()
            if calls():
                idle_since = now
            collect_young(counts)
            if full_at < idle_since <= now - IDLE_S or now - full_at >= FULL_INTERVAL_S:
                full_at = now
                collect_all(counts)
    finally:
        gc.unfreeze()
        gc.enable()
        _log.info("garbage collection: %s", counts)


def collect_young(counts: CollectorCounts) -> None:
    """Collects what was made since the last time."""
    counts.young += 1
    counts.young_worst_ms = max(counts.young_worst_ms, _timed_ms(1))


def collect_all(counts: CollectorCounts) -> None:
    """Collects everything but what was there at the beginning."""
    counts.full += 1
    counts.full_worst_ms = max(counts.full_worst_ms, _timed_ms(2))


def _timed_ms(generation: int) -> float:
    begun = time.perf_counter()
    gc.collect(generation)
    return (time.perf_counter() - begun) * 1000
