"""Garbage collection while calls are up, and while none is."""

from __future__ import annotations

import gc

import trio
from trio.testing import MockClock

from engine.runtime.collector import FULL_INTERVAL_S, CollectorCounts, run_collector


class Service:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0


async def test_the_collector_is_ours_while_the_service_runs_and_pythons_again_after(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_collector, lambda: 1, CollectorCounts())
            await trio.sleep(0.5)
            assert not gc.isenabled()
            assert gc.get_freeze_count() > 0
            nursery.cancel_scope.cancel()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_old_objects_wait_until_no_call_is_up(autojump_clock: MockClock) -> None:
    service, counts = Service(), CollectorCounts()
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            service.calls = 1
            nursery.start_soon(run_collector, lambda: service.calls, counts)
            await trio.sleep(60.5)
            assert (counts.young, counts.full) == (60, 0)
            service.calls = 0
            await trio.sleep(20)
            assert counts.full == 1
            await trio.sleep(60)
            assert counts.full == 1  # nothing has happened since
            nursery.cancel_scope.cancel()


async def test_a_service_that_is_never_idle_is_collected_all_the_same(autojump_clock: MockClock) -> None:
    counts = CollectorCounts()
    with trio.fail_after(3 * FULL_INTERVAL_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_collector, lambda: 1, counts)
            await trio.sleep(2 * FULL_INTERVAL_S + 2)
            assert counts.full == 2
            assert counts.full_worst_ms > 0
            nursery.cancel_scope.cancel()
