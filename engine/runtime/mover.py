"""The mover: one task that moves the steady flow of frames for all calls of a process.

Owns the watch over all media sockets and the schedule of all pacers. What waking a task costs dominates what a frame
costs; so with many calls the sockets are looked at once a millisecond, on the frame clock's grid, in one pass of C
(``codec_c/mover.h``) that receives what has arrived, carries media on, and sends what is due, for every call, without a
task switch or a Python object between. With few calls each arrival is moved at once, and the clock rings only when a
frame is due; with none it is off.

The mover decides nothing. What the pass does not recognise comes back as events, in order, and goes to the link it
belongs to, synchronously; whatever needs time or may fail on its own belongs to the call's own tasks. A callback that
raises is detached and reported to its owner; the other calls go on. Where there is no epoll, the mover only rings
alarms, and links read by themselves.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import trio

from engine._codec import ffi, lib
from engine.runtime.clock import FrameClock
from engine.runtime.leg import Leg, copy_bytes

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

GRID_S: Final = 0.001
# From so many attached sockets (two a call) on, the grid is cheaper than waking at each arrival; and below it, not.
GRID_ABOVE: Final = 48
ARRIVALS_BELOW: Final = 32
# A due is met if it lies at most this far ahead: floating-point dust, and a clock that woke us a hair early.
_EARLY_S: Final = 0.00005

# the kinds of events (codec_c/outbox.h)
_BYTES: Final = 1
_DELTA: Final = 2
_SEND: Final = 3
_UNSENT: Final = 4
_READABLE: Final = 5
_MARK_WANTED: Final = 6
_ENDED: Final = 7
_FAILED: Final = 8


class Moved(Protocol):
    """A socket whose arrivals the mover handles. No method waits."""

    @property
    def fd(self) -> int | None:
        """The socket's descriptor."""
        ...

    @property
    def is_direct(self) -> bool:
        """Whether the descriptor can be read and written as it is; not so for TLS."""
        ...

    @property
    def side(self) -> int:
        """:data:`~engine.runtime.leg.CARRIER` or :data:`~engine.runtime.leg.PROVIDER`."""
        ...

    @property
    def frame_limit_bytes(self) -> int:
        """Longer messages are left to the WebSocket library."""
        ...

    def take_bytes(self, data: bytes) -> None:
        """Takes bytes for the WebSocket library; ``b""`` when the peer has ended its side."""
        ...

    def take_delta(self, event: CData) -> None:
        """Takes a piece of the model's voice: a ``struct leg_event``, good until this returns."""
        ...

    def read_nowait(self) -> bytes | None:
        """Reads what has arrived, where the descriptor cannot be read as it is."""
        ...

    def send_frame_nowait(self, frame: bytes) -> None:
        """Sends a frame of audio, made by the pass, by its own means."""
        ...

    def take_unsent(self, data: bytes) -> None:
        """Takes what the socket did not, to be sent before anything else."""
        ...

    def mark_wanted(self) -> None:
        """A mark should follow the audio that has left."""
        ...

    def take_failure(self, error_number: int) -> None:
        """The socket is broken."""
        ...

    def crash(self, error: Exception) -> None:
        """A method raised; nothing more arrives."""
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
        self._state: CData = lib.mover_new()
        self._legs: dict[int, tuple[Moved, Leg]] = {}
        self._leg_ids = 0
        # (due, serial, whose): entries are never removed, only found outdated
        self._schedule: list[tuple[float, int, Alarm]] = []
        self._serial = 0
        self._on_grid = False
        # what the clock is set to
        self._armed = inf
        # set when the sockets are few, so that arrivals are waited for
        self._arrivals_wanted = trio.Event()
        # how often the clock rang, and how often arrivals were looked at
        self.ticks = 0
        self.drains = 0

    @property
    def on_grid(self) -> bool:
        """Whether arrivals are moved on the clock's grid rather than at once."""
        return self._on_grid

    @property
    def watches(self) -> bool:
        """Whether sockets can be attached."""
        return bool(self._state)

    # ---------------------------------------------------------------------------------------------------- its sockets

    def attach(self, moved: Moved) -> Leg:
        """Begins to handle a socket's arrivals.

        Raises:
            OSError: The socket cannot be watched.
            MemoryError: There is none.
        """
        assert moved.fd is not None
        self._leg_ids += 1
        leg = Leg(self._leg_ids, moved.fd if moved.is_direct else None, moved.side, moved.frame_limit_bytes)
        if lib.mover_watch(self._state, leg.state, moved.fd):
            number = ffi.errno
            leg.close()
            raise OSError(number, "the socket cannot be watched")
        if lib.mover_pace(self._state, leg.state):
            lib.mover_forget(self._state, leg.state, moved.fd)
            leg.close()
            raise MemoryError
        self._legs[leg.leg_id] = (moved, leg)
        if not self._on_grid and len(self._legs) > GRID_ABOVE:
            self._on_grid = True
            self._arrivals_wanted = trio.Event()
            self._arm(self.clock.now())
        return leg

    def detach(self, leg: Leg) -> bytes:
        """Ends it; call it before the socket is closed. Does nothing if the leg is not attached.

        Returns:
            What has arrived and not been handed on: the beginning of a message, mostly nothing.
        """
        moved, _ = self._legs.pop(leg.leg_id, (None, leg))
        if moved is None:
            return b""
        rest = b""
        if self._state:
            lib.mover_hand_over(self._state, leg.state)
            rest = b"".join(copy_bytes(event.data, event.size) for event in _events(lib.mover_aside(self._state)))
            lib.mover_forget(self._state, leg.state, moved.fd if moved.fd is not None else -1)
        leg.close()
        if self._on_grid and len(self._legs) < ARRIVALS_BELOW:
            self._on_grid = False
            self._arrivals_wanted.set()
        return rest

    def feed(self, leg: Leg, data: bytes) -> None:
        """Takes bytes of a leg that came another way: right behind a handshake."""
        if self._state:
            lib.mover_feed(self._state, leg.state, data, len(data), self.clock.now())
            self._deal_with_events()

    def send_due(self, moved: Moved, leg: Leg, now: float) -> bool:
        """Sends the frames of a carrier that are due.

        Returns:
            Whether a mark should follow before more is sent. Never if the leg is not, or no longer, attached.
        """
        if not self._state or leg.leg_id not in self._legs:
            return False
        lib.mover_send_due(self._state, leg.state, now)
        mark_wanted = False
        unsent, error_number = b"", 0
        for event in _events(lib.mover_aside(self._state)):
            if event.kind == _UNSENT:
                unsent = copy_bytes(event.data, event.size)
            elif event.kind == _MARK_WANTED:
                mark_wanted = True
            else:
                error_number = event.error
        # only now that the outbox is read: a link that ends is detached, and that uses the outbox anew
        if unsent:
            moved.take_unsent(unsent)
        if error_number:
            moved.take_failure(error_number)
        return mark_wanted and leg.leg_id in self._legs

    # ----------------------------------------------------------------------------------------------------- its alarms

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
        self.expect(due_at)

    def expect(self, due_at: float | None) -> None:
        """Lets the clock ring by then; a pass then finds what is due."""
        if due_at is not None and due_at < self._armed and not self._on_grid:
            self._arm(due_at)

    def _arm(self, deadline: float) -> None:
        self._armed = deadline
        self.clock.arm(None if deadline == inf else deadline)

    # ------------------------------------------------------------------------------------------------------ its tasks

    async def run(self) -> None:
        """Moves frames until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                if self._state:
                    nursery.start_soon(self._run_arrivals)
                await self._run_clock()
        finally:
            self._close()

    def _close(self) -> None:
        if not self._state:
            return
        for moved, leg in list(self._legs.values()):  # calls may end after the mover
            lib.mover_forget(self._state, leg.state, moved.fd if moved.fd is not None else -1)
        trio.lowlevel.notify_closing(lib.mover_fd(self._state))
        lib.mover_free(self._state)
        self._state = ffi.NULL

    async def _run_clock(self) -> None:
        while True:
            await self.clock.wait()
            self.ticks += 1
            now = self.clock.now()
            self._ring(now)
            if self._state:
                lib.mover_pass(self._state, now)
                self._deal_with_events()
            self._arm(self._next_tick())

    def _next_tick(self) -> float:
        if self._on_grid:
            return ((self.clock.now() + _EARLY_S) // GRID_S + 1) * GRID_S
        due_at = lib.mover_due_at(self._state) if self._state else inf
        return min(due_at, self._schedule[0][0]) if self._schedule else due_at

    async def _run_arrivals(self) -> None:
        while True:
            if self._on_grid:
                await self._arrivals_wanted.wait()
            await trio.lowlevel.wait_readable(lib.mover_fd(self._state))
            if not self._on_grid:
                self.drains += 1
                lib.mover_drain(self._state, self.clock.now())
                self._deal_with_events()

    def _ring(self, now: float) -> None:
        schedule = self._schedule
        while schedule and schedule[0][0] <= now + _EARLY_S:
            due_at, _, alarm = heapq.heappop(schedule)
            if alarm.due_at == due_at:  # else it was cancelled, or set to an earlier time and rang then
                alarm.ring(now)

    # ----------------------------------------------------------------------------------------------------- its events

    def _deal_with_events(self) -> None:
        """Deals with what a pass left, and with what the legs do that stood still meanwhile."""
        waiting = deque(self._hand_out())
        while waiting:
            leg_id, kind = waiting.popleft()
            moved, leg = self._legs.get(leg_id, (None, None))
            if moved is None or leg is None:
                continue
            if kind == _READABLE:
                data = self._read(moved, leg)
                if not data:
                    continue
                lib.mover_feed(self._state, leg.state, data, len(data), self.clock.now())
            else:
                lib.mover_resume(self._state, leg.state, self.clock.now())
            waiting.extend(self._hand_out())

    def _read(self, moved: Moved, leg: Leg) -> bytes | None:
        try:
            return moved.read_nowait()
        except Exception as error:  # noqa: BLE001 - handed to the call's root; the other calls go on
            self._crash(moved, leg, error)
            return None

    def _crash(self, moved: Moved, leg: Leg, error: Exception) -> None:
        moved.crash(error)
        self.detach(leg)  # if it has not done so itself

    def _hand_out(self) -> list[tuple[int, int]]:
        """Hands each event to its link; returns the legs to go on with, and why."""
        outbox = lib.mover_outbox(self._state)
        events = _events(outbox)
        if outbox.unsent:  # before anything else is sent, or it would go into the middle of a frame
            for event in events:
                if event.kind == _UNSENT:
                    self._hand(event)
        again: dict[tuple[int, int], None] = {}
        for event in events:
            kind = event.kind
            if kind != _UNSENT:
                self._hand(event)
            if kind in (_BYTES, _READABLE):
                again[event.leg_id, kind] = None
        return list(again)

    def _hand(self, event: CData) -> None:
        moved, leg = self._legs.get(event.leg_id, (None, None))
        if moved is None or leg is None:
            return  # detached by a callback of this very pass
        try:
            _tell(moved, event)
        except Exception as error:  # noqa: BLE001 - handed to the call's root; the other calls go on
            self._crash(moved, leg, error)


def _tell(moved: Moved, event: CData) -> None:
    kind = event.kind
    if kind == _BYTES:
        moved.take_bytes(copy_bytes(event.data, event.size))
    elif kind == _DELTA:
        moved.take_delta(event)
    elif kind == _SEND:
        moved.send_frame_nowait(copy_bytes(event.data, event.size))
    elif kind == _UNSENT:
        moved.take_unsent(copy_bytes(event.data, event.size))
    elif kind == _MARK_WANTED:
        moved.mark_wanted()
    elif kind == _ENDED:
        moved.take_bytes(b"")
    elif kind == _FAILED:
        moved.take_failure(event.error)


def _events(outbox: CData) -> list[CData]:
    """The events of an outbox; they are good until its next call of C.

    Raises:
        MemoryError: There was none, so that some are lost; no call of this process can be trusted any more.
    """
    if outbox.starved:
        raise MemoryError("what arrived was lost for want of memory")
    events = outbox.events
    return [events + index for index in range(outbox.count)]
