"""A link against trio-websocket at the other end: order, bounds, liveliness, and every way to end."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket
import wsproto
from loopback import (
    SMALL_BUFFER_BYTES,
    MakeEnds,
    count_fds,
    lockstep,
    memory,
    narrow,
    narrow_tls,
    plain,
    stream_of,
    tcp_pair,
    tls,
    unix,
    until,
)
from wsproto import events as peer_events

from engine.errors import ConnectionFailed
from engine.runtime.clock import open_clock
from engine.runtime.handshake import accept
from engine.runtime.link import (
    AUDIO_BACKLOG_BYTES,
    BACKLOG_LIMIT_BYTES,
    CLOSE_LIMIT_S,
    PING_INTERVAL_S,
    STALL_LIMIT_S,
    Link,
)
from engine.runtime.mover import Mover
from engine.runtime.transport import SocketTransport, Transport

LIMIT_S = 30.0
VIRTUAL_LIMIT_S = 100_000.0
KINDS = [plain, narrow, unix, tls, narrow_tls, memory, lockstep]


@dataclass
class Connected:
    """Our link, its tasks running, and trio-websocket's side."""

    link: Link
    peer: trio_websocket.WebSocketConnection
    # of the peer's tasks: they outlive the link's
    nursery: trio.Nursery
    texts: list[str] = field(default_factory=list)
    # what came out of the reader
    errors: list[Exception] = field(default_factory=list)
    tasks: trio.CancelScope = field(default_factory=trio.CancelScope)
    tasks_ended: trio.Event = field(default_factory=trio.Event)
    closing: trio.Lock = field(default_factory=trio.Lock)

    async def run(self, mover: Mover, *, watched: bool, keepalive: bool) -> None:
        """The link's tasks, as a call runs them."""
        with self.tasks:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mover.run)
                nursery.start_soon(self.link.run_writer)
                if keepalive:
                    nursery.start_soon(self.link.run_keepalive)
                await self.read(mover if watched else None)
                await trio.sleep_forever()
        self.tasks_ended.set()

    async def read(self, mover: Mover | None) -> None:
        try:
            await self.link.run_reader(mover)
        except ValueError as error:
            self.errors.append(error)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Ends the link's tasks, then the link: the order of a call."""
        async with self.closing:
            self.tasks.cancel()
            await self.tasks_ended.wait()
            await self.link.aclose(code, reason)


async def accept_any(transport: Transport, links: list[Link]) -> None:
    link = await accept(transport, lambda headers: None, now=trio.current_time, name="Peer")
    assert link is not None
    links.append(link)


@asynccontextmanager
async def connected(
    make: MakeEnds, *, watched: bool = True, limit_s: float = LIMIT_S, keepalive: bool = False
) -> AsyncIterator[Connected]:
    """Opens a connection to trio-websocket; on leaving it is closed."""
    clock = open_clock()
    with trio.fail_after(limit_s):
        async with trio.open_nursery() as nursery:
            ends = await make()
            links: list[Link] = []
            nursery.start_soon(accept_any, ends.transport, links)
            peer = await trio_websocket.wrap_client_stream(
                nursery, ends.other, "engine.test", "/media", max_message_size=8_000_000
            )
            await until(lambda: bool(links))
            pair = Connected(links[0], peer, nursery)
            pair.link.on_text = pair.texts.append
            nursery.start_soon(partial(pair.run, Mover(clock), watched=watched, keepalive=keepalive))
            try:
                yield pair
                await pair.aclose()
            finally:
                await trio.aclose_forcefully(ends.other)
                await ends.transport.aclose()
                nursery.cancel_scope.cancel()
    clock.close()


# ------------------------------------------------------------------------------------------------------ both directions


