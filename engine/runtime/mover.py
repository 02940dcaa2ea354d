"""The mover: one task that moves the steady flow of frames for all calls of a process.

Owns an inner epoll of all media sockets and the schedule of all pacers. What waking a task costs dominates what a
frame costs; so with many calls the sockets are looked at once a millisecond, on the frame clock's grid, in one pass
that receives what has arrived and sends what is due, for every call, without a task switch between. With few calls
each arrival is moved at once, and the clock rings only when a frame is due; with none it is off.

The mover decides nothing. A call attaches its sockets and its pacer and is called back, synchronously; whatever needs
time or may fail on its own belongs to the call's own tasks. A callback that raises is detached and reported to its
owner; the other calls go on.
"""

from __future__ import annotations

import heapq
import select
from collections.abc import Callable
from typing import Final, Protocol

import trio

from engine.runtime.clock import FrameClock

GRID_S: Final = 0.001
# From so many attached sockets (two a call) on, the grid is cheaper than waking at each arrival; and below it, not.
GRID_ABOVE: Final = 48
ARRIVALS_BELOW: Final = 32
# A due is met if it lies at most this far ahead: floating-point dust, and a clock that woke us a hair early.
_EARLY_S: Final = 0.00005


class Moved(Protocol):
    """A socket whose arrivals the mover handles."""

    def pump(self) -> None:
        """Takes what has arrived. Called when the socket is readable; never waits."""
        ...

    def crash(self, error: Exception) -> None:
        """:meth:`pump` raised; the socket is detached already."""
        ...


class Alarm:
    """When one pacer wants to be called next. Made by :meth:`Mover.alarm`."""

    __slots__ = ("_crash", "_mover", "_ring", "due_at")

    def __init__(self, mover: Mover, ring: Callable[[float], None], crash: Callable[[Exception], None]) -> None:
        self._mover = mover
        self._ring = ring
        self._crash = crash
        # the time set, in seconds; None while it is off
        self.due_at: float | None = None

    def set(self, due_at: float | None) -> None:
        """Rings at this time, or earlier if it was set to an earlier one; None changes nothing."""
        if due_at is not None and (self.due_at is None or due_at < self.due_at):
            self.due_at = due_at
            self._mover.schedule(due_at, self)

    def cancel(self) -> None:
        """Does not ring until it is set again."""
        self.due_at = None

    def ring(self, now: float) -> None:
        """Calls the pacer; what it raises goes to its owner."""
        self.due_at = None
        try:
            self._ring(now)
        except Exception as error:  # noqa: BLE001 - handed to the call's root; the other calls go on
            self._crash(error)


class Mover:
    """Moves frames for all calls.

    Args:
        clock: The frame clock; the mover alone arms it.
    """

    def __init__(self, clock: FrameClock) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._moved: dict[int, Moved] = {}
        # (due, serial, whose): entries are never removed, only found outdated
        self._schedule: list[tuple[float, int, Alarm]] = []
        self._serial = 0
        self._on_grid = False
        # what the clock is set to
        self._armed = float("inf")
        # set when the sockets are few, so that arrivals are waited for
        self._arrivals_wanted = trio.Event()
        # how often the clock rang, and how often arrivals were looked at
        self.ticks = 0
        self.drains = 0

    @property
    def on_grid(self) -> bool:
        """Whether arrivals are moved on the clock's grid rather than at once."""
        return self._on_grid

    def attach(self, fd: int, moved: Moved) -> None:
        """Begins to handle a socket's arrivals."""
        self._moved[fd] = moved
        self._epoll.register(fd, select.EPOLLIN)
        if not self._on_grid and len(self._moved) > GRID_ABOVE:
            self._on_grid = True
            self._arrivals_wanted = trio.Event()
            self._arm(self.clock.now())

    def detach(self, fd: int) -> None:
        """Ends it; call it before the socket is closed. Does nothing if the socket is not attached."""
        if self._moved.pop(fd, None) is None or self._epoll.closed:  # a call may end after the mover
            return
        self._epoll.unregister(fd)
        if self._on_grid and len(self._moved) < ARRIVALS_BELOW:
            self._on_grid = False
            self._arrivals_wanted.set()

    def alarm(self, ring: Callable[[float], None], crash: Callable[[Exception], None]) -> Alarm:
        """Makes an alarm.

        Args:
            ring: Called with the time, synchronously.
            crash: Called with what ``ring`` raised.
        """
        return Alarm(self, ring, crash)

    def schedule(self, due_at: float, alarm: Alarm) -> None:
        """Enters an alarm's time; for :class:`Alarm`."""
        self._serial += 1
        heapq.heappush(self._schedule, (due_at, self._serial, alarm))
        if due_at < self._armed and not self._on_grid:
            self._arm(due_at)

    def _arm(self, deadline: float) -> None:
        self._armed = deadline
        self.clock.arm(None if deadline == float("inf") else deadline)

    async def run(self) -> None:
        """Moves frames until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_arrivals)
                await self._run_clock()
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    async def _run_clock(self) -> None:
        while True:
            await self.clock.wait()
            self.ticks += 1
            self._advance(self.clock.now())
            if self._on_grid:
                self._drain()
                self._arm(((self.clock.now() + _EARLY_S) // GRID_S + 1) * GRID_S)
            else:
                self._arm(self._schedule[0][0] if self._schedule else float("inf"))

    async def _run_arrivals(self) -> None:
        while True:
            if self._on_grid:
                await self._arrivals_wanted.wait()
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            if not self._on_grid:
                self._drain()

    def _advance(self, now: float) -> None:
        schedule = self._schedule
        while schedule and schedule[0][0] <= now + _EARLY_S:
            due_at, _, alarm = heapq.heappop(schedule)
            if alarm.due_at == due_at:  # else it was cancelled, or set to an earlier time and rang then
                alarm.ring(now)

    def _drain(self) -> None:
        self.drains += 1
        moved = self._moved
        for fd, _ in self._epoll.poll(0, max(1, len(moved))):
            who = moved.get(fd)
            if who is None:
                continue  # detached by a callback of this very pass
            try:
                who.pump()
            except Exception as error:  # noqa: BLE001 - handed to the call's root; the other calls go on
                self.detach(fd)
                who.crash(error)
