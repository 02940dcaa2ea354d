"""The mover: alarms, sockets moved at once or on the grid, and frames sent when they are due."""

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from loopback import count_fds, until
from raw_frames import TEXT, frame

from engine.call.pacer import FramePacer
from engine.runtime.clock import SleepingClock, open_clock
from engine.runtime.leg import CARRIER, PROVIDER, Leg
from engine.runtime.mover import ARRIVALS_BELOW, GRID_ABOVE, Mover

LIMIT_S = 20.0
VIRTUAL_LIMIT_S = 100_000.0
HEAD = b'{"event":"media","streamSid":"MZ1","media":{"payload":"'


class Sink:
    """The attached end of a socket pair, a link to the mover, and the other one.

    What arrives are frames of a provider; ``received`` collects what the mover hands on, frames whole.
    """

    side = PROVIDER
    frame_limit_bytes = 1000

    def __init__(self, mover: Mover, *, is_direct: bool = True) -> None:
        self.sock, self.other = socket.socketpair()
        self.sock.setblocking(False)
        self.other.setblocking(False)
        self._mover = mover
        self.is_direct = is_direct
        self.leg: Leg | None = None
        self.received = b""
        self.ended = 0
        self.failures: list[int] = []
        self.unsent: list[bytes] = []
        self.marks_wanted = 0
        self.crashes: list[Exception] = []
        # what else a callback does
        self.on_bytes: Callable[[], None] = lambda: None
        self.on_unsent: Callable[[], None] = lambda: None

    @property
    def fd(self) -> int | None:
        return self.sock.fileno()

    def attach(self) -> None:
        self.leg = self._mover.attach(self)

    def detach(self) -> bytes:
        return b"" if self.leg is None else self._mover.detach(self.leg)

    def take_bytes(self, data: bytes) -> None:
        self.received += data
        self.ended += not data
        self.on_bytes()
        if not data:
            self.detach()

    def take_delta(self, event: object) -> None:
        raise AssertionError("audio was recognised where none was sent")

    def read_nowait(self) -> bytes | None:
        self.on_bytes()
        with suppress(BlockingIOError):
            return self.sock.recv(10)  # less than there is: the rest must be told of again
        return None

    def send_frame_nowait(self, frame: bytes) -> None:
        raise AssertionError("nothing is carried here")

    def take_unsent(self, data: bytes) -> None:
        self.unsent.append(data)
        self.on_unsent()

    def mark_wanted(self) -> None:
        self.marks_wanted += 1

    def take_failure(self, error_number: int) -> None:
        self.failures.append(error_number)
        self.detach()

    def crash(self, error: Exception) -> None:
        self.crashes.append(error)

    def close(self) -> None:
        self.detach()
        self.sock.close()
        self.other.close()


def framed(text: bytes) -> bytes:
    return frame(TEXT, text, None)


class Carrier(Sink):
    """One that a pacer plays to."""

    side = CARRIER

    def play(self, pacer: FramePacer) -> None:
        self.pacer = pacer
        # what left, as far as a mark was wanted behind it
        self.marked_bytes = 0
        self.attach()
        assert self.leg is not None
        self.leg.begin_stream("MZ1", HEAD, pacer)

    def mark_wanted(self) -> None:
        self.marks_wanted += 1
        self.marked_bytes += sum(run.audio_bytes for run in self.pacer.take_runs())
        self.pacer.marked()

    def send_due(self, now: float) -> None:
        assert self.leg is not None
        while self._mover.send_due(self, self.leg, now):
            self.mark_wanted()


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


@pytest.mark.parametrize("is_direct", [True, False])
async def test_arrivals_are_moved_at_once_and_to_the_end(is_direct: bool) -> None:
    async with running() as mover:
        sink = Sink(mover, is_direct=is_direct)
        sink.attach()
        data = framed(b"x" * 95) + framed(b"y") + framed(b"")
        sink.other.send(data)
        await until(lambda: sink.received == data)
        assert mover.ticks == 0
        assert not mover.on_grid
        sink.close()


async def test_what_arrived_before_attaching_is_moved() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.other.send(framed(b"early"))
        await trio.testing.wait_all_tasks_blocked()
        sink.attach()
        await until(lambda: sink.received == framed(b"early"))
        sink.close()


