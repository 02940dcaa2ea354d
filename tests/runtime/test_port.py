"""The port, over real loopback sockets: who gets a connection, and that nothing stays open."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from quart import request
from quart_trio import QuartTrio

from engine.runtime.listeners import open_listeners
from engine.runtime.port import HEAD_LIMIT_BYTES, PortCounters, PortLimits, serve_port

UPGRADE = b"GET /media-stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class Running:
    """A port that runs, and what it has routed."""

    address: tuple[str, int]
    stop: trio.Event = field(default_factory=trio.Event)
    counters: PortCounters = field(default_factory=PortCounters)
    release: trio.Event = field(default_factory=trio.Event)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send pieces, one segment each, and give everything that comes back until the end."""
        async with await self.connect() as stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            return await receive_all(stream)


def make_app(release: trio.Event) -> QuartTrio:
    app = QuartTrio(__name__, static_folder=None)

    async def echo() -> bytes:
        body: bytes = await request.get_data(False, False, False)
        return body

    async def hello() -> str:
        return "hello"

    async def held() -> str:
        await release.wait()
        return "held"

    async def media() -> tuple[str, int]:
        return "not a websocket", 426

    async def broken() -> str:
        raise RuntimeError("broken on purpose")

    app.add_url_rule("/echo", view_func=echo, methods=["POST"])
    for path, view in {"/hello": hello, "/held": held, "/media-stream": media, "/broken": broken}.items():
        app.add_url_rule(path, view_func=view)
    return app


async def receive_all(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass
    return bytes(received)


async def repeat_media(sock: socket.socket) -> None:
    """Repeat what was read, until the peer ends its side."""
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        with suppress(trio.BrokenResourceError):  # a peer that left without reading
            async for data in stream:
                await stream.send_all(data)


@asynccontextmanager
async def running_port(
    route_media: Callable[[socket.socket], Awaitable[None]] = repeat_media, limits: PortLimits | None = None
) -> AsyncIterator[Running]:
    listeners = await open_listeners("127.0.0.1", 0)
    running = Running(listeners[0].socket.getsockname())
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            await serve_port(
                listeners,
                route_media=route_media,
                app=make_app(running.release),
                media_path="/media-stream",
                stop=running.stop,
                limits=limits,
                counters=running.counters,
                task_status=task_status,
            )

        with trio.fail_after(20):
            await nursery.start(serve)
            yield running
            running.release.set()
            running.stop.set()


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


async def test_an_upgrade_reaches_the_media_route_with_every_byte() -> None:
    async with running_port() as port, await port.connect() as stream:
        await stream.send_all(UPGRADE + b"pipelined")
        await stream.send_eof()
        assert await receive_all(stream) == UPGRADE + b"pipelined"
        assert (port.counters.media, port.counters.http) == (1, 0)


async def test_an_upgrade_may_come_byte_by_byte() -> None:
    async with running_port() as port, await port.connect() as stream:
        for place in range(len(UPGRADE)):
            await stream.send_all(UPGRADE[place : place + 1])
            await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"more")
        await stream.send_eof()
        assert await receive_all(stream) == UPGRADE + b"more"


async def test_the_media_socket_is_handed_over_ready_for_use() -> None:
    seen: list[tuple[bool, int, int, int]] = []

    async def route(sock: socket.socket) -> None:
        with sock:
            options = (
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT),
            )
            seen.append((sock.getblocking(), sock.gettimeout() or 0, *options))

    async with running_port(route) as port:
        await port.exchange(UPGRADE[:30], UPGRADE[30:])
    ((blocking, timeout, no_delay, low_water_bytes),) = seen
    assert (blocking, timeout, bool(no_delay), low_water_bytes) == (False, 0, True, 1)


async def test_the_media_route_may_keep_the_socket_after_it_returned() -> None:
    kept: list[socket.socket] = []

    async def route(sock: socket.socket) -> None:
        kept.append(sock)

    async with running_port(route) as port, await port.connect() as stream:
        await stream.send_all(UPGRADE)
        while not kept:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        (sock,) = kept
        with sock:
            sock.sendall(b"still here")
            assert await stream.receive_some() == b"still here"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET /hello HTTP/1.0\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET /media-stream HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426"),
        (b"GET /media-stream HTTP/1.0\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 426"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404"),
        (b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 500"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"), b"\x00\x00"),
    ],
)
async def test_everything_else_reaches_the_http_server(sent: bytes, answer: bytes) -> None:
    async with running_port() as port, await port.connect() as stream:
        await stream.send_all(sent)
        assert (await stream.receive_some()).startswith(answer)
        assert (port.counters.media, port.counters.http) == (0, 1)


async def test_a_request_may_come_byte_by_byte() -> None:
    sent = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    async with running_port() as port:
        answer = await port.exchange(*(sent[place : place + 1] for place in range(len(sent))))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\nbody")


