"""One WebSocket connection, without sockets: bytes in, messages out; messages in, bytes out.

Owns the opening handshake of both sides, the joining of fragments, the check that text is UTF-8, and the limit on
a message's size. The ``websockets`` library's protocol core is the authority for all of RFC 6455; extensions and
sub-protocols are refused (Twilio documents neither, protocols.md A.1; compressing base64 gains nothing, B.1).
Whatever a peer sends, nothing but :class:`~engine.errors.RemoteProtocolError` is raised, and only by the
handshakes: later violations close the connection with the code that RFC 6455 7.4.1 names for them and arrive as
:class:`Closed`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, CLOSING, CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from engine.errors import LocalProtocolError, RemoteProtocolError

# Twilio's messages are 400 bytes; 64 KiB is also what the OpenAI Agents SDK allows on this socket (protocols.md A.7).
CARRIER_MESSAGE_LIMIT_BYTES: Final = 64 * 1024
# An audio delta may hold seconds of 24 kHz PCM: 15 s are 960 KiB of base64.
PROVIDER_MESSAGE_LIMIT_BYTES: Final = 4 * 1024 * 1024

_log = logging.getLogger("engine.websocket")
_log.setLevel(
    logging.WARNING
)  # the library reports each closed connection at INFO; a call's end is reported once, by us

INVALID_TEXT: Final = 1007


@dataclass(frozen=True, slots=True)
class Text:
    """A whole text message arrived."""

    data: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A whole binary message arrived."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to one of our pings arrived; ``data`` is what the ping carried."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended; no message follows.

    Attributes:
        code: The close code; 1006 when the peer vanished without a close frame.
        reason: What was given as the reason, or what rule was broken.
        by_peer: Whether the peer began the closing.
    """

    code: int
    reason: str
    by_peer: bool


Message: TypeAlias = Text | Binary | PongReceived | Closed