async def test_what_is_fed_comes_before_what_arrives_and_may_be_half_a_frame() -> None:
    async with running() as mover:
        sink = Sink(mover)
        data = framed(b"behind the handshake")
        sink.other.send(data[5:] + framed(b"more"))
        sink.attach()
        assert sink.leg is not None
        mover.feed(sink.leg, data[:5])
        assert sink.received == b""
        await until(lambda: sink.received == data + framed(b"more"))
        sink.close()


async def test_half_a_frame_comes_back_when_its_socket_is_detached() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
        sink.other.send(framed(b"whole") + framed(b"half")[:3])
        await until(lambda: sink.received == framed(b"whole"))
        assert sink.detach() == framed(b"half")[:3]
        assert sink.detach() == b""
        sink.close()


async def test_the_end_of_the_stream_is_told_once_behind_all_that_came() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
        sink.other.send(framed(b"last") + framed(b"half")[:3])
        sink.other.close()
        await until(lambda: sink.ended == 1)
        assert sink.received == framed(b"last") + framed(b"half")[:3]
        drains = mover.drains
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sink.ended == 1
        assert mover.drains <= drains + 1
        sink.close()


async def test_a_socket_that_cannot_be_watched_is_refused() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
        twin = Sink(mover)
        twin.sock.close()
        twin.other.close()
        with pytest.raises(OSError, match="cannot be watched"):
            twin.attach()
        sink.other.send(framed(b"still there"))
        await until(lambda: sink.received == framed(b"still there"))
        sink.close()


async def test_many_sockets_are_moved_on_the_grid() -> None:
    async with running() as mover:
        sinks = [Sink(mover) for _ in range(GRID_ABOVE + 1)]
        for sink in sinks:
            sink.attach()
        assert mover.on_grid
        for index, sink in enumerate(sinks):
            sink.other.send(framed(b"%d" % index))
        await until(lambda: all(sink.received for sink in sinks))
        assert [sink.received for sink in sinks] == [framed(b"%d" % index) for index in range(len(sinks))]
        ticks, drains = mover.ticks, mover.drains
        await until(lambda: mover.ticks >= ticks + 20)
        assert mover.drains - drains <= 1  # the grid alone looks at arrivals
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
        steady = [Sink(mover, is_direct=index % 2 == 0) for index in range(4)]
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
                piece = framed(b"%d.%d;" % (round_, number))
                sent += piece
                for sink in steady:
                    sink.other.send(piece[:3])
                    sink.other.send(piece[3:])
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
@pytest.mark.parametrize("is_direct", [True, False])
async def test_a_socket_detached_within_a_pass_is_not_touched_in_it(n_more: int, is_direct: bool) -> None:
    async with running() as mover:
        first, second, *more = (Sink(mover, is_direct=is_direct) for _ in range(2 + n_more))
        told: list[Sink] = []

        def tell(sink: Sink, other: Sink) -> None:
            told.append(sink)
            other.close()

        first.on_bytes = lambda: tell(first, second)
        second.on_bytes = lambda: tell(second, first)
        for sink in (first, second, *more):
            sink.attach()
        first.other.send(framed(b"1"))
        second.other.send(framed(b"2"))
        await until(lambda: bool(told))
        await trio.testing.wait_all_tasks_blocked()
        assert len({id(sink) for sink in told}) == 1
        assert not first.crashes
        assert not second.crashes
        for sink in (first, second, *more):
            sink.close()


@pytest.mark.parametrize("n_more", [0, GRID_ABOVE], ids=["at once", "on the grid"])
@pytest.mark.parametrize("is_direct", [True, False])
async def test_a_socket_whose_owner_raises_is_detached_and_the_others_go_on(n_more: int, is_direct: bool) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    async with running() as mover:
        broken, sound, *more = (Sink(mover, is_direct=is_direct) for _ in range(2 + n_more))
        broken.on_bytes = fail
        for sink in (broken, sound, *more):
            sink.attach()
        for sink in (broken, sound):
            sink.other.send(framed(b"12345") + framed(b"6"))
        await until(lambda: bool(broken.crashes) and sound.received == framed(b"12345") + framed(b"6"))
        broken.other.send(framed(b"more"))
        sound.other.send(framed(b"7"))
        await until(lambda: sound.received.endswith(framed(b"7")))
        assert [type(error) for error in broken.crashes] == [ValueError]
        assert broken.detach() == b""
        for sink in (broken, sound, *more):
            sink.close()


async def test_detaching_twice_does_nothing() -> None:
    async with running() as mover:
        sink = Sink(mover)
        sink.attach()
        sink.detach()
        sink.detach()
        sink.close()


