"""Both frame clocks: never early, armed anew while waited on, disarmed, and past deadlines."""

import sys
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing
from loopback import count_fds

from engine.runtime.clock import FrameClock, SleepingClock, TimerClock, open_clock

LIMIT_S = 10.0
# The timer counts nanoseconds; a float of the machine's uptime is that exact, no more.
DUST_S = 1e-6

MAKERS: list[Callable[[], FrameClock]] = [SleepingClock]
if sys.platform == "linux":
    MAKERS.append(TimerClock)


@pytest.fixture(params=MAKERS)
async def clock(request: pytest.FixtureRequest) -> AsyncIterator[FrameClock]:
    made: FrameClock = request.param()
    yield made
    made.close()


async def wait_and_note(clock: FrameClock, rung: list[float]) -> None:
    await clock.wait()
    rung.append(clock.now())


async def test_an_alarm_is_never_early(clock: FrameClock) -> None:
    with trio.fail_after(LIMIT_S):
        for ahead_s in (0.0001, 0.0015, 0.004):
            deadline = clock.now() + ahead_s
            clock.arm(deadline)
            await clock.wait()
            assert clock.now() >= deadline - DUST_S


async def test_a_deadline_that_has_passed_rings_at_once_and_stays_rung(clock: FrameClock) -> None:
    with trio.fail_after(LIMIT_S):
        clock.arm(clock.now() - 5)
        await clock.wait()
        await clock.wait()
        clock.arm(-1.0)
        await clock.wait()


async def test_an_earlier_deadline_set_while_waiting_counts(clock: FrameClock) -> None:
    rung: list[float] = []
    with trio.fail_after(LIMIT_S):
        clock.arm(clock.now() + 3600)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_and_note, clock, rung)
            await trio.testing.wait_all_tasks_blocked()
            assert rung == []
            deadline = clock.now() + 0.002
            clock.arm(deadline)
    assert rung[0] >= deadline - DUST_S


async def test_a_later_deadline_set_while_waiting_counts(clock: FrameClock) -> None:
    rung: list[float] = []
    with trio.fail_after(LIMIT_S):
        first = clock.now() + 0.05
        clock.arm(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_and_note, clock, rung)
            await trio.testing.wait_all_tasks_blocked()
            clock.arm(first + 0.02)
    assert rung[0] >= first + 0.02 - DUST_S


async def test_a_disarmed_clock_waits_until_it_is_armed(clock: FrameClock) -> None:
    rung: list[float] = []
    with trio.fail_after(LIMIT_S):
        clock.arm(clock.now())
        clock.arm(None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_and_note, clock, rung)
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert rung == []
            clock.arm(clock.now())
    assert len(rung) == 1


async def test_a_wait_can_be_cancelled_and_taken_up_again(clock: FrameClock) -> None:
    with trio.fail_after(LIMIT_S):
        clock.arm(clock.now() + 3600)
        with trio.CancelScope() as scope:
            scope.cancel()
            await clock.wait()
        assert scope.cancelled_caught
        clock.arm(clock.now())
        await clock.wait()


async def test_a_wait_is_a_checkpoint_even_if_the_alarm_has_rung(clock: FrameClock) -> None:
    with trio.fail_after(LIMIT_S):
        clock.arm(-1.0)
        await clock.wait()
        with trio.testing.assert_checkpoints():
            await clock.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
async def test_closing_a_timer_gives_its_descriptor_back_once() -> None:
    before = count_fds()
    clock = TimerClock()
    assert count_fds() == before + 1
    clock.close()
    clock.close()
    assert count_fds() == before


async def test_virtual_time_rings_exactly(autojump_clock: trio.testing.MockClock) -> None:
    clock = open_clock()
    assert isinstance(clock, SleepingClock)
    with trio.fail_after(10_000):
        start = clock.now()
        for second in range(1, 3600):
            clock.arm(start + second)
            await clock.wait()
            assert clock.now() == start + second


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
async def test_real_time_gets_the_precise_clock() -> None:
    clock = open_clock()
    assert isinstance(clock, TimerClock)
    clock.close()
