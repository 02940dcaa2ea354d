"""Transports over loopback TCP, TLS, Unix sockets and memory: byte-exact, never waiting where they must not."""

import random
import ssl

import pytest
import trio
import trio.testing
from loopback import Ends, MakeEnds, count_fds, lockstep, memory, narrow, narrow_tls, plain, tls, unix

from engine.runtime.transport import RECEIVE_BYTES, Transport

LIMIT_S = 30.0
SOCKETS = [plain, narrow, unix, tls, narrow_tls]
ALL = [*SOCKETS, memory, lockstep]


async def receive(transport: Transport) -> bytes:
    while True:
        await transport.wait_readable()
        data = transport.receive_nowait()
        if data is not None:
            return data


async def receive_all(transport: Transport) -> bytes:
    pieces = []
    while piece := await receive(transport):
        pieces.append(piece)
    return b"".join(pieces)


async def send_all(transport: Transport, data: bytes) -> None:
    """As a link does: at once if it goes, else after waiting, in pieces of odd lengths, retried from the byte that did
    not go."""
    lengths = random.Random(7)
    position = 0
    while position < len(data):
        piece = data[position : position + lengths.randint(1, 100_000)]
        while piece:
            sent = transport.send_nowait(piece) or await transport.send_some(piece)
            position += sent
            piece = piece[sent:]


@pytest.mark.parametrize("make", ALL)
async def test_large_bursts_both_ways_arrive_exactly(make: MakeEnds) -> None:
    down = random.Random(1).randbytes(700_001)
    up = random.Random(2).randbytes(700_003)
    arrived = bytearray()

    async def read_other(ends: Ends) -> None:
        while len(arrived) < len(up):
            arrived.extend(await ends.other.receive_some(5000))
        await ends.other.aclose()  # the end of the stream, after all that was sent

    async def write_other(ends: Ends) -> None:
        await ends.other.send_all(down)

    with trio.fail_after(LIMIT_S):
        ends = await make()
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_other, ends)
            nursery.start_soon(read_other, ends)
            nursery.start_soon(send_all, ends.transport, up)
            while len(received) < len(down):
                received += await receive(ends.transport)
        assert bytes(received) == down
        assert bytes(arrived) == up
        assert await receive_all(ends.transport) == b""
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_nothing_has_arrived_and_then_something_and_then_the_end(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        assert ends.transport.receive_nowait() is None

        async def speak() -> None:
            await ends.other.send_all(b"hello")
            await ends.other.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            received = b""
            while len(received) < 5:
                received += await receive(ends.transport)
        assert received == b"hello"
        assert await receive(ends.transport) == b""
        await ends.aclose()


@pytest.mark.parametrize("make", SOCKETS)
async def test_one_receive_is_bounded_and_the_rest_stays_readable(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        data = random.Random(3).randbytes(5 * RECEIVE_BYTES)
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.other.send_all, data)
            while len(received) < len(data):
                piece = await receive(ends.transport)
                assert len(piece) <= 2 * RECEIVE_BYTES
                received += piece
        assert received == data
        await ends.aclose()


@pytest.mark.parametrize("make", [narrow, unix, narrow_tls])
async def test_a_peer_that_does_not_read_takes_nothing_and_nothing_waits(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        data = b"x" * 3000
        sent = 0
        while sent < 50_000_000:
            went = ends.transport.send_nowait(data)
            if went == 0:
                break
            sent += went
            data = data[went:] or b"x" * 3000
        assert ends.transport.send_nowait(data) == 0
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.transport.send_some, data)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_sending_to_a_peer_that_has_gone_is_an_os_error(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        await trio.aclose_forcefully(ends.other)
        with pytest.raises((ConnectionResetError, BrokenPipeError, ssl.SSLError)):
            while True:
                await ends.transport.send_some(b"x" * 1000)
        await ends.aclose()


async def test_a_tls_stream_that_is_tampered_with_is_an_os_error() -> None:
    with trio.fail_after(LIMIT_S):
        ends = await tls()
        assert isinstance(ends.other, trio.SSLStream)
        await ends.other.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ssl.SSLError):
            await receive(ends.transport)
        await ends.aclose()


@pytest.mark.parametrize("make", [plain, tls])
async def test_a_tls_peer_that_vanishes_without_a_goodbye_is_the_end(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        lower = ends.other.transport_stream if isinstance(ends.other, trio.SSLStream) else ends.other
        await lower.aclose()
        assert await receive(ends.transport) == b""
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_closing_is_idempotent_and_completes_when_cancelled(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        await (await make()).aclose()  # whatever is opened once and kept
        before = count_fds()
        ends = await make()
        with trio.CancelScope() as scope:
            scope.cancel()
            await ends.transport.aclose()
        await ends.transport.aclose()
        await ends.other.receive_some(1)
        await trio.aclose_forcefully(ends.other)
        assert count_fds() == before


@pytest.mark.parametrize("make", ALL)
async def test_closing_wakes_whoever_waits(make: MakeEnds) -> None:
    woken: list[BaseException] = []

    async def wait(ends: Ends) -> None:
        try:
            await ends.transport.wait_readable()
        except (OSError, trio.ClosedResourceError) as error:
            woken.append(error)

    with trio.fail_after(LIMIT_S):
        ends = await make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, ends)
            await trio.testing.wait_all_tasks_blocked()
            await ends.transport.aclose()
        assert len(woken) == 1
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_a_wait_that_was_cancelled_loses_nothing(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        with trio.CancelScope() as scope:
            scope.cancel()
            await ends.transport.wait_readable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.other.send_all, b"kept")
            assert await receive(ends.transport) == b"kept"
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_waiting_twice_for_what_has_arrived_keeps_it(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.other.send_all, b"kept")
            await ends.transport.wait_readable()
            await ends.transport.wait_readable()
        assert ends.transport.receive_nowait() == b"kept"
        await ends.aclose()


@pytest.mark.parametrize("make", ALL)
async def test_only_sockets_can_be_watched(make: MakeEnds) -> None:
    with trio.fail_after(LIMIT_S):
        ends = await make()
        assert (ends.transport.fd is None) == (make in (memory, lockstep))
        await ends.aclose()
