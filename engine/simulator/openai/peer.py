"""The simulated Realtime service on a loopback port.

Owns the listener, the connections and their logs. Refuses to hold more than it is told: `session_limit` logs are kept. Every
socket is closed when the block ends, however it ends.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.connection import Connection, Reception, Refusal
from engine.simulator.openai.handshake import PATH
from engine.simulator.openai.log import Record, SessionLog
from engine.simulator.openai.script import Script
from engine.simulator.openai.session import RealtimeSession
from engine.simulator.openai.speech import SpeechLibrary

SESSION_LIMIT = 10_000
"""Session logs kept by a peer; the oldest go first."""


class RealtimePeer:
    """A running simulated service.

    Attributes:
        url: Where to connect, without the model (`?model=` is the client's to add).
        sessions: Logs of all sessions, oldest first.
        refusals: Connections that never became a session.
    """

    def __init__(self, url: str, config: PeerConfig, script: Script | Callable[[int], Script]) -> None:
        self.url = url
        self.sessions: Record[SessionLog] = Record(SESSION_LIMIT)
        self.refusals: Record[Refusal] = Record(SESSION_LIMIT)
        self._config = config
        self._script = script
        self._library = SpeechLibrary()
        # Connections that have asked so far: the index given to a script function.
        self._asked = 0
        self._changed = trio.Event()

    async def session(self, index: int = 0) -> SessionLog:
        """Wait for the log of a session.

        Args:
            index: 0 is the first session of the peer.
        """
        while self.sessions.count <= index:
            await self._changed.wait()
        return self.sessions[index - self.sessions.dropped]

    async def closed(self, log: SessionLog) -> None:
        """Wait until a session's connection is closed."""
        while log.closed_at_s is None:
            await self._changed.wait()

    def reception(self) -> Reception:
        """Give connections what they need of the peer."""
        return Reception(
            config=self._config,
            next_script=self._next_script,
            open_session=self._open_session,
            note_refusal=self._note_refusal,
            note_end=self._notify,
        )

    def _next_script(self) -> Script:
        index, self._asked = self._asked, self._asked + 1
        return self._script if isinstance(self._script, Script) else self._script(index)

    def _open_session(self, model: str, script: Script) -> RealtimeSession:
        session = RealtimeSession(
            self._config,
            script,
            model=model,
            now=trio.current_time(),
            unix_time_s=time.time(),
            index=self.sessions.count,
            library=self._library,
        )
        self.sessions.add(session.log)
        self._notify()
        return session

    def _note_refusal(self, refusal: Refusal) -> None:
        self.refusals.add(refusal)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def open_realtime_peer(
    config: PeerConfig | None = None,
    script: Script | Callable[[int], Script] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[RealtimePeer]:
    """Run a simulated Realtime service for the time of the block.

    Args:
        config: The service; None is the default one.
        script: What every session says, or a function of the connection's number (0 first, refused ones included).
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        ssl_context: Server side TLS; None speaks plain WebSocket.

    Yields:
        The peer, already listening.

    Raises:
        OSError: The address cannot be listened on.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    scheme = "ws" if ssl_context is None else "wss"
    address = listeners[0].socket.getsockname()
    url = f"{scheme}://{host}:{address[1]}{PATH}"
    peer = RealtimePeer(url, config or PeerConfig(), script or Script())
    handler = partial(_serve_stream, reception=peer.reception(), ssl_context=ssl_context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, handler, listeners))
        try:
            yield peer
        finally:
            nursery.cancel_scope.cancel()


async def _serve_stream(stream: trio.SocketStream, *, reception: Reception, ssl_context: ssl.SSLContext | None) -> None:
    if ssl_context is None:
        await Connection(stream, reception).serve()
    else:
        await Connection(trio.SSLStream(stream, ssl_context, server_side=True), reception).serve()
