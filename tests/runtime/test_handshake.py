"""Opening WebSockets to slow, silent, garbled and refusing peers; nothing stays open."""

import base64
import hashlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus

import pytest
import trio
import trio.testing
import trio_websocket
from loopback import MakeEnds, count_fds, lockstep, memory, plain, stream_of, tcp_pair, tls_contexts, until

from engine.errors import ConnectionFailed, EngineError, LocalProtocolError
from engine.runtime.clock import open_clock
from engine.runtime.handshake import ACCEPT_LIMIT_S, CONNECT_LIMIT_S, accept, connect
from engine.runtime.link import Link
from engine.runtime.mover import Mover
from engine.runtime.transport import SocketTransport
from engine.wire.websocket import RefusedHandshake

LIMIT_S = 30.0
VIRTUAL_LIMIT_S = 1000.0
REQUEST = (
    b"GET /media-stream HTTP/1.1\r\nHost: engine.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Twilio-Signature: abc=\r\n\r\n"
)

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def welcome(headers: Mapping[str, str]) -> None:
    return None


@asynccontextmanager
async def beside(run: Callable[[], Awaitable[None]]) -> AsyncIterator[trio.Nursery]:
    """Runs the other side's task until the block is left, by an error too, which comes out as it is."""
    failure: EngineError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield nursery
        except EngineError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def accept_one(make: MakeEnds, speak: Callable[[trio.abc.Stream], Awaitable[None]]) -> Link | None:
    """Accepts a client that behaves as told."""
    ends = await make()
    try:
        async with beside(partial(speak, ends.other)):
            return await accept(ends.transport, welcome, now=trio.current_time, name="Peer")
    finally:
        await trio.aclose_forcefully(ends.other)


async def serve_one(nursery: trio.Nursery, serve: Serve) -> str:
    """Starts a server for one connection, and returns its URL."""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen()

    async def run() -> None:
        with listener:
            sock, _ = await listener.accept()
        async with trio.SocketStream(sock) as stream:
            await serve(stream)

    nursery.start_soon(run)
    _, port = listener.getsockname()
    return f"ws://127.0.0.1:{port}/v1?model=m"


async def read_request(stream: trio.SocketStream) -> bytes:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        piece = await stream.receive_some()
        assert piece
        request += piece
    return request


def answer_to(request: bytes) -> bytes:
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"
    )


async def connect_to(url: str, **options: ssl.SSLContext) -> Link:
    return await connect(url, now=trio.current_time, name="the service", **options)


async def connect_to_a_server_that(serve: Serve) -> Link:
    async with beside(trio.sleep_forever) as nursery:
        return await connect_to(await serve_one(nursery, serve))


# ------------------------------------------------------------------------------------------------------------ accepting


@pytest.mark.parametrize("make", [plain, memory, lockstep])
async def test_a_client_that_speaks_byte_by_byte_is_accepted(make: MakeEnds) -> None:
    async def speak(stream: trio.abc.Stream) -> None:
        for byte in REQUEST:
            await stream.send_all(bytes([byte]))
        await stream.receive_some(1000)
        await trio.sleep_forever()

    with trio.fail_after(LIMIT_S):
        link = await accept_one(make, speak)
        assert link is not None
        assert link.behind == b""
        await link.aclose()


async def test_the_judge_sees_the_headers_and_decides() -> None:
    seen: list[Mapping[str, str]] = []

    def judge(headers: Mapping[str, str]) -> tuple[HTTPStatus, str]:
        seen.append(headers)
        return HTTPStatus.FORBIDDEN, "the signature is wrong"

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        ours, other = tcp_pair()
        stream = stream_of(other)
        await stream.send_all(REQUEST)
        assert await accept(SocketTransport(ours), judge, now=trio.current_time, name="Peer") is None
        assert seen[0]["x-twilio-signature"] == "abc="
        answer = b""
        while piece := await stream.receive_some():
            answer += piece
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert answer.endswith(b"the signature is wrong\n")
        await stream.aclose()
        assert count_fds() == before


async def test_a_judge_that_raises_closes_the_connection() -> None:
    def judge(headers: Mapping[str, str]) -> None:
        raise ValueError("on purpose")

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        ours, other = tcp_pair()
        other.sendall(REQUEST)
        with pytest.raises(ValueError, match="on purpose"):
            await accept(SocketTransport(ours), judge, now=trio.current_time, name="Peer")
        other.close()
        assert count_fds() == before


