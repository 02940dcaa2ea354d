"""The ways to time frames that are compared: the engine's clock and mover, and Trio's own timers in each call.

Each way runs all calls of a `Pacing` in a Trio run of its own. A stall blocks the whole process, as a collection or a slow
callback does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import trio

from benchmarks.pacer.calls import PacedCall, Pacing, PlayedCall
from engine.runtime.clock import open_clock
from engine.runtime.mover import Mover

# Calls begin within this time, and the measurement after it.
_SETTLING_S: Final = 0.6
# A call's sockets: Twilio's and the provider's.
_SOCKETS: Final = 2


class Measured:
    """What one way did."""

    def __init__(self, calls: list[PlayedCall], cpu_ms_per_call_second: float) -> None:
        self.late_ms = sorted(late for call in calls for late in call.late_ms)
        self.gap_ms = sorted(gap for call in calls for gap in call.gap_ms)
        self.rebuilt_ms = sorted(rebuilt for call in calls for rebuilt in call.rebuilt_ms)
        self.never_rebuilt = sum(call.never_rebuilt for call in calls)
        self.cpu_ms_per_call_second = cpu_ms_per_call_second


Way = Callable[[Pacing], Awaitable[Measured]]


class _Silent:
    """A socket on which nothing ever arrives."""

    def pump(self) -> None:
        raise AssertionError("nothing can arrive")

    def crash(self, error: Exception) -> None:
        raise error


async def _observe(pacing: Pacing, calls: list[PlayedCall], clock: Callable[[], float]) -> Measured:
    """Measure running calls, with stalls; gives what they did."""
    await trio.sleep(_SETTLING_S)
    for call in calls:
        call.measured_from = clock()
    cpu_before_s, began_at, stalled_s = time.process_time(), clock(), 0.0
    step_s = pacing.seconds / (len(pacing.stalls_ms) + 1)
    for stall_ms in pacing.stalls_ms:
        await trio.sleep(step_s)
        time.sleep(stall_ms / 1000)  # noqa: ASYNC251  blocking is the point
        stalled_s += stall_ms / 1000
        for call in calls:
            call.stalled(clock())
    await trio.sleep(step_s)
    for call in calls:
        call.finish()
    cpu_s = time.process_time() - cpu_before_s
    return Measured(calls, cpu_s * 1000 / (pacing.calls * (clock() - began_at)))


def _start_offset_s(number: int, pacing: Pacing) -> float:
    return number / pacing.calls * pacing.frame_ms / 1000


async def by_mover(pacing: Pacing) -> Measured:
    """The engine: one timer for the process, calls rung on a 1 ms grid."""
    clock = open_clock()
    idle = [os.eventfd(0) for _ in range(_SOCKETS * pacing.calls)]
    try:
        mover = Mover(clock)
        calls = [PacedCall(pacing, clock.now) for _ in range(pacing.calls)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.run)
            for descriptor in idle:  # so that the mover is on its grid when the engine's would be
                mover.attach(descriptor, _Silent())
            for number, call in enumerate(calls):
                _ring_call(mover, call, clock.now() + 0.01 + _start_offset_s(number, pacing))
            measured = await _observe(pacing, [call.played for call in calls], clock.now)
            nursery.cancel_scope.cancel()
        return measured
    finally:
        clock.close()
        for descriptor in idle:
            os.close(descriptor)


def _ring_call(mover: Mover, call: PacedCall, first_at: float) -> None:
    def ring(now: float) -> None:
        alarm.set(call.send_due(now))

    def crash(error: Exception) -> None:
        raise error

    alarm = mover.alarm(ring, crash)
    alarm.set(first_at)


async def by_sleep_until(pacing: Pacing) -> Measured:
    """A task for each call that sleeps until its pacer's next frame is due."""
    calls = [PacedCall(pacing, trio.current_time) for _ in range(pacing.calls)]
    first_at = trio.current_time() + 0.01

    async def play(number: int, call: PacedCall) -> None:
        due_at = first_at + _start_offset_s(number, pacing)
        while True:
            await trio.sleep_until(due_at)
            due_at = call.send_due(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(play, number, call)
        measured = await _observe(pacing, [call.played for call in calls], trio.current_time)
        nursery.cancel_scope.cancel()
    return measured


async def by_sleep(pacing: Pacing) -> Measured:
    """A task for each call that sends a frame and sleeps for its length: each delay moves all that follows."""
    calls = [PlayedCall(pacing, trio.current_time) for _ in range(pacing.calls)]
    frame_s, samples = pacing.frame_ms / 1000, pacing.frame_ms * 8
    lead_frames = pacing.lead_ms // pacing.frame_ms
    first_at = trio.current_time() + 0.01

    async def play(number: int, call: PlayedCall) -> None:
        began_at = first_at + _start_offset_s(number, pacing)
        await trio.sleep_until(began_at)
        for _ in range(lead_frames):
            call.hear(began_at, samples)
        sent = 0
        while True:
            call.hear(began_at + sent * frame_s, samples)
            sent += 1
            await trio.sleep(frame_s)

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(play, number, call)
        measured = await _observe(pacing, calls, trio.current_time)
        nursery.cancel_scope.cancel()
    return measured


WAYS: Final[Mapping[str, Way]] = MappingProxyType(
    {
        "engine: clock and mover": by_mover,
        "trio.sleep_until per call": by_sleep_until,
        "trio.sleep per frame": by_sleep,
    }
)
