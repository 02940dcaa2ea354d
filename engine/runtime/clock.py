"""The frame clock: wakes one task at absolute times, precisely.

Owns the choice between Linux's ``timerfd`` and Trio's own timers. Trio waits in ``epoll_wait``, whose timeout counts
whole milliseconds and rounds up: half a millisecond late on average. A timer descriptor is due to the microsecond.
Where there is none, and under ``trio.testing.MockClock``, the same interface sleeps on Trio's clock. Always holds:
all times are seconds of :meth:`FrameClock.now`, absolute; a clock that is not armed costs nothing.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final, Protocol

import trio

from engine._codec import lib

_NS: Final = 1_000_000_000


class FrameClock(Protocol):
    """A clock with one alarm."""

    def now(self) -> float:
        """The time in seconds, from an arbitrary origin, never set back."""
        ...

    def arm(self, deadline: float | None) -> None:
        """Sets the alarm to a time, or off; also while :meth:`wait` waits for it."""
        ...

    async def wait(self) -> None:
        """Returns once the alarm's time has come; at least one checkpoint."""
        ...

    def close(self) -> None:
        """Gives back what the clock holds; nothing may wait on it."""
        ...


class TimerClock:
    """A frame clock on a timer descriptor.

    Raises:
        OSError: This system has none.
    """

    # the C function itself: it is called for every frame
    now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._fd: int = lib.frame_timer_open()
        if self._fd < 0:
            raise OSError("no timer descriptor on this system")

    def arm(self, deadline: float | None) -> None:
        """Sets the alarm; a deadline that has passed rings at once."""
        # 0 would disarm
        first_ns = 0 if deadline is None else max(1, int(deadline * _NS))
        lib.frame_timer_arm(self._fd, first_ns, 0)

    async def wait(self) -> None:
        """Waits for the alarm. It stays rung until it is armed anew, which also forgets the expiration."""
        await trio.lowlevel.wait_readable(self._fd)

    def close(self) -> None:
        """Closes the descriptor."""
        if self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1


class SleepingClock:
    """A frame clock on Trio's own timers, real or virtual."""

    def __init__(self) -> None:
        self._deadline = float("inf")
        self._scope: trio.CancelScope | None = None

    def now(self) -> float:
        """Trio's time."""
        return trio.current_time()

    def arm(self, deadline: float | None) -> None:
        """Sets the alarm."""
        self._deadline = float("inf") if deadline is None else deadline
        if self._scope is not None:
            self._scope.deadline = self._deadline

    async def wait(self) -> None:
        """Waits for the alarm."""
        self._scope = trio.CancelScope(deadline=self._deadline)
        try:
            with self._scope:
                await trio.sleep_forever()
        finally:
            self._scope = None

    def close(self) -> None:
        """Nothing to give back."""


def open_clock() -> FrameClock:
    """Opens the best clock for this Trio run; close it with its ``close``."""
    if not _time_is_virtual():
        try:
            return TimerClock()
        except OSError:
            pass
    return SleepingClock()


def _time_is_virtual() -> bool:
    testing = sys.modules.get("trio.testing")  # a run cannot have a mock clock that nobody imported
    return testing is not None and isinstance(trio.lowlevel.current_clock(), testing.MockClock)