async def test_a_request_that_breaks_the_rules_gets_an_answer() -> None:
    with trio.fail_after(LIMIT_S):
        ours, other = tcp_pair()
        stream = stream_of(other)
        await stream.send_all(REQUEST.replace(b"Version: 13", b"Version: 8"))
        with pytest.raises(ConnectionFailed):
            await accept(SocketTransport(ours), welcome, now=trio.current_time, name="Peer")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
        assert await stream.receive_some() == b""
        await stream.aclose()


@pytest.mark.parametrize("said", [b"", REQUEST[:50]], ids=["nothing", "half a request"])
@pytest.mark.parametrize("make", [memory, lockstep])
async def test_a_client_that_falls_silent_is_given_up(
    make: MakeEnds, said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async def speak(stream: trio.abc.Stream) -> None:
        if said:
            await stream.send_all(said)
        await trio.sleep_forever()

    with trio.fail_after(VIRTUAL_LIMIT_S):
        with pytest.raises(ConnectionFailed, match="Peer: too slow"):
            await accept_one(make, speak)
        assert trio.current_time() == pytest.approx(ACCEPT_LIMIT_S)


async def test_a_client_that_drips_does_not_win_time(autojump_clock: trio.testing.MockClock) -> None:
    async def speak(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):  # given up in the middle of a byte
            for byte in REQUEST:
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)

    with trio.fail_after(VIRTUAL_LIMIT_S):
        with pytest.raises(ConnectionFailed, match="Peer: too slow"):
            await accept_one(memory, speak)
        assert trio.current_time() == pytest.approx(ACCEPT_LIMIT_S)


@pytest.mark.parametrize(
    "said", [b"", REQUEST[:50], b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000]
)
async def test_a_client_that_leaves_or_speaks_garbage_is_told_of(said: bytes) -> None:
    with trio.fail_after(LIMIT_S):
        before = count_fds()
        ours, other = tcp_pair()
        other.sendall(said)
        other.close()
        with pytest.raises(ConnectionFailed, match=r"Peer: ."):
            await accept(SocketTransport(ours), welcome, now=trio.current_time, name="Peer")
        assert count_fds() == before


async def test_accepting_can_be_cancelled_and_closes() -> None:
    with trio.fail_after(LIMIT_S):
        before = count_fds()
        ours, other = tcp_pair()
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await accept(SocketTransport(ours), welcome, now=trio.current_time, name="Peer")

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert other.recv(1) == b""
        other.close()
        assert count_fds() == before


# ----------------------------------------------------------------------------------------------------------- connecting


async def test_a_server_that_answers_byte_by_byte_is_connected_to_and_early_messages_kept() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        for byte in answer_to(await read_request(stream)) + b"\x81\x05hello":
            await stream.send_all(bytes([byte]))
        await trio.sleep_forever()

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            link = await connect_to(await serve_one(nursery, serve))
            texts: list[str] = []
            link.on_text = texts.append
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_when, lambda: texts == ["hello"], scope)
                await link.run_reader(None)
            nursery.cancel_scope.cancel()
        await link.aclose()


async def cancel_when(condition: Callable[[], bool], scope: trio.CancelScope) -> None:
    await until(condition)
    scope.cancel()


