"""Hypercorn's Trio server, for connections that somebody else has accepted.

Owns Hypercorn's configuration and the life of the ASGI application around the connections. Every wait has a bound:
a request's head must come within `IDLE_TIMEOUT_S`, a pause inside a request may last `READ_TIMEOUT_S`, and a client
that does not take its answer is dropped by the kernel after `UNTAKEN_TIMEOUT_MS`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

IDLE_TIMEOUT_S = 5
# Longer than any request may take to be answered, for Hypercorn counts that time too.
READ_TIMEOUT_S = 30
UNTAKEN_TIMEOUT_MS = 15_000


@dataclass(frozen=True)
class HttpServer:
    """An ASGI application that is ready for connections; made by `open_http_server`."""

    app: ASGIWrapper
    config: Config
    context: WorkerContext
    state: LifespanState

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Serve the one request of a connection, and close it."""
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_TIMEOUT_MS)
        # Hypercorn names the TLS stream only, and takes whatever behaves like a stream.
        await TCPServer(
            self.app,
            self.config,
            self.context,
            ConnectionState(self.state.copy()),
            _PromptStream(stream),  # type: ignore[arg-type]
        )

    async def terminate(self) -> None:
        """Close the connections that have not sent a request yet; the others finish theirs."""
        await self.context.terminated.set()


@dataclass(frozen=True)
class _PromptStream:
    """A stream whose `send_eof` cannot be cancelled halfway.

    Hypercorn tells the application that the connection is going before it closes it, and Quart-Trio answers by
    cancelling the very task that is about to close. The cancellation would strike in `send_eof`, which waits for
    nothing but lets it in, and the connection would stay open until the client leaves.
    """

    stream: trio.SocketStream

    @property
    def socket(self) -> trio.socket.SocketType:
        return self.stream.socket

    async def send_all(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        with suppress(OSError):  # the peer, or we, have closed already
            self.stream.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        await self.stream.aclose()  # closes even if it is cancelled


@asynccontextmanager
async def open_http_server(app: Callable[..., Awaitable[None]]) -> AsyncIterator[HttpServer]:
    """Start up an ASGI application, and shut it down at the end of the block."""
    config = _make_config()
    wrapped = ASGIWrapper(app)
    state: LifespanState = {}
    lifespan = Lifespan(wrapped, config, state)
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        yield HttpServer(wrapped, config, WorkerContext(None), state)
        await lifespan.wait_for_shutdown()
        nursery.cancel_scope.cancel()


def _make_config() -> Config:
    config = Config()
    config.keep_alive_max_requests = 1
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.read_timeout = READ_TIMEOUT_S
    config.startup_timeout = config.shutdown_timeout = 10
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("engine.http")
    return config