async def test_a_connection_carries_one_request_only() -> None:
    sent = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
    async with running_port() as port:
        answer = await port.exchange(sent + UPGRADE)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer.lower()
        assert port.counters.media == 0


async def test_a_huge_head_is_refused_by_the_http_server() -> None:
    huge = UPGRADE[:-2] + b"X: " + b"a" * HEAD_LIMIT_BYTES
    async with running_port() as port:
        assert (await port.exchange(huge)).startswith(b"HTTP/1.1 4")
        assert (port.counters.media, port.counters.http) == (0, 1)


@pytest.mark.parametrize("sent", [b"", b"G", UPGRADE[:-1]])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(sent: bytes) -> None:
    async with running_port(limits=PortLimits(handshake_timeout_s=0.05)) as port:
        assert await port.exchange(sent) == b""
        assert (port.counters.unfinished, port.counters.failed) == (1, 0)


@pytest.mark.parametrize("sent", [b"", b"GET /med", UPGRADE[:-1]])
async def test_a_peer_that_ends_before_its_head_does_ends_the_connection(sent: bytes) -> None:
    async with running_port() as port, await port.connect() as stream:
        await stream.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_eof()
        assert await receive_all(stream) == b""
        assert (port.counters.unfinished, port.counters.failed) == (1, 0)


async def test_waiting_for_the_rest_of_a_head_does_not_spin() -> None:
    async with running_port() as port, await port.connect() as stream:
        await stream.send_all(UPGRADE[:40])
        # Every task blocked: would be never, if the bytes already seen kept waking the port.
        with trio.fail_after(5):
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert port.counters.unfinished == 0


async def test_the_oldest_connection_gives_way_when_too_many_wait() -> None:
    async with running_port(limits=PortLimits(max_waiting=2)) as port:
        streams = []
        for number in range(3):
            streams.append(await port.connect())
            while port.counters.accepted <= number:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
        assert await receive_all(streams[0]) == b""
        assert port.counters.crowded_out == 1
        await streams[1].send_all(UPGRADE)
        assert await streams[1].receive_some() == UPGRADE
        for stream in streams:
            await stream.aclose()


async def test_calls_do_not_count_among_those_that_wait() -> None:
    async with running_port(limits=PortLimits(max_waiting=1)) as port:
        streams = []
        for _ in range(2):
            streams.append(await port.connect())
            await streams[-1].send_all(UPGRADE)
            assert await streams[-1].receive_some() == UPGRADE
        for stream in streams:
            await stream.send_all(b"still there")
            assert await stream.receive_some() == b"still there"
            await stream.aclose()


async def test_a_media_route_that_fails_concerns_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def route(sock: socket.socket) -> None:
        with sock:
            raise RuntimeError("failed on purpose")

    async with running_port(route) as port:
        assert await port.exchange(UPGRADE) == b""
        assert (await port.exchange(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"hello")
        assert port.counters.failed == 1
    assert "failed on purpose" in caplog.text


async def test_stopping_lets_requests_and_calls_finish_and_takes_no_more() -> None:
    async with running_port() as port, await port.connect() as call, await port.connect() as client:
        await call.send_all(UPGRADE)
        assert await call.receive_some() == UPGRADE
        await client.send_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        while port.counters.http == 0:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        port.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="connect"):
            await port.connect()
        port.release.set()
        assert (await receive_all(client)).endswith(b"held")
        await call.send_all(b"goodbye")
        assert await call.receive_some() == b"goodbye"


async def test_stopping_bounds_a_request_that_does_not_finish() -> None:
    async with running_port(limits=PortLimits(grace_s=0.05)) as port, await port.connect() as client:
        await client.send_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        while port.counters.http == 0:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        port.stop.set()
        assert await receive_all(client) == b""


async def test_cancelling_closes_every_connection() -> None:
    before = open_descriptors()
    with trio.CancelScope() as scope:
        async with running_port() as port:
            streams = [await port.connect() for _ in range(3)]
            await streams[0].send_all(UPGRADE)
            await streams[1].send_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
            while (port.counters.media, port.counters.http) != (1, 1):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert scope.cancelled_caught
    for stream in streams:
        assert await receive_all(stream) in (b"", UPGRADE)
        await stream.aclose()
    assert open_descriptors() <= before


async def test_many_quick_connections_leave_nothing_open() -> None:
    async with running_port() as port:
        before = open_descriptors()
        kinds = [b"", b"G", UPGRADE[:50], UPGRADE, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"]

        async def visit(sent: bytes, limit: trio.CapacityLimiter) -> None:
            async with limit, await port.connect() as stream:
                await stream.send_all(sent)

        limit = trio.CapacityLimiter(50)
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(visit, kinds[number % len(kinds)], limit)
        while port.counters.accepted < 500 or not open_descriptors() <= before:
            await trio.lowlevel.checkpoint()
        assert port.counters.failed == 0
