"""A WebSocket over a transport: the thin shell around the sans-IO connection.

Owns one connection: what arrives is handed on synchronously, by the mover or by the link's own reader task; what is
sent goes out at once, and only what the peer does not take waits in a bounded backlog, oldest audio dropped first, while
control messages, pongs and close frames always find room. A peer that takes nothing for five seconds, or that says
nothing although it was pinged, is gone. Always holds: messages leave in the order they were given; a frame is never
cut in two by dropping; after :attr:`closed` is set nothing more arrives.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from engine.errors import ConnectionFailed
from engine.runtime.leg import CARRIER, PROVIDER, Leg
from engine.runtime.mover import Mover
from engine.runtime.transport import Transport
from engine.wire.websocket import Binary, Closed, Message, PongReceived, Text, WebSocket

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

# The mover keeps a message until it is whole; longer ones go to the library in pieces.
FRAME_LIMIT_BYTES: Final = 1024 * 1024
# Audio that may wait for a slow peer: about five seconds of it, as base64 in JSON.
AUDIO_BACKLOG_BYTES: Final = 64 * 1024
# Beyond this even control messages find no room: the peer is gone in all but name.
BACKLOG_LIMIT_BYTES: Final = 1024 * 1024
STALL_LIMIT_S: Final = 5.0
PING_INTERVAL_S: Final = 20.0
CLOSE_LIMIT_S: Final = 0.5

_log = logging.getLogger("engine.link")


class Link:
    """One open WebSocket.

    Args:
        transport: The connected byte stream; the link closes it.
        websocket: The connection, its handshake done.
        now: The clock, in seconds.
        name: Who is on the other side, for errors.
    """

    def __init__(self, transport: Transport, websocket: WebSocket, now: Callable[[], float], *, name: str) -> None:
        self._transport = transport
        self._websocket = websocket
        self._now = now
        self.name = name
        # what to do with what arrives; set by the owner before reading begins
        self.on_text: Callable[[str], None] = _ignore_text
        self.on_binary: Callable[[], None] = _ignore_binary
        # what the mover found: a piece of the model's voice; that a mark is wanted; that it begins, and ends, to watch
        self.on_delta: Callable[[CData], None] = _ignore_delta
        self.on_mark_wanted: Callable[[], None] = _ignore_binary
        self.on_attached: Callable[[], None] = _ignore_binary
        self.on_detached: Callable[[Leg], None] = _ignore_leg
        # called when a backlog has gone
        self.on_drained: Callable[[], None] = _ignore_binary
        # (bytes, whether they are audio that may be dropped)
        self._backlog: deque[tuple[bytes, bool]] = deque()
        self._backlog_bytes = 0
        # of them, those that may be dropped
        self._audio_bytes = 0
        self._backlogged = trio.Event()
        self._ended = trio.Event()
        self._crash: Exception | None = None
        # whether the connection is broken, so that a goodbye would reach nobody
        self._lost = False
        self._goodbye_said = False
        self._mover: Mover | None = None
        # the link's place in the mover's pass, while it has one
        self.leg: Leg | None = None
        self._pinged_at: float | None = None
        # how the connection ended; None while it is open
        self.closed: Closed | None = None
        # when anything last arrived, in seconds
        self.heard_at = now()
        # the last ping's round trip; None before the first pong
        self.round_trip_s: float | None = None
        self.dropped_messages = 0
        # what came right behind the handshake
        self.behind = b""

    # --------------------------------------------------------------------------------------------------------- sending

    @property
    def is_blocked(self) -> bool:
        """Whether the peer does not take what it is sent."""
        return bool(self._backlog)

    def send_nowait(self, payload: bytes, *, audio: bool = False) -> None:
        """Sends one text message, or queues it; does nothing once the connection is closing.

        Args:
            payload: UTF-8.
            audio: Whether it may be dropped when the peer does not keep up.
        """
        if self.closed is None and self._websocket.is_open:
            self._send_bytes(self._websocket.text(payload), audio=audio)

    def send_batch_nowait(self, payloads: list[bytes]) -> None:
        """Sends several text messages with one system call."""
        if self.closed is None and self._websocket.is_open:
            text = self._websocket.text
            self._send_bytes(b"".join([text(payload) for payload in payloads]), audio=False)

    def _send_bytes(self, data: bytes, *, audio: bool) -> None:
        if not self._backlog:
            try:
                sent = self._transport.send_nowait(data)
            except OSError as error:
                self._lose(f": {error.strerror or error}")
                return
            if sent == len(data):
                return
            # what has begun must go on
            data, audio = data[sent:], audio and not sent
        self._queue(data, audio=audio)

    def _queue(self, data: bytes, *, audio: bool) -> None:
        self._backlog.append((data, audio))
        self._backlog_bytes += len(data)
        self._audio_bytes += len(data) if audio else 0
        self._backlogged.set()
        if self.leg is not None:
            self.leg.state.blocked = 1
        while self._audio_bytes > AUDIO_BACKLOG_BYTES and self._drop_oldest_audio():
            pass
        if self._backlog_bytes > BACKLOG_LIMIT_BYTES:
            self._lose(" does not take what it is sent")

    def _drop_oldest_audio(self) -> bool:
        """Returns whether there was some that could be dropped."""
        # never the first entry: a part of it may have gone, and TLS wants to see the very same bytes again
        for index in range(1, len(self._backlog)):
            data, audio = self._backlog[index]
            if audio:
                del self._backlog[index]
                self._backlog_bytes -= len(data)
                self._audio_bytes -= len(data)
                self.dropped_messages += 1
                return True
        return False

    async def run_writer(self) -> None:
        """Sends the backlog whenever there is one, until cancelled or the connection ends."""
        while self.closed is None:
            await self._backlogged.wait()
            if self._backlog:
                await self._send_head()
            if not self._backlog:
                self._backlogged = trio.Event()
                if self.leg is not None:
                    self.leg.state.blocked = 0
                self.on_drained()

    async def _send_head(self) -> None:
        data, audio = self._backlog[0]
        try:
            with trio.fail_after(STALL_LIMIT_S):
                sent = await self._transport.send_some(data)
        except trio.TooSlowError:
            self._lose(f" took nothing for {STALL_LIMIT_S:g} s")
            return
        except OSError as error:
            self._lose(f": {error.strerror or error}")
            return
        self._backlog_bytes -= sent
        self._audio_bytes -= len(data) if audio else 0  # what has begun must go on
        if sent == len(data):
            self._backlog.popleft()
        else:
            self._backlog[0] = (data[sent:], False)

    # ------------------------------------------------------------------------------------------------------- receiving

    async def run_reader(self, mover: Mover | None) -> None:
        """Hands on what arrives until the connection ends.

        Args:
            mover: Who watches the socket; without one, or if the transport cannot be watched, this task does it.

        Raises:
            Exception: Whatever a callback raised.
        """
        behind, self.behind = self.behind, b""
        try:
            if mover is not None and mover.watches and self.fd is not None:
                self._attach(mover, behind)
                await self._ended.wait()
            elif behind:
                self.take_bytes(behind)
            while self.closed is None:
                await self._wait_readable()
                self.pump()
        finally:
            self._detach()
        if self._crash is not None:
            raise self._crash

    def _attach(self, mover: Mover, behind: bytes) -> None:
        self._mover = mover
        self.leg = mover.attach(self)
        self.leg.state.blocked = int(bool(self._backlog))
        self.on_attached()
        if behind:
            mover.feed(self.leg, behind)

    async def _wait_readable(self) -> None:
        try:
            await self._transport.wait_readable()
        except OSError as error:
            self._lose(f": {error.strerror or error}")

    def pump(self) -> None:
        """Takes what has arrived, and hands it on."""
        try:
            data = self._transport.receive_nowait()
        except OSError as error:
            self._lose(f": {error.strerror or error}")
            return
        if data is not None:
            self.take_bytes(data)

    def take_bytes(self, data: bytes) -> None:
        """Takes bytes that have arrived, in order; ``b""`` when the peer has ended its side."""
        self.heard_at = self._now()
        self.dispatch(self._websocket.receive(data))
        self._send_answers()
        if not data and self.closed is None:
            self._lose(" is gone")

    def _send_answers(self) -> None:
        answers = self._websocket.take_outgoing()
        if answers:
            self._send_bytes(answers, audio=False)

    def dispatch(self, messages: list[Message]) -> None:
        """Hands on messages, in order, until the link has ended."""
        for message in messages:
            if self.closed is not None:
                return
            if type(message) is Text:
                self.on_text(message.data)
            elif type(message) is PongReceived:
                self._pong_received(message)
            elif type(message) is Binary:
                self.on_binary()
            elif type(message) is Closed:
                self._end(message)

    # ------------------------------------------------------------------------------------- what the mover needs of it

    @property
    def fd(self) -> int | None:
        """The descriptor to watch."""
        return self._transport.fd

    @property
    def is_direct(self) -> bool:
        """Whether the descriptor can be read and written as it is."""
        return self._transport.is_direct

    @property
    def side(self) -> int:
        """The carrier is a client of ours, the provider a server."""
        return CARRIER if self._websocket.is_server else PROVIDER

    @property
    def frame_limit_bytes(self) -> int:
        """What the library takes, and no more than the mover keeps for one message."""
        return min(self._websocket.message_limit_bytes, FRAME_LIMIT_BYTES)

    def take_delta(self, event: CData) -> None:
        """Hands a piece of the model's voice on."""
        self.on_delta(event)

    def read_nowait(self) -> bytes | None:
        """Reads through TLS. None when there is nothing for the mover, because the link has ended too."""
        try:
            data = self._transport.receive_nowait()
        except OSError as error:
            self._lose(f": {error.strerror or error}")
            return None
        if data == b"":
            self._detach()
            self.take_bytes(b"")
        return data or None

    def send_frame_nowait(self, frame: bytes) -> None:
        """Sends a frame that is made already."""
        if self.closed is None and self._websocket.is_open:
            self._send_bytes(frame, audio=True)

    def take_unsent(self, data: bytes) -> None:
        """Queues what the socket did not take, in front of all that follows."""
        self._queue(data, audio=False)

    def mark_wanted(self) -> None:
        """Tells the owner."""
        self.on_mark_wanted()

    def take_failure(self, error_number: int) -> None:
        """Ends the link."""
        self._lose(f": {os.strerror(error_number)}")

    @property
    def crashed(self) -> bool:
        """Whether the connection ended because a callback raised."""
        return self._crash is not None

    def crash(self, error: Exception) -> None:
        """Ends the link because a callback raised; :meth:`run_reader` raises it in the call's nursery."""
        self._crash = error
        self._end(Closed(1006, "internal error", by_peer=False))

    def _end(self, closed: Closed) -> None:
        if self.closed is None:
            self.closed = closed
            self._detach()
            self._ended.set()
            self._backlogged.set()

    def _lose(self, how: str) -> None:
        """Ends the link because the connection is broken."""
        self._lost = True
        self._end(Closed(1006, f"{self.name}{how}", by_peer=True))

    def _detach(self) -> None:
        """Leaves the mover; what it held back goes to the library, where it may be a goodbye."""
        if self._mover is None or self.leg is None:
            return
        mover, leg = self._mover, self.leg
        self._mover = self.leg = None
        self.heard_at = max(self.heard_at, leg.state.heard_at)
        self.on_detached(leg)
        rest = mover.detach(leg)
        if rest:
            self.dispatch(self._websocket.receive(rest))

    # ------------------------------------------------------------------------------------------------------- liveliness

    async def run_keepalive(self) -> None:
        """Pings every 20 s from now on; a peer from which nothing at all comes in the 20 s after a ping is gone."""
        while self.closed is None:
            self._pinged_at = pinged_at = self._now()
            if self._websocket.is_open:
                self._send_bytes(self._websocket.ping(b"%.6f" % pinged_at), audio=False)
            await trio.sleep(PING_INTERVAL_S)
            heard_at = self.heard_at if self.leg is None else max(self.heard_at, self.leg.state.heard_at)
            if heard_at < pinged_at:
                self._lose(" answers nothing")

    def _pong_received(self, pong: PongReceived) -> None:
        if self._pinged_at is not None and pong.data == b"%.6f" % self._pinged_at:
            self.round_trip_s = self._now() - self._pinged_at

    async def wait_closed(self) -> Closed:
        """Waits until the connection has ended, and says how."""
        await self._ended.wait()
        assert self.closed is not None
        return self.closed

    def check_open(self) -> None:
        """Raises :class:`~engine.errors.ConnectionFailed` if the connection has ended."""
        if self.closed is not None:
            raise ConnectionFailed(f"{self.name}: connection closed ({self.closed.code} {self.closed.reason})")

    # --------------------------------------------------------------------------------------------------------- closing

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye if the connection is open, waits briefly for the answer, and closes; completes when cancelled.

        Nothing that arrives meanwhile is handed on. A second call does nothing. The link's own tasks must have ended.
        """
        if self._goodbye_said:
            return
        self._goodbye_said = True
        self.on_text, self.on_binary, self.on_drained = _ignore_text, _ignore_binary, _ignore_binary
        self.on_delta, self.on_mark_wanted = _ignore_delta, _ignore_binary
        self._detach()
        try:
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_LIMIT_S, shield=True):
                await self._say_goodbye(code, reason)
        finally:
            self._end(Closed(code, reason, by_peer=False))
            await self._transport.aclose()

    async def _say_goodbye(self, code: int, reason: str) -> None:
        self._websocket.close(code, reason)
        self._send_answers()
        try:
            while self._backlog and not self._lost:
                await self._send_head()
            # Closing a socket that has received more would destroy what it has sent; so take it until the peer is done.
            while self._websocket.close_expected and not self._lost:
                await self._transport.wait_readable()
                self.pump()
        except OSError as error:
            _log.debug("%s vanished during the goodbye: %s", self.name, error)


def _ignore_text(text: str) -> None:
    """Drops a message that came outside the link's life."""


def _ignore_binary() -> None:
    """Drops a message that came outside the link's life."""


def _ignore_delta(event: CData) -> None:
    """Drops audio that came outside the link's life."""


def _ignore_leg(leg: Leg) -> None:
    """Nobody follows the mover's account."""