@pytest.mark.parametrize("watched", [True, False], ids=["by the mover", "by its task"])
@pytest.mark.parametrize("make", KINDS)
async def test_messages_go_both_ways_in_order(make: MakeEnds, watched: bool) -> None:
    async with connected(make, watched=watched) as pair:
        up = [f"up {number} " + "x" * (number * 37 % 3000) for number in range(200)]
        down = [f"down {number} " + "y" * (number * 41 % 3000) for number in range(200)]

        async def speak() -> None:
            for text in up:
                await pair.peer.send_message(text)

        pair.nursery.start_soon(speak)
        received = []
        for first, second in zip(down[::2], down[1::2], strict=True):
            pair.link.send_nowait(first.encode())
            pair.link.send_batch_nowait([second.encode()])
        while len(received) < len(down):
            received.append(await pair.peer.get_message())
        await until(lambda: len(pair.texts) == len(up))
        assert received == down
        assert pair.texts == up
        assert pair.link.dropped_messages == 0
        await until(lambda: not pair.link.is_blocked)


@pytest.mark.parametrize("make", [plain, narrow_tls, memory])
async def test_a_batch_arrives_as_single_messages(make: MakeEnds) -> None:
    async with connected(make) as pair:
        pair.link.send_batch_nowait([b"a", b"b" * 70_000, b"c"])
        assert [await pair.peer.get_message() for _ in range(3)] == ["a", "b" * 70_000, "c"]


async def test_binary_messages_are_told_but_not_handed_on() -> None:
    async with connected(plain) as pair:
        told: list[bool] = []
        pair.link.on_binary = lambda: told.append(True)
        await pair.peer.send_message(b"\0\1")
        await pair.peer.send_message("text")
        await until(lambda: pair.texts == ["text"])
        assert told == [True]


@pytest.mark.parametrize("make", [plain, tls, memory])
async def test_pings_are_answered(make: MakeEnds) -> None:
    async with connected(make) as pair:
        await pair.peer.ping(b"are you there")  # returns when the pong has come


# ------------------------------------------------------------------------------------------------------------- backlog


@dataclass
class Deaf:
    """Our link, over a socket whose other end nobody reads yet."""

    link: Link
    peer: wsproto.WSConnection
    other: trio.SocketStream

    async def read_all(self, count: int) -> list[str]:
        """Reads so many messages."""
        texts: list[str] = []
        partial = ""
        while len(texts) < count:
            self.peer.receive_data(await self.other.receive_some(65536))
            for event in self.peer.events():
                assert isinstance(event, peer_events.TextMessage)
                partial += event.data
                if event.message_finished:
                    texts.append(partial)
                    partial = ""
        return texts


@asynccontextmanager
async def deaf() -> AsyncIterator[Deaf]:
    with trio.fail_after(LIMIT_S):
        ours, sock = tcp_pair(SMALL_BUFFER_BYTES)
        other = stream_of(sock)
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        await other.send_all(peer.send(peer_events.Request(host="engine.test", target="/media")))
        links: list[Link] = []
        await accept_any(SocketTransport(ours), links)
        peer.receive_data(await other.receive_some(65536))
        assert [type(event) for event in peer.events()] == [peer_events.AcceptConnection]
        yield Deaf(links[0], peer, other)
        await trio.aclose_forcefully(other)
        await links[0].aclose()


async def test_a_slow_peer_loses_the_oldest_audio_and_nothing_else() -> None:
    async with deaf() as pair:
        link = pair.link
        sent = []
        for number in range(4000):
            is_audio = number % 10 != 0
            text = f"{'audio' if is_audio else 'control'} {number} " + "x" * 300
            sent.append(text)
            link.send_nowait(text.encode(), audio=is_audio)
        assert link.is_blocked
        dropped = link.dropped_messages
        assert dropped > 1000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run_writer)
            received = await pair.read_all(len(sent) - dropped)
            await until(lambda: not link.is_blocked)
            nursery.cancel_scope.cancel()
        assert received == [text for text in sent if text in set(received)]  # in order, none twice
        assert [text for text in received if text.startswith("control")] == sent[::10]
        missing = [index for index, text in enumerate(sent) if text not in set(received)]
        assert len(missing) == dropped
        assert received[-1] == sent[-1]
        # beyond what dropping leaves there is only control
        kept_audio = [text for text in sent[missing[0] :] if text.startswith("audio") and text in set(received)]
        assert sum(len(text) for text in kept_audio) <= AUDIO_BACKLOG_BYTES