class WebSocket:
    """An open or opening connection, seen from one side.

    Args:
        protocol: The library's state machine of this side.
    """

    def __init__(self, protocol: ServerProtocol | ClientProtocol) -> None:
        self._protocol = protocol
        # the pieces of a fragmented message so far, and its opcode
        self._fragments: list[bytes] = []
        self._fragmented: Opcode | None = None
        # whether the peer broke a rule that the library leaves to us
        self._violated = False
        # Closed is reported once
        self._closed_reported = False

    @property
    def is_server(self) -> bool:
        """Whether the peer is a client."""
        return isinstance(self._protocol, ServerProtocol)

    @property
    def message_limit_bytes(self) -> int:
        """The largest message the peer may send."""
        return self._protocol.max_message_size or 2**31

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is OPEN

    @property
    def close_expected(self) -> bool:
        """Whether a close frame was sent that the peer has not answered yet, by its own or by ending the connection."""
        return self._protocol.state is CLOSING and self._protocol.close_rcvd is None

    def receive(self, data: bytes) -> list[Message]:
        """Takes what the network delivered.

        Args:
            data: The bytes, in order; ``b""`` means that the peer ended its side.

        Returns:
            The messages completed by them, in order. Answers that the protocol wants (pongs, close frames) wait in
            :meth:`take_outgoing`.
        """
        protocol = self._protocol
        if protocol.state is CLOSED:
            return []
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        return self.take_messages()

    def take_messages(self) -> list[Message]:
        """Returns the messages that are complete; for those that came together with a handshake."""
        messages: list[Message] = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and not self._violated:
                self._receive_frame(event, messages)
        if not self._closed_reported and self._nothing_follows():
            self._report_closed(messages)
        return messages

    def _nothing_follows(self) -> bool:
        # Our own close frame is not the end: until the peer's arrives, so may its messages (RFC 6455 1.4).
        protocol = self._protocol
        return (
            protocol.state is CLOSED
            or protocol.close_rcvd is not None
            or protocol.parser_exc is not None
            or self._violated
        )

    def _receive_frame(self, frame: Frame, messages: list[Message]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT and frame.fin:
            self._receive_whole(opcode, bytes(frame.data), messages)
        elif opcode is Opcode.PONG:
            messages.append(PongReceived(bytes(frame.data)))
        elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if opcode is not Opcode.CONT:
                self._fragmented = opcode
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, kind = b"".join(self._fragments), self._fragmented
                self._fragments.clear()
                self._fragmented = None
                self._receive_whole(kind, whole, messages)

    def _receive_whole(self, opcode: Opcode | None, data: bytes, messages: list[Message]) -> None:
        if opcode is Opcode.BINARY:
            messages.append(Binary(data))
            return
        try:
            messages.append(Text(data.decode()))
        except UnicodeDecodeError:
            # RFC 6455 8.1: text that is not UTF-8 fails the connection
            self._violated = True
            self._protocol.fail(INVALID_TEXT, "text is not UTF-8")

    def _report_closed(self, messages: list[Message]) -> None:
        protocol = self._protocol
        self._closed_reported = True
        if protocol.close_rcvd is not None:
            by_peer = bool(protocol.close_rcvd_then_sent) or protocol.close_sent is None
            messages.append(Closed(int(protocol.close_rcvd.code), protocol.close_rcvd.reason, by_peer))
        elif protocol.close_sent is not None:
            messages.append(Closed(int(protocol.close_sent.code), protocol.close_sent.reason, by_peer=False))
        else:
            messages.append(Closed(1006, "connection lost", by_peer=True))

    def text(self, payload: bytes) -> bytes:
        """Frames one text message.

        Args:
            payload: UTF-8.

        Returns:
            The bytes to send.

        Raises:
            LocalProtocolError: The connection is not open.
        """
        if self._protocol.state is not OPEN:
            raise LocalProtocolError("a message cannot be sent: the WebSocket is not open")
        self._protocol.send_text(payload)
        return b"".join(self._protocol.data_to_send())

    def ping(self, payload: bytes) -> bytes:
        """Frames a ping of at most 125 bytes; the peer returns them in a :class:`PongReceived`."""
        if self._protocol.state is not OPEN:
            raise LocalProtocolError("a ping cannot be sent: the WebSocket is not open")
        self._protocol.send_ping(payload)
        return b"".join(self._protocol.data_to_send())

    def close(self, code: int, reason: str = "") -> None:
        """Begins the closing handshake, if the connection is open; the frame waits in :meth:`take_outgoing`."""
        if self._protocol.state is OPEN:
            # a control frame holds 125 bytes, two of them the code (RFC 6455 5.5)
            self._protocol.send_close(code, reason.encode()[:120].decode(errors="ignore"))

    def take_outgoing(self) -> bytes:
        """Returns what the protocol wants to send by itself: pongs and close frames."""
        return b"".join(self._protocol.data_to_send())


class _HeadSplitter:
    """Splits what arrives behind the empty line that ends an HTTP head: the library would take the rest for frames."""

    def __init__(self) -> None:
        # the last bytes seen, among which the empty line may begin
        self._tail = b""

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns what belongs to the head, and what came behind it."""
        seen = self._tail + data
        end = seen.find(b"\r\n\r\n")
        n_head = len(data) if end < 0 else end + 4 - len(self._tail)
        self._tail = seen[-3:]
        return data[:n_head], data[n_head:]


class ServerHandshake:
    """The opening handshake, server side: a request arrives, is judged by the caller, and is accepted or refused."""

    def __init__(self, message_limit_bytes: int = CARRIER_MESSAGE_LIMIT_BYTES) -> None:
        self._protocol = ServerProtocol(max_size=message_limit_bytes, logger=_log)
        self._request: Request | None = None
        self._splitter = _HeadSplitter()
        # what came right behind the request
        self._behind = b""

    def receive(self, data: bytes) -> Mapping[str, str] | None:
        """Takes bytes of the request.

        Returns:
            The request's headers (names lower-case) once it is complete, else None.

        Raises:
            RemoteProtocolError: It is not an HTTP request, or the peer left before it was complete.
        """
        if data:
            head, self._behind = self._splitter.split(data)
            self._protocol.receive_data(head)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._request = event
                return {name.lower(): value for name, value in event.headers.raw_items()}
        if self._protocol.handshake_exc is not None or not data:
            raise RemoteProtocolError(f"not a WebSocket handshake: {self._protocol.handshake_exc or 'peer left'}")
        return None

    def accept(self) -> tuple[bytes, WebSocket, bytes]:
        """Answers the request with 101.

        Returns:
            The response's bytes, the open connection, and what came right behind the request: the first bytes for it.

        Raises:
            RemoteProtocolError: The request breaks RFC 6455; ``take_refusal`` holds the fitting response.
        """
        assert self._request is not None
        response = self._protocol.accept(self._request)
        self._protocol.send_response(response)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            raise RemoteProtocolError(f"WebSocket handshake refused: {self._protocol.handshake_exc}")
        response_bytes = b"".join(self._protocol.data_to_send())
        return response_bytes, WebSocket(self._protocol), self._behind

    def refuse(self, status: HTTPStatus, text: str) -> bytes:
        """Answers the request with an HTTP error; Twilio reports it as 31920 (protocols.md A.4)."""
        self._protocol.send_response(self._protocol.reject(status, text + "\n"))
        return b"".join(self._protocol.data_to_send())

    def take_refusal(self) -> bytes:
        """Returns the response to a request that :meth:`accept` found broken."""
        return b"".join(self._protocol.data_to_send())


class ClientHandshake:
    """The opening handshake, client side.

    Args:
        url: ``ws`` or ``wss`` URL.
        headers: Further request headers, such as ``Authorization``.
        message_limit_bytes: The largest message the peer may send.

    Raises:
        LocalProtocolError: The URL is not a WebSocket URL.
    """

    def __init__(
        self,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        message_limit_bytes: int = PROVIDER_MESSAGE_LIMIT_BYTES,
    ) -> None:
        try:
            self.uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise LocalProtocolError(f"not a WebSocket URL: {error}") from error
        self._protocol = ClientProtocol(self.uri, max_size=message_limit_bytes, logger=_log)
        self._headers = tuple(headers)
        self._splitter = _HeadSplitter()
        # how the response begins, to tell an acceptance from a refusal, which has a body
        self._beginning = b""

    def request(self) -> bytes:
        """Returns the request's bytes."""
        request = self._protocol.connect()
        for name, value in self._headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        return b"".join(self._protocol.data_to_send())

    def receive(self, data: bytes) -> tuple[WebSocket, bytes] | None:
        """Takes bytes of the response.

        Returns:
            The open connection and what came right behind the response, the first bytes for it; None while the
            response is incomplete.

        Raises:
            RefusedHandshake: The server answered with another status than 101.
            RemoteProtocolError: The answer is not a valid handshake, or the server left.
        """
        behind = self._feed(data)
        if self._protocol.handshake_exc is not None:
            error = self._protocol.handshake_exc
            if isinstance(error, InvalidStatus):
                raise RefusedHandshake(error.response.status_code, bytes(error.response.body or b""))
            raise RemoteProtocolError(f"WebSocket handshake failed: {error}")
        if self._protocol.state is CONNECTING:
            if not data:
                raise RemoteProtocolError("the server closed the connection during the WebSocket handshake")
            return None
        return WebSocket(self._protocol), behind

    def _feed(self, data: bytes) -> bytes:
        """Gives the library what belongs to the response, and returns what does not."""
        if not data:
            self._protocol.receive_eof()
            return b""
        self._beginning = (self._beginning + data)[:12]
        head, behind = self._splitter.split(data)
        if not self._beginning.startswith(b"HTTP/1.1 101"):
            head, behind = data, b""
        self._protocol.receive_data(head)
        return behind


class RefusedHandshake(RemoteProtocolError):
    """The server answered the handshake with an HTTP status other than 101.

    Attributes:
        status: The status.
        body: What came with it.
    """

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(f"the WebSocket handshake was answered with HTTP status {status}")
