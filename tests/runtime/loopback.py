"""Connected pairs: one of our transports, and the other end as a Trio stream."""

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import trio
import trio.testing
import trustme

from engine.runtime.transport import SocketTransport, StreamTransport, TlsTransport, Transport

SMALL_BUFFER_BYTES = 4096


@dataclass
class Ends:
    """Both ends of a connection."""

    transport: Transport
    other: trio.abc.Stream

    async def aclose(self) -> None:
        await self.transport.aclose()
        await trio.aclose_forcefully(self.other)


MakeEnds = Callable[[], Awaitable[Ends]]


@lru_cache(maxsize=1)
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for 127.0.0.1 and localhost, and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def tcp_pair(buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.socket()
        if buffer_bytes is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        ours.connect(listener.getsockname())
        other, _ = listener.accept()
    return ours, other


def stream_of(sock: socket.socket) -> trio.SocketStream:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def plain() -> Ends:
    ours, other = tcp_pair()
    return Ends(SocketTransport(ours), stream_of(other))


async def narrow() -> Ends:
    ours, other = tcp_pair(SMALL_BUFFER_BYTES)
    return Ends(SocketTransport(ours), stream_of(other))


async def unix() -> Ends:
    ours, other = socket.socketpair()
    return Ends(SocketTransport(ours), stream_of(other))


async def tls() -> Ends:
    return await _tls(None)


async def narrow_tls() -> Ends:
    return await _tls(SMALL_BUFFER_BYTES)


async def _tls(buffer_bytes: int | None) -> Ends:
    server, client = tls_contexts()
    ours, other = tcp_pair(buffer_bytes)
    ours.setblocking(False)
    sock = client.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False)
    stream = trio.SSLStream(stream_of(other), server, server_side=True, https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        while True:
            try:
                sock.do_handshake()
                break
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(sock)
    return Ends(TlsTransport(sock), stream)


async def memory() -> Ends:
    ours, other = trio.testing.memory_stream_pair()
    return Ends(StreamTransport(ours), other)


async def lockstep() -> Ends:
    """Memory without a buffer: what is sent waits until it is received."""
    ours, other = trio.testing.lockstep_stream_pair()
    return Ends(StreamTransport(ours), other)


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what other tasks bring about."""
    while not condition():
        await trio.lowlevel.checkpoint()