async def test_our_headers_arrive() -> None:
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(answer_to(requests[0]))

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            url = await serve_one(nursery, serve)
            headers = [("Authorization", "Bearer your_key")]
            link = await connect(url, headers=headers, now=trio.current_time, name="the service")
            await link.aclose()
    assert requests[0].startswith(b"GET /v1?model=m HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer your_key\r\n" in requests[0]
    assert b"OpenAI-Beta" not in requests[0]  # its presence alone is answered with 4000 (protocols.md B.1)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_an_http_error_is_told_with_status_and_body(status: int) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 %d Oh\r\nContent-Length: 4\r\n\r\nsaid" % status)
        await stream.receive_some()  # until we close

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        with pytest.raises(RefusedHandshake) as refused:
            await connect_to_a_server_that(serve)
        assert (refused.value.status, refused.value.body) == (status, b"said")
        assert count_fds() == before


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Swi",
        b"nonsense\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46\r\n",
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
    ],
)
async def test_a_server_that_leaves_or_speaks_garbage_is_a_failed_connection(answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(answer)

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        with pytest.raises(ConnectionFailed, match="the service"):
            await connect_to_a_server_that(serve)
        assert count_fds() == before


async def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    with trio.fail_after(LIMIT_S):
        before = count_fds()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            await connect_to(f"ws://127.0.0.1:{port}/")
        assert count_fds() == before


async def test_a_host_whose_name_no_resolver_takes_is_a_failed_connection() -> None:
    with trio.fail_after(LIMIT_S):
        with pytest.raises(ConnectionFailed):
            await connect_to(f"ws://{'x' * 70}.example/")


async def test_what_is_no_websocket_url_is_our_own_fault() -> None:
    with trio.fail_after(LIMIT_S):
        with pytest.raises(LocalProtocolError):
            await connect_to("https://127.0.0.1/")


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_a_silent_server_is_given_up_in_time(secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.handshake.CONNECT_LIMIT_S", 0.05)

    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        async with trio.open_nursery() as nursery:
            url = await serve_one(nursery, serve)
            with pytest.raises(ConnectionFailed, match="did not answer within"):
                await connect_to(url.replace("ws:", "wss:") if secure else url)
            nursery.cancel_scope.cancel()
        assert count_fds() == before
    assert CONNECT_LIMIT_S <= 10


async def test_connecting_can_be_cancelled_and_closes() -> None:
    got: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        got.append(await stream.receive_some())

    with trio.fail_after(LIMIT_S):
        before = count_fds()
        async with trio.open_nursery() as servers:
            url = await serve_one(servers, serve)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connect_to, url)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    scope.cancel()
        assert got == [b""]
        assert count_fds() == before


# ------------------------------------------------------------------------------------------------------------------ TLS


async def serve_echo(*, task_status: trio.TaskStatus[int]) -> None:
    """trio-websocket over TLS: returns each message, reversed."""
    server, _ = tls_contexts()

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        socket_ = await request.accept()
        try:
            while True:
                text = await socket_.get_message()
                assert isinstance(text, str)
                await socket_.send_message(text[::-1])
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        running = await nursery.start(
            lambda task_status: trio_websocket.serve_websocket(
                handle, "127.0.0.1", 0, server, task_status=task_status, max_message_size=8_000_000
            )
        )
        task_status.started(running.port)
        await trio.sleep_forever()


@pytest.mark.parametrize("watched", [True, False], ids=["by the mover", "by its task"])
async def test_large_bursts_go_both_ways_over_wss_exactly(watched: bool) -> None:
    source = random.Random(5)
    texts = [base64.b64encode(source.randbytes(source.choice([3, 300, 40_000, 120_000]))).decode() for _ in range(60)]
    with trio.fail_after(LIMIT_S):
        before = count_fds()
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_echo)
            for host in ("127.0.0.1", "localhost"):
                assert await echo_of(f"wss://{host}:{port}/", texts, watched=watched) == [text[::-1] for text in texts]
            nursery.cancel_scope.cancel()
        assert count_fds() == before


async def echo_of(url: str, texts: list[str], *, watched: bool) -> list[str]:
    """Sends the texts in bursts, and returns what comes back."""
    link = await connect_to(url, ssl_context=tls_contexts()[1])
    received: list[str] = []
    link.on_text = received.append
    clock = open_clock()
    mover = Mover(clock)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(mover.run)
        tasks.start_soon(link.run_reader, mover if watched else None)
        tasks.start_soon(link.run_writer)
        for number, text in enumerate(texts):
            link.send_nowait(text.encode())
            await until(partial(lambda number: len(received) > number - 6, number))
        await until(lambda: len(received) == len(texts))
        tasks.cancel_scope.cancel()
    await link.aclose()
    clock.close()
    return received


async def test_a_certificate_that_is_not_trusted_is_a_failed_connection() -> None:
    with trio.fail_after(LIMIT_S):
        before = count_fds()
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_echo)
            with pytest.raises(ConnectionFailed, match="certificate verify failed"):
                await connect_to(f"wss://localhost:{port}/")
            nursery.cancel_scope.cancel()
        assert count_fds() == before


async def test_a_server_that_speaks_no_tls_is_a_failed_connection() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    with trio.fail_after(LIMIT_S):
        async with beside(trio.sleep_forever) as nursery:
            url = await serve_one(nursery, serve)
            with pytest.raises(ConnectionFailed):
                await connect_to(url.replace("ws:", "wss:"))
