"""The mover: alarms, and sockets moved at once or on the grid."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from loopback import count_fds, until

from engine.runtime.clock import SleepingClock, open_clock
from engine.runtime.mover import ARRIVALS_BELOW, GRID_ABOVE, Mover

LIMIT_S = 20.0
VIRTUAL_LIMIT_S = 100_000.0


class Sink:
    """The attached end of a socket pair, and the other one."""

    def __init__(self, mover: Mover) -> None:
        self.sock, self.other = socket.socketpair()
        self.sock.setblocking(False)
        self.other.setblocking(False)
        self._mover = mover
        self.received = b""
        self.crashes: list[Exception] = []
        self.on_pump: Callable[[], None] = lambda: None

    def attach(self) -> None:
        self._mover.attach(self.sock.fileno(), self)

    def detach(self) -> None:
        self._mover.detach(self.sock.fileno())

    def pump(self) -> None:
        self.on_pump()
        with suppress(BlockingIOError):
            self.received += self.sock.recv(10)  # less than there is: the rest must be told of again

    def crash(self, error: Exception) -> None:
        self.crashes.append(error)

    def close(self) -> None:
        self.detach()
        self.sock.close()
        self.other.close()


@asynccontextmanager
async def running(limit_s: float = LIMIT_S) -> AsyncIterator[Mover]:
    clock = open_clock()
    mover = Mover(clock)
    with trio.fail_after(limit_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.run)
            yield mover
            nursery.cancel_scope.cancel()
    clock.close()


class Bell:
    """An alarm, and when it rang."""

    def __init__(self, mover: Mover) -> None:
        self.rung: list[float] = []
        self.crashes: list[Exception] = []
        self.on_ring: Callable[[float], None] = lambda now: None
        self.alarm = mover.alarm(self._ring, self.crashes.append)

    def _ring(self, now: float) -> None:
        self.rung.append(now)
        self.on_ring(now)


# --------------------------------------------------------------------------------------------------------------- alarms


async def test_an_alarm_rings_at_its_time_once(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        bell = Bell(mover)
        bell.alarm.set(mover.clock.now() + 5)
        assert bell.alarm.due_at == 5
        await trio.sleep(20)
        assert bell.rung == [5]
        assert bell.alarm.due_at is None


async def test_the_earliest_time_set_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        bell = Bell(mover)
        for due_at in (5.0, 3.0, None, 9.0):
            bell.alarm.set(due_at)
        await trio.sleep(20)
        assert bell.rung == [3]


async def test_a_cancelled_alarm_is_silent_until_it_is_set_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        bell = Bell(mover)
        bell.alarm.set(5)
        bell.alarm.cancel()
        await trio.sleep(10)
        assert bell.rung == []
        bell.alarm.set(15)
        bell.alarm.cancel()
        bell.alarm.set(15)
        bell.alarm.cancel()
        bell.alarm.set(18)
        await trio.sleep(10)
        assert bell.rung == [18]


async def test_an_alarm_cancelled_and_set_to_the_same_time_rings_once(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        bell = Bell(mover)
        bell.alarm.set(5)
        bell.alarm.cancel()
        bell.alarm.set(5)
        await trio.sleep(10)
        assert bell.rung == [5]


async def test_an_alarm_set_while_ringing_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        bell = Bell(mover)
        bell.on_ring = lambda now: bell.alarm.set(now + 0.02) if len(bell.rung) < 500 else None
        bell.alarm.set(1)
        await trio.sleep(20)
        assert len(bell.rung) == 500
        assert bell.rung[-1] == pytest.approx(1 + 499 * 0.02)


async def test_alarms_of_many_ring_in_order_and_overdue_ones_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        order: list[int] = []
        bells = [Bell(mover) for _ in range(100)]
        for index, bell in enumerate(bells):
            bell.on_ring = lambda now, index=index: order.append(index)  # type: ignore[misc]
            bell.alarm.set(100 - index)
        late = Bell(mover)
        late.alarm.set(-7)
        await trio.sleep(0.5)
        assert late.rung == [0]
        await trio.sleep(200)
        assert order == list(reversed(range(100)))


async def test_an_alarm_that_raises_concerns_its_owner_only(autojump_clock: trio.testing.MockClock) -> None:
    def fail(now: float) -> None:
        raise ValueError("on purpose")

    async with running(VIRTUAL_LIMIT_S) as mover:
        broken, sound = Bell(mover), Bell(mover)
        broken.on_ring = fail
        broken.alarm.set(5)
        sound.alarm.set(5)
        await trio.sleep(10)
        assert [type(error) for error in broken.crashes] == [ValueError]
        assert sound.rung == [5]
        assert sound.crashes == []


async def test_a_mover_without_work_does_not_tick(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        sink = Sink(mover)
        sink.attach()
        bell = Bell(mover)
        bell.alarm.set(5)
        await trio.sleep(3600)
        assert mover.ticks == 1
        assert mover.drains == 0
        sink.close()


# -------------------------------------------------------------------------------------------------------------- sockets


async def test_arrivals_are_moved_at_once_and_to_the_end() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
        sink.other.send(b"x" * 95)
        await until(lambda: len(sink.received) == 95)
        assert mover.ticks == 0
        assert not mover.on_grid
        sink.close()


async def test_what_arrived_before_attaching_is_moved() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.other.send(b"early")
        await trio.testing.wait_all_tasks_blocked()
        sink.attach()
        await until(lambda: sink.received == b"early")
        sink.close()


async def test_many_sockets_are_moved_on_the_grid() -> None:
    async with running() as mover:
        sinks = [Sink(mover) for _ in range(GRID_ABOVE + 1)]
        for sink in sinks:
            sink.attach()
        assert mover.on_grid
        for index, sink in enumerate(sinks):
            sink.other.send(b"%d" % index)
        await until(lambda: all(sink.received for sink in sinks))
        assert [sink.received for sink in sinks] == [b"%d" % index for index in range(len(sinks))]
        ticks, drains = mover.ticks, mover.drains
        await until(lambda: mover.ticks >= ticks + 20)
        assert mover.drains - drains <= mover.ticks - ticks + 1  # the grid alone looks at arrivals
        for sink in sinks:
            sink.close()


async def test_alarms_ring_on_the_grid_and_after_it() -> None:
    async with running() as mover:
        sinks = [Sink(mover) for _ in range(GRID_ABOVE + 1)]
        bell = Bell(mover)
        bell.alarm.set(mover.clock.now() + 0.01)
        for sink in sinks:
            sink.attach()
        due_at = bell.alarm.due_at
        await until(lambda: len(bell.rung) == 1)
        assert due_at is not None
        assert bell.rung[0] >= due_at - 0.0001
        bell.alarm.set(mover.clock.now() + 0.02)
        for sink in sinks:
            sink.close()
        assert not mover.on_grid
        await until(lambda: len(bell.rung) == 2)
        bell.alarm.set(mover.clock.now())
        await until(lambda: len(bell.rung) == 3)
        await trio.testing.wait_all_tasks_blocked()
        ticks = mover.ticks
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert mover.ticks == ticks  # off the grid the clock is silent again


async def test_the_way_of_moving_has_hysteresis() -> None:
    async with running() as mover:
        sinks = [Sink(mover) for _ in range(GRID_ABOVE + 1)]
        states = []
        for sink in sinks:
            sink.attach()
            states.append(mover.on_grid)
        assert states.index(True) == GRID_ABOVE
        states.clear()
        for sink in reversed(sinks):
            sink.close()
            states.append(mover.on_grid)
        assert states.index(False) == len(sinks) - ARRIVALS_BELOW


async def test_switching_to_the_grid_and_back_under_load_loses_and_duplicates_nothing() -> None:
    async with running() as mover:
        steady = [Sink(mover) for _ in range(4)]
        for sink in steady:
            sink.attach()
        extra = [Sink(mover) for _ in range(GRID_ABOVE)]
        sent = b""
        switches = set()
        for round_ in range(30):
            for sink in extra:
                sink.attach() if round_ % 2 == 0 else sink.detach()
            switches.add(mover.on_grid)
            for number in range(20):
                piece = b"%d.%d;" % (round_, number)
                sent += piece
                for sink in steady:
                    sink.other.send(piece)
                if number % 5 == 0:
                    await trio.lowlevel.checkpoint()
            behind = len(sent) - 100  # some is always on its way when the switch comes
            await until(lambda behind=behind: all(len(sink.received) >= behind for sink in steady))  # type: ignore[misc]
        await until(lambda: all(len(sink.received) >= len(sent) for sink in steady))
        await trio.testing.wait_all_tasks_blocked()
        assert [sink.received == sent for sink in steady] == [True] * 4
        assert switches == {True, False}
        for sink in steady + extra:
            sink.close()


@pytest.mark.parametrize("n_more", [0, GRID_ABOVE], ids=["at once", "on the grid"])
async def test_a_socket_detached_within_a_pass_is_not_touched_in_it(n_more: int) -> None:
    async with running() as mover:
        first, second, *more = (Sink(mover) for _ in range(2 + n_more))
        pumped: list[Sink] = []

        def pump(sink: Sink, other: Sink) -> None:
            pumped.append(sink)
            other.close()

        first.on_pump = lambda: pump(first, second)
        second.on_pump = lambda: pump(second, first)
        for sink in (first, second, *more):
            sink.attach()
        first.other.send(b"1")
        second.other.send(b"2")
        await until(lambda: bool(pumped))
        await trio.testing.wait_all_tasks_blocked()
        assert len(pumped) == 1
        assert not first.crashes
        assert not second.crashes
        for sink in (first, second, *more):
            sink.close()


@pytest.mark.parametrize("n_more", [0, GRID_ABOVE], ids=["at once", "on the grid"])
async def test_a_socket_whose_owner_raises_is_detached_and_the_others_go_on(n_more: int) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    async with running() as mover:
        broken, sound, *more = (Sink(mover) for _ in range(2 + n_more))
        broken.on_pump = fail
        for sink in (broken, sound, *more):
            sink.attach()
        for sink in (broken, sound):
            sink.other.send(b"12345")
        await until(lambda: bool(broken.crashes) and sound.received == b"12345")
        broken.other.send(b"more")
        sound.other.send(b"67890")
        await until(lambda: sound.received == b"1234567890")
        assert len(broken.crashes) == 1
        for sink in (broken, sound, *more):
            sink.close()


async def test_detaching_twice_or_what_was_never_attached_does_nothing() -> None:
    async with running() as mover:
        sink = Sink(mover)
        mover.detach(sink.sock.fileno())
        mover.detach(-1)
        sink.attach()
        sink.detach()
        sink.close()


async def test_a_call_may_detach_after_the_mover_has_ended() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
    sink.close()


async def test_a_mover_that_ends_gives_its_descriptor_back() -> None:
    before = count_fds()
    async with running() as mover:
        Bell(mover).alarm.set(mover.clock.now())
        await until(lambda: mover.ticks == 1)
    assert count_fds() == before


async def test_the_grid_follows_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        assert isinstance(mover.clock, SleepingClock)
        sinks = [Sink(mover) for _ in range(GRID_ABOVE + 1)]
        for sink in sinks:
            sink.attach()
        await trio.sleep(1)
        assert 998 <= mover.ticks <= 1002
        for sink in sinks:
            sink.close()
