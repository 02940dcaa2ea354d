"""One WebSocket of the simulated service: a session's core joined to a stream.

Owns the socket from the upgrade request to its end. The WebSocket itself is wsproto's; the session's decisions are the core's.
Refuses what is not a WebSocket upgrade, messages far beyond the service's limit (1009) and peers that are silent at the
handshake. The stream is closed on every path.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.handshake import FATAL_CLOSE_CODE, ShownOut, TurnedAway, Verdict, judge_request
from engine.simulator.openai.log import SessionLog
from engine.simulator.openai.outlet import Abort, Close, Outgoing, Outlet
from engine.simulator.openai.script import Script
from engine.simulator.openai.session import RealtimeSession

ServerStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
HANDSHAKE_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
_READ_BYTES = 65536
# Room for an event just over the limit, so that it is answered with an error instead of a close.
_MESSAGE_SLACK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A connection that never became a session.

    Attributes:
        at_s: When.
        target: Path and query asked for.
        status: HTTP status; 101 if an `error` event told the reason.
        code: The error's code.
    """

    at_s: float
    target: str
    status: int
    code: str | None


@dataclass(frozen=True, kw_only=True)
class Reception:
    """What a connection needs of its peer.

    Attributes:
        config: The service.
        next_script: Gives the script of the connection that asks.
        open_session: Makes and registers a session for a model and a script.
        note_refusal: Records a connection that never became a session.
        note_end: Called when a session's connection is closed and its log complete.
    """

    config: PeerConfig
    next_script: Callable[[], Script]
    open_session: Callable[[str, Script], RealtimeSession]
    note_refusal: Callable[[Refusal], None]
    note_end: Callable[[], None]


@dataclass
class _Inbox:
    """A message put together from its fragments."""

    parts: list[str | bytes] = field(default_factory=list)
    size: int = 0

    def add(self, event: Message) -> str | bytes | None:  # type: ignore[type-arg]  # text and bytes alike
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        self.parts.append(data)
        self.size += len(data)
        if not event.message_finished:
            return None
        parts, self.parts, self.size = self.parts, [], 0
        if isinstance(event, TextMessage):
            return "".join(part for part in parts if isinstance(part, str))
        return b"".join(part for part in parts if isinstance(part, bytes))