@pytest.mark.parametrize("make", [lockstep, narrow_tls])
async def test_audio_that_is_being_sent_is_not_dropped(make: MakeEnds) -> None:
    async with connected(make) as pair:
        sent = [f"{number} " + "x" * 400 for number in range(3 * AUDIO_BACKLOG_BYTES // 400)]
        pair.link.send_nowait(sent[0].encode(), audio=True)
        await trio.testing.wait_all_tasks_blocked()  # the writer is in the middle of it, or it has gone
        for text in sent[1:]:
            pair.link.send_nowait(text.encode(), audio=True)
        dropped = pair.link.dropped_messages
        received = [await pair.peer.get_message() for _ in range(len(sent) - dropped)]
        assert received[0] == sent[0]
        assert received == [text for text in sent if text in set(received)]
        await until(lambda: not pair.link.is_blocked)
        assert pair.link.dropped_messages == dropped
        assert dropped > 0 or make is narrow_tls  # TLS over the loopback may have taken it all


async def test_a_large_piece_of_audio_makes_room_for_itself() -> None:
    async with deaf() as pair:
        link = pair.link
        while not link.is_blocked:
            link.send_nowait(b"c" * 1000)
        for number in range(100):
            link.send_nowait(b"%3d" % number + b"x" * 500, audio=True)
        assert link.dropped_messages == 0
        link.send_nowait(b"y" * 50_000, audio=True)
        assert link.dropped_messages >= 70
        assert link.closed is None


async def test_control_messages_are_never_dropped_but_bounded() -> None:
    async with deaf() as pair:
        link = pair.link
        while not link.is_blocked:
            link.send_nowait(b"c" * 1000)
        for _ in range(BACKLOG_LIMIT_BYTES // 1100):
            link.send_nowait(b"c" * 1000)
        assert link.closed is None
        assert link.dropped_messages == 0
        for _ in range(200):
            link.send_nowait(b"c" * 1000)
        assert link.closed is not None
        assert link.closed.code == 1006


async def test_a_drained_backlog_is_told_and_what_comes_then_goes_at_once() -> None:
    async with deaf() as pair:
        link = pair.link
        drained: list[bool] = []
        link.on_drained = lambda: drained.append(link.is_blocked)
        count = 0
        while not link.is_blocked:
            link.send_nowait(b"x" * 1000)
            count += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run_writer)
            await pair.read_all(count)
            await until(lambda: bool(drained))
            assert drained == [False]
            link.send_nowait(b"at once")
            assert not link.is_blocked
            assert await pair.read_all(1) == ["at once"]
            nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_is_ended_after_the_stall_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(lockstep, limit_s=VIRTUAL_LIMIT_S) as pair:
        # trio-websocket reads no further while its one message is not fetched
        for number in range(10):
            pair.link.send_nowait(b"%d" % number)
        begun = trio.current_time()
        closed = await pair.link.wait_closed()
        assert closed.code == 1006
        assert closed.by_peer
        assert trio.current_time() - begun == pytest.approx(STALL_LIMIT_S)
        with pytest.raises(ConnectionFailed):
            pair.link.check_open()
        leaving = trio.current_time()
    assert trio.current_time() == leaving  # no goodbye for those who do not listen


async def test_a_slow_peer_that_takes_something_now_and_then_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(lockstep, limit_s=VIRTUAL_LIMIT_S) as pair:
        for number in range(10):
            pair.link.send_nowait(b"%d" % number)
        for number in range(10):
            await trio.sleep(STALL_LIMIT_S * 0.9)
            assert await pair.peer.get_message() == str(number)
        pair.link.check_open()


# ---------------------------------------------------------------------------------------------------------- liveliness


async def test_a_peer_that_answers_pings_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(memory, limit_s=VIRTUAL_LIMIT_S, keepalive=True) as pair:
        await trio.sleep(3600)
        pair.link.check_open()
        assert pair.link.round_trip_s is not None
        assert 0 <= pair.link.round_trip_s < 1


async def test_a_peer_that_says_nothing_is_gone_after_a_ping(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(VIRTUAL_LIMIT_S):
        links: list[Link] = []
        ends = await memory()
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        await ends.other.send_all(peer.send(peer_events.Request(host="engine.test", target="/")))
        await accept_any(ends.transport, links)
        (link,) = links
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run_reader, None)
            nursery.start_soon(link.run_writer)
            await trio.sleep(1)
            begun = trio.current_time()
            nursery.start_soon(link.run_keepalive)
            closed = await link.wait_closed()
            assert closed.code == 1006
            assert "answers nothing" in closed.reason
            assert trio.current_time() - begun == pytest.approx(PING_INTERVAL_S)
            nursery.cancel_scope.cancel()
        await link.aclose()
        await trio.aclose_forcefully(ends.other)


# ----------------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize("watched", [True, False], ids=["by the mover", "by its task"])
@pytest.mark.parametrize("make", [plain, tls, memory, lockstep])
async def test_the_peers_goodbye_ends_the_link_and_is_answered(make: MakeEnds, watched: bool) -> None:
    async with connected(make, watched=watched) as pair:
        await pair.peer.send_message("last")
        pair.nursery.start_soon(pair.peer.aclose, 1001, "lunch")
        closed = await pair.link.wait_closed()
        assert (closed.code, closed.reason, closed.by_peer) == (1001, "lunch", True)
        assert pair.texts == ["last"]
        await pair.aclose()
        await until(lambda: pair.peer.closed is not None)
    assert pair.peer.closed is not None
    assert pair.peer.closed.code == 1001


async def goodbye_to(peer: trio_websocket.WebSocketConnection) -> tuple[int, str | None]:
    with pytest.raises(trio_websocket.ConnectionClosed) as closed:
        await peer.get_message()
    assert closed.value.reason is not None
    return closed.value.reason.code, closed.value.reason.reason


@pytest.mark.parametrize("make", KINDS)
async def test_our_goodbye_arrives_behind_what_was_sent(make: MakeEnds) -> None:
    async with connected(make) as pair:
        pair.link.send_nowait(b"last words")
        pair.nursery.start_soon(pair.aclose, 1011, "internal error")
        assert await pair.peer.get_message() == "last words"
        assert await goodbye_to(pair.peer) == (1011, "internal error")
        closed = await pair.link.wait_closed()
        assert (closed.code, closed.by_peer) == (1011, False)


async def test_our_goodbye_arrives_although_the_peer_keeps_talking() -> None:
    """A socket closed over unread bytes resets the connection, and what it had sent is lost."""
    async with deaf() as pair:
        link = pair.link
        pair.other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        chatter = b"".join(pair.peer.send(peer_events.TextMessage(data="x" * 300)) for _ in range(50))
        await pair.other.send_all(chatter)
        link.send_nowait(b"last words")

        async def answer() -> None:
            await pair.other.send_all(chatter)
            seen: list[peer_events.Event] = []
            while not seen or not isinstance(seen[-1], peer_events.CloseConnection):
                pair.peer.receive_data(await pair.other.receive_some(65536))
                seen += pair.peer.events()
            text, goodbye = seen
            assert isinstance(text, peer_events.TextMessage)
            assert isinstance(goodbye, peer_events.CloseConnection)
            assert (text.data, goodbye.code, goodbye.reason) == ("last words", 1000, "done")
            await pair.other.send_all(chatter + pair.peer.send(goodbye.response()))
            assert await pair.other.receive_some(1) == b""

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            nursery.start_soon(link.aclose, 1000, "done")
        assert link.closed is not None
        assert (link.closed.code, link.closed.by_peer) == (1000, False)


@pytest.mark.parametrize("make", [plain, tls, memory])
async def test_a_message_beyond_the_limit_ends_the_link_and_the_peer_learns_why(make: MakeEnds) -> None:
    async with connected(make) as pair:
        pair.nursery.start_soon(send_carelessly, pair.peer, "x" * 300_000)
        closed = await pair.link.wait_closed()
        assert (closed.code, closed.by_peer) == (1009, False)
        pair.nursery.start_soon(pair.aclose)
        assert (await goodbye_to(pair.peer))[0] == 1009


async def send_carelessly(peer: trio_websocket.WebSocketConnection, text: str) -> None:
    with suppress(trio_websocket.ConnectionClosed):
        await peer.send_message(text)


@pytest.mark.parametrize("watched", [True, False], ids=["by the mover", "by its task"])
@pytest.mark.parametrize("make", [plain, tls, memory])
async def test_a_connection_that_breaks_is_1006(make: MakeEnds, watched: bool) -> None:
    async with connected(make, watched=watched) as pair:
        await trio.aclose_forcefully(pair.peer._stream)
        closed = await pair.link.wait_closed()
        assert (closed.code, closed.by_peer) == (1006, True)
        pair.link.send_nowait(b"into the void")
        pair.link.send_batch_nowait([b"likewise"])
        assert not pair.link.is_blocked


@pytest.mark.parametrize("watched", [True, False], ids=["by the mover", "by its task"])
async def test_what_a_callback_raises_comes_out_of_the_reader_only(watched: bool) -> None:
    def fail(text: str) -> None:
        raise ValueError("on purpose")

    async with connected(plain, watched=watched) as pair:
        pair.link.on_text = fail
        await pair.peer.send_message("boom")
        await until(lambda: bool(pair.errors))
        assert [str(error) for error in pair.errors] == ["on purpose"]
        pair.nursery.start_soon(pair.aclose, 1011, "internal error")
        assert await goodbye_to(pair.peer) == (1011, "internal error")


async def test_after_the_end_nothing_is_handed_on() -> None:
    async with deaf() as pair:
        link = pair.link
        texts: list[str] = []

        def received(text: str) -> None:
            texts.append(text)
            link.crash(ValueError("ended within a batch"))

        link.on_text = received
        await pair.other.send_all(
            b"".join(pair.peer.send(peer_events.TextMessage(data=str(number))) for number in range(3))
        )
        with pytest.raises(ValueError, match="ended within"):
            await link.run_reader(None)
        assert texts == ["0"]


async def test_messages_that_came_with_the_handshake_come_first() -> None:
    with trio.fail_after(LIMIT_S):
        ours, sock = tcp_pair()
        other = stream_of(sock)
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        request = peer.send(peer_events.Request(host="engine.test", target="/"))
        # a client may not speak before the answer; one that does is heard all the same
        ping = b"\x89\x81\0\0\0\0p"
        early = b"\x81\x85\0\0\0\0early"
        await other.send_all(request + early + ping)
        links: list[Link] = []
        await accept_any(SocketTransport(ours), links)
        (link,) = links
        texts: list[str] = []
        link.on_text = texts.append
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run_reader, None)
            peer.receive_data(await other.receive_some(65536))
            seen = list(peer.events())
            while len(seen) < 2:
                peer.receive_data(await other.receive_some(65536))
                seen += list(peer.events())
            assert [type(event) for event in seen] == [peer_events.AcceptConnection, peer_events.Pong]
            assert texts == ["early"]
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(other)
        await link.aclose()


async def test_a_peer_that_does_not_answer_the_goodbye_is_waited_for_briefly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.fail_after(VIRTUAL_LIMIT_S):
        ends = await memory()
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        await ends.other.send_all(peer.send(peer_events.Request(host="engine.test", target="/")))
        links: list[Link] = []
        await accept_any(ends.transport, links)
        begun = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()
            await links[0].aclose()
        assert trio.current_time() - begun == pytest.approx(CLOSE_LIMIT_S)
        begun = trio.current_time()
        await links[0].aclose()
        assert trio.current_time() == begun
        await trio.aclose_forcefully(ends.other)


@pytest.mark.parametrize("make", [plain, tls, memory])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_closing_leaves_no_descriptor(make: MakeEnds, cancelled: bool) -> None:
    async with connected(make):
        pass
    before = count_fds()
    for _ in range(3):
        async with connected(make) as pair:
            await pair.peer.send_message("x")
            if cancelled:
                pair.tasks.cancel()
                with trio.CancelScope() as scope:
                    await pair.tasks_ended.wait()
                    scope.cancel()
                    await pair.link.aclose()
        assert count_fds() == before
