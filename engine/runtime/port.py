"""One port for everything: media sockets to the engine, every other connection to the HTTP server.

The port looks at a connection's first request without consuming it, keeps the upgrades of the media socket, and gives
the rest, untouched, to Hypercorn. HTTP keep-alive is off, so the first request is the only one and the choice is
always right. What always holds: a connection is closed on every path unless it was handed to `route_media`;
connections that are not calls are bounded in number and the oldest goes first, so that slow clients cannot keep
calls out; a connection that fails concerns no other.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from engine.runtime.http_server import HttpServer, open_http_server
from engine.wire.request_head import Destination, find_destination

logger = logging.getLogger(__name__)

# As much as Hypercorn takes; other servers allow 8 to 64 KiB.
HEAD_LIMIT_BYTES = 16 * 1024

RouteMedia = Callable[[socket.socket], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class PortLimits:
    """Bounds of what is not a call.

    Attributes:
        handshake_timeout_s: The head of a media upgrade must be complete within this time.
        grace_s: After `stop`, HTTP requests may take this long to finish.
        max_waiting: Connections that are not calls; one more closes the oldest of them.
    """

    handshake_timeout_s: float = 5.0
    grace_s: float = 5.0
    max_waiting: int = 1024


@dataclass(kw_only=True)
class PortCounters:
    """What has come to the port so far."""

    accepted: int = 0
    media: int = 0
    http: int = 0
    # Heads that were not complete in time, or whose sender went away.
    unfinished: int = 0
    # The oldest connections, closed to make room.
    crowded_out: int = 0
    # Connections that ended with an error nobody expected; each is logged.
    failed: int = 0


async def serve_port(
    listeners: Sequence[trio.SocketListener],
    *,
    route_media: RouteMedia,
    app: Callable[..., Awaitable[None]],
    media_path: str,
    stop: trio.Event,
    limits: PortLimits | None = None,
    counters: PortCounters | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections until `stop` is set and the last of them has ended.

    Args:
        listeners: Where connections come from; they are closed when `stop` is set or this is cancelled.
        route_media: Gets each media connection as a non-blocking socket from which nothing has been read, with
            TCP_NODELAY set, and owns it from then on. It may return at once or when the call has ended.
        app: The ASGI application for everything else.
        media_path: The path of the media socket.
        stop: Ends the accepting. HTTP requests get `limits.grace_s` to finish; calls end when they end.
        limits: Bounds of what is not a call.
        counters: Counts what happens, for whoever wants to know.
        task_status: Started once connections are accepted.
    """
    limits = limits or PortLimits()
    counters = counters or PortCounters()
    async with open_http_server(app) as http:
        port = _Port(route_media, http, media_path.encode(), limits=limits, counters=counters)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                serve = partial(trio.serve_listeners, handler_nursery=connections)
                await accepting.start(serve, port.serve_connection, list(listeners))
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()
            await http.terminate()
            port.end_waiting(trio.current_time() + limits.grace_s)


@dataclass
class _Port:
    """What the connections of one port share."""

    route_media: RouteMedia
    http: HttpServer
    media_path: bytes
    limits: PortLimits = field(kw_only=True)
    counters: PortCounters = field(kw_only=True)
    # The connections that are not calls, oldest first.
    waiting: dict[trio.CancelScope, None] = field(default_factory=dict, init=False)
    # When the connections that are not calls must have ended.
    deadline: float = field(default=math.inf, init=False)

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; whoever calls closes `stream`."""
        self.counters.accepted += 1
        # The root of a connection: whatever fails in it is recorded here and concerns no other connection.
        try:
            if await self._serve_http(stream) is Destination.MEDIA:
                await self._serve_media(stream)
        except* Exception:
            self.counters.failed += 1
            logger.exception("A connection failed")

    def end_waiting(self, deadline: float) -> None:
        """Let the connections that are not calls end by `deadline`, and those that are still to start."""
        self.deadline = deadline
        for scope in self.waiting:
            scope.deadline = min(scope.deadline, deadline)

    async def _serve_http(self, stream: trio.SocketStream) -> Destination:
        """Find out where the connection belongs, and serve it if that is HTTP."""
        destination = Destination.UNDECIDED
        with self._waiting_connection():
            with trio.move_on_after(self.limits.handshake_timeout_s):
                destination = await self._peek_destination(stream.socket)
            if destination is Destination.HTTP:
                self.counters.http += 1
                await self.http.serve_stream(stream)
        if destination is Destination.UNDECIDED:
            self.counters.unfinished += 1
        return destination

    async def _serve_media(self, stream: trio.SocketStream) -> None:
        self.counters.media += 1
        family, kind = stream.socket.family, stream.socket.type
        # The stream has set TCP_NODELAY, and TCP_NOTSENT_LOWAT, which keeps stale audio out of the kernel's buffer.
        sock = socket.socket(family, kind, fileno=stream.socket.detach())
        sock.setblocking(False)
        await self.route_media(sock)

    async def _peek_destination(self, sock: trio.socket.SocketType) -> Destination:
        """Look at what has arrived until the destination is certain, or the peer sends no more."""
        seen_bytes = 0
        destination = Destination.UNDECIDED
        with suppress(OSError):  # the connection was reset
            received = await sock.recv(HEAD_LIMIT_BYTES, socket.MSG_PEEK)
            while len(received) > seen_bytes:  # woken by nothing new means that the peer has ended its side
                seen_bytes = len(received)
                destination = find_destination(received, media_path=self.media_path, limit_bytes=HEAD_LIMIT_BYTES)
                if destination is not Destination.UNDECIDED:
                    break
                await _wait_beyond(sock, seen_bytes)
                received = await sock.recv(HEAD_LIMIT_BYTES, socket.MSG_PEEK)
        return destination

    @contextmanager
    def _waiting_connection(self) -> Iterator[None]:
        """Count a connection among those that are not calls; it is cancelled when it is in the way."""
        if len(self.waiting) >= self.limits.max_waiting:
            oldest = next(iter(self.waiting))
            del self.waiting[oldest]
            oldest.cancel()
            self.counters.crowded_out += 1
        with trio.CancelScope(deadline=self.deadline) as scope:
            self.waiting[scope] = None
            try:
                yield
            finally:
                self.waiting.pop(scope, None)


async def _wait_beyond(sock: trio.socket.SocketType, seen_bytes: int) -> None:
    """Wait until more than `seen_bytes` unread bytes lie in the socket, or its peer has ended.

    The bytes that were only looked at keep the socket readable; the low-water mark is raised above them so that
    waiting does not spin. It is put back to one byte on every way out, for whoever reads the socket next.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen_bytes + 1)
    try:
        await trio.lowlevel.wait_readable(sock)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