# --------------------------------------------------------------------------------------------------------------- pacing


def media_in(data: bytes) -> int:
    return data.count(HEAD)


async def test_frames_leave_when_they_are_due_without_a_word_from_python(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(VIRTUAL_LIMIT_S) as mover:
        carrier, pacer = Carrier(mover), FramePacer(20, 200)
        carrier.play(pacer)
        pacer.push(bytes(160 * 40), mover.clock.now())
        carrier.send_due(mover.clock.now())
        assert media_in(carrier.other.recv(65536)) == 11
        assert carrier.marks_wanted == 1  # behind the first frame
        mover.expect(pacer.due_at())
        await trio.sleep(0.1)
        assert media_in(carrier.other.recv(65536)) == 5
        await trio.sleep(10)
        assert media_in(carrier.other.recv(65536)) == 24
        assert carrier.marks_wanted == 2  # and half a second later
        assert carrier.marked_bytes == 160 * 26
        assert mover.ticks == 29
        carrier.close()


@pytest.mark.parametrize("is_direct", [True, False])
async def test_what_a_socket_does_not_take_comes_back_and_nothing_follows_it(is_direct: bool) -> None:
    async with running() as mover:
        carrier, pacer = Carrier(mover, is_direct=is_direct), FramePacer(200, 2000)
        carrier.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        carrier.play(pacer)
        assert carrier.leg is not None
        pacer.push(bytes(1600 * 12), 0.0)
        carrier.send_due(0.0)
        arrived = b""
        with suppress(BlockingIOError):
            while True:
                arrived += carrier.other.recv(65536)
        frames = arrived + b"".join(carrier.unsent)
        assert len(carrier.unsent) == 1
        assert media_in(frames) == pacer.counts.frames
        assert not mover.send_due(carrier, carrier.leg, 100.0)
        assert pacer.counts.frames == media_in(frames)
        carrier.leg.state.blocked = 0
        carrier.close()


async def test_a_carrier_lost_while_it_is_sent_to_is_asked_for_no_mark() -> None:
    async with running() as mover:
        carrier, pacer = Carrier(mover), FramePacer(20, 200)
        carrier.play(pacer)
        leg = carrier.leg
        assert leg is not None
        carrier.other.close()
        pacer.push(bytes(1600), 0.0)
        assert mover.send_due(carrier, leg, 0.0) is False
        assert carrier.failures == [errno.EPIPE]
        assert mover.send_due(carrier, leg, 0.0) is False
        assert carrier.failures == [errno.EPIPE]
        carrier.close()


async def test_a_carrier_whose_owner_raises_over_what_was_not_sent_concerns_only_itself() -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    async with running() as mover:
        broken, sound = Carrier(mover), Carrier(mover)
        pacers = [FramePacer(200, 2000), FramePacer(20, 200)]
        broken.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        broken.on_unsent = fail
        for carrier, pacer, n_bytes in zip((broken, sound), pacers, (1600 * 12, 160), strict=True):
            carrier.play(pacer)
            pacer.push(bytes(n_bytes), mover.clock.now())
            assert carrier.leg is not None
            if carrier is broken:  # behind its first mark
                assert mover.send_due(carrier, carrier.leg, mover.clock.now())
                broken.mark_wanted()
        mover.expect(mover.clock.now())
        await until(lambda: bool(broken.crashes) and sound.marks_wanted > 0)
        assert media_in(sound.other.recv(65536)) == 1
        for carrier in (broken, sound):
            carrier.close()


async def test_a_carrier_without_a_stream_is_sent_nothing() -> None:
    async with running() as mover:
        carrier = Carrier(mover)
        carrier.attach()
        assert carrier.leg is not None
        assert not mover.send_due(carrier, carrier.leg, 5.0)
        mover.expect(mover.clock.now())
        await until(lambda: mover.ticks == 1)
        carrier.close()


async def test_calls_that_outlive_the_mover_find_it_silent() -> None:
    async with running() as mover:
        carrier, pacer = Carrier(mover), FramePacer(20, 200)
        carrier.play(pacer)
    leg = carrier.leg
    assert leg is not None
    pacer.push(bytes(160), 0.0)
    assert not mover.watches
    assert not mover.send_due(carrier, leg, 0.0)
    mover.feed(leg, framed(b"late"))
    assert carrier.received == b""
    carrier.close()


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