class Connection:
    """A WebSocket connection of the service.

    Args:
        stream: The accepted stream; closed by `serve`.
        reception: The peer's side.
    """

    def __init__(self, stream: ServerStream, reception: Reception) -> None:
        self._stream = stream
        self._reception = reception
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._send_lock = trio.Lock()
        self._wake = trio.Event()

    async def serve(self) -> None:
        """Serve the connection to its end."""
        session: RealtimeSession | None = None
        try:
            session = await self._welcome()
            if session is not None:
                await self._converse(session)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The client went away before it was a session; reader and writer see to it afterwards.
            pass
        except RemoteProtocolError as error:
            await self._reject(error)
        finally:
            if session is not None:
                session.log.note_closed(trio.current_time(), "shutdown")
                self._reception.note_end()
            await trio.aclose_forcefully(self._stream)

    # -- the upgrade

    async def _welcome(self) -> RealtimeSession | None:
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            request = await self._request()
            if request is None:
                return None
            script = self._reception.next_script()
            headers = {name.decode().lower(): value.decode() for name, value in request.extra_headers}
            verdict = judge_request(request.target, headers, self._reception.config, script)
            if isinstance(verdict, (TurnedAway, ShownOut)):
                await self._refuse(verdict, request.target)
                return None
            await self._send(AcceptConnection())
            return self._reception.open_session(verdict.model, script)
        return None

    async def _request(self) -> Request | None:
        while True:
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                return None
            self._protocol.receive_data(bytes(data))
            for event in self._protocol.events():
                if isinstance(event, Request):
                    return event

    async def _reject(self, error: RemoteProtocolError) -> None:
        """Answer what is not an upgrade request with the status that wsproto suggests."""
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            if isinstance(error.event_hint, RejectConnection):
                await self._send(error.event_hint)

    async def _refuse(self, verdict: Verdict, target: str) -> None:
        if isinstance(verdict, TurnedAway):
            body = verdict.body()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await self._send(RejectConnection(status_code=verdict.status, headers=headers, has_body=True))
            await self._send(RejectData(data=body))
            self._note_refusal(target, verdict.status, verdict.error)
        elif isinstance(verdict, ShownOut):
            await self._send(AcceptConnection())
            outlet = Outlet(self._reception.config, SessionLog(), index=-1)
            outlet.send_error(verdict.error, None)
            outlet.close(FATAL_CLOSE_CODE, f"invalid_request_error.{verdict.error.code}")
            self._note_refusal(target, 101, verdict.error)
            await self._deliver(outlet.take())
            await self._await_goodbye()

    def _note_refusal(self, target: str, status: int, error: EventRefused) -> None:
        refusal = Refusal(at_s=trio.current_time(), target=target, status=status, code=error.code)
        self._reception.note_refusal(refusal)

    # -- the session

    async def _converse(self, session: RealtimeSession) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, session, nursery.cancel_scope)
            await self._write(session)
            await self._await_closed(session)
            nursery.cancel_scope.cancel()

    async def _await_closed(self, session: RealtimeSession) -> None:
        """Leave the reader time to take the client's answer to our close."""
        if self._protocol.state is ConnectionState.LOCAL_CLOSING:
            await trio.sleep(CLOSE_TIMEOUT_S)

    async def _read(self, session: RealtimeSession, scope: trio.CancelScope) -> None:
        inbox = _Inbox()
        try:
            while not await self._read_some(session, inbox):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            session.log.note_closed(trio.current_time(), "dropped")
        except RemoteProtocolError as error:
            session.log.note_closed(trio.current_time(), "peer", 1002, str(error))
            await self._send(CloseConnection(code=1002, reason="protocol error"))
        scope.cancel()

    async def _read_some(self, session: RealtimeSession, inbox: _Inbox) -> bool:
        """Read once; true when the connection is over."""
        data = await self._stream.receive_some(_READ_BYTES)
        resumes_s = session.reading_resumes_s(trio.current_time())
        if resumes_s is not None:
            await trio.sleep_until(resumes_s)
        if not data:
            session.log.note_closed(trio.current_time(), "dropped")
            return True
        self._protocol.receive_data(bytes(data))
        for event in self._protocol.events():
            if await self._take(event, session, inbox):
                return True
        return False

    async def _take(self, event: Event, session: RealtimeSession, inbox: _Inbox) -> bool:
        if isinstance(event, Message):
            message = inbox.add(event)
            if inbox.size > self._reception.config.max_event_bytes + _MESSAGE_SLACK_BYTES:
                session.log.note_closed(trio.current_time(), "peer", 1009)
                await self._send(CloseConnection(code=1009, reason="message too big"))
                return True
            if message is not None:
                session.receive(message, trio.current_time())
                self._wake.set()
        elif isinstance(event, Ping):
            await self._send(event.response())
        elif isinstance(event, CloseConnection):
            session.log.note_closed(trio.current_time(), "client", event.code, event.reason or "")
            await self._send(event.response())
            return True
        return False

    async def _write(self, session: RealtimeSession) -> None:
        try:
            await self._write_until_closed(session)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            session.log.note_closed(trio.current_time(), "dropped")

    async def _write_until_closed(self, session: RealtimeSession) -> None:
        """Send what the core has, when it has it, until it closes."""
        while True:
            self._wake = trio.Event()
            session.advance(trio.current_time())
            if await self._deliver(session.take_outgoing()):
                return
            due_s = session.next_due()
            with trio.move_on_at(float("inf") if due_s is None else due_s):
                await self._wake.wait()

    # -- the wire

    async def _deliver(self, outgoing: list[Outgoing]) -> bool:
        """Send texts and ends in order; true when there was an end."""
        texts: list[str] = []
        for thing in outgoing:
            if isinstance(thing, str):
                texts.append(thing)
                continue
            await self._send(*self._frames(texts))
            if isinstance(thing, Close):
                await self._send(CloseConnection(code=thing.code, reason=thing.reason))
            elif isinstance(thing, Abort):
                _reset(self._stream)
            return True
        await self._send(*self._frames(texts))
        return False

    def _frames(self, texts: list[str]) -> list[Event]:
        size = self._reception.config.fragment_bytes
        if size is None:
            return [TextMessage(data=text) for text in texts]
        return [
            # Events are ASCII: a character is a byte.
            TextMessage(data=text[start : start + size], message_finished=start + size >= len(text))
            for text in texts
            for start in range(0, len(text), size)
        ]

    async def _send(self, *events: Event) -> None:
        """Encode and send; under one lock, so that frames leave in the order in which they were made."""
        async with self._send_lock:
            data = b"".join(self._protocol.send(event) for event in events if self._may_send(event))
            if data:
                await self._stream.send_all(data)

    def _may_send(self, event: Event) -> bool:
        """Once a close frame has been sent or received, only the answering close frame may follow (RFC 6455 5.5.1)."""
        state = self._protocol.state
        if state is ConnectionState.REMOTE_CLOSING:
            return isinstance(event, CloseConnection)
        return state not in (ConnectionState.LOCAL_CLOSING, ConnectionState.CLOSED)

    async def _await_goodbye(self) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            while await self._stream.receive_some(_READ_BYTES):
                pass


def _reset(stream: ServerStream) -> None:
    """Make the coming close a TCP reset, as when a server dies: linger on, for no time."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
