"""The media socket as Twilio opens it: TCP, TLS, and a WebSocket handshake without a sub-protocol.

Owns the connection and the translation of everything that can go wrong with it into Twilio's codes (protocols.md A.4).
The WebSocket itself is trio-websocket's, an implementation that the engine does not share. Every wait is bounded by
the call's `connect_timeout_s`; whatever fails, the TCP connection is closed.
"""

from __future__ import annotations

import ssl
from typing import cast
from urllib.parse import urlsplit

import h11
import trio
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

from engine.errors import ConnectionFailed, LocalProtocolError
from engine.simulator.twilio.addresses import Address, address_of
from engine.simulator.twilio.config import CallConfig
from engine.simulator.twilio.signature import SOCKET_HEADER, sign_socket

NO_RESPONSE = 31901
BROKEN_PIPE = 31903
TLS_FAILED = 31910
HANDSHAKE_FAILED = 31920
SERVER_CLOSED = 31921
FRAMING_VIOLATION = 31924

# Twilio documents no cap (protocols.md A.1, A.3): this one is there for the machine's sake.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_QUEUED_MESSAGES = 1024
_RECEIVE_BYTES = 65_536
# The close codes with which trio-websocket reports that the peer's frames were malformed (RFC 6455 7.4.1).
_FRAMING_CODES = (1002, 1007, 1009)
_ABNORMAL_CODE = 1006


# What trio-websocket's reading task may end with before the handshake is done: another status than 101, or (when the
# answer is not even a valid handshake) the errors of the libraries below it, from trying to reject an answer instead
# of a request.
HANDSHAKE_ERRORS = (ConnectionRejected, ProtocolError, h11.ProtocolError)


class StreamFailed(ConnectionFailed):
    """A media stream could not be opened, or broke.

    Attributes:
        code: Twilio's error code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class TappedStream(trio.abc.Stream):
    """A byte stream that remembers whether the peer has said anything and whether it is over."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.received_bytes = 0
        self.over = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends everything."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until sending makes sense."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receives, and notes the end."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.over.set()
            raise
        self.received_bytes += len(data)
        if not data:
            self.over.set()
        return data

    async def aclose(self) -> None:
        """Closes the stream."""
        self.over.set()
        await self._stream.aclose()


class MediaSocket:
    """An open media socket."""

    def __init__(self, connection: WebSocketConnection, stream: TappedStream) -> None:
        self._connection = connection
        self._stream = stream

    async def send(self, message: str | bytes) -> bool:
        """Sends one message.

        Returns:
            Whether it could be sent; False once the connection is over, which `receive` reports with its reason.
        """
        try:
            await self._connection.send_message(message)
        except (ConnectionClosed, ProtocolError):
            return False
        return True

    async def receive(self) -> str | bytes:
        """Receives one message.

        Raises:
            StreamFailed: The connection is over; 31921 if the server closed it properly, 31903 if it vanished, 31924
                if it broke the WebSocket protocol.
        """
        try:
            return await self._connection.get_message()
        except ConnectionClosed as closed:
            raise _end_of(closed.reason) from None

    async def aclose(self) -> None:
        """Closes with a handshake; idempotent, and closes the TCP connection even when cancelled."""
        try:
            await self._connection.aclose()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        """Closes the TCP connection without a word."""
        await trio.aclose_forcefully(self._stream)


def _end_of(reason: CloseReason | None) -> StreamFailed:
    if reason is None:
        return StreamFailed(FRAMING_VIOLATION, "the server broke the WebSocket protocol")
    text = f"{reason.code} {reason.reason or reason.name}"
    if reason.code == _ABNORMAL_CODE:
        return StreamFailed(BROKEN_PIPE, "the connection ended without a closing handshake")
    if reason.code in _FRAMING_CODES:
        return StreamFailed(FRAMING_VIOLATION, f"WebSocket violation: {text}")
    return StreamFailed(SERVER_CLOSED, f"the server closed the connection: {text}")


def failed_handshake(error: BaseException) -> StreamFailed:
    """Says what one of `HANDSHAKE_ERRORS` means: 31920."""
    if isinstance(error, ConnectionRejected):
        return StreamFailed(
            HANDSHAKE_FAILED, f"the server answered the handshake with status {error.status_code}, not 101"
        )
    return StreamFailed(HANDSHAKE_FAILED, "the server's answer is no valid WebSocket handshake")


async def connect_media_socket(nursery: trio.Nursery, url: str, config: CallConfig) -> MediaSocket:
    """Opens a media socket, whose reading task lives in `nursery`.

    A handshake that is answered wrongly does not raise here: one of `HANDSHAKE_ERRORS` cancels `nursery`, and
    `failed_handshake` says what it means.

    Raises:
        StreamFailed: 31901 no connection or no answer, 31910 TLS failed, 31920 the handshake failed.
    """
    try:
        address = address_of(url, behind_proxy_at=config.behind_proxy_at, allow_remote=config.allow_remote)
    except LocalProtocolError as error:
        raise StreamFailed(NO_RESPONSE, str(error)) from None
    stream = TappedStream(await _open_stream(address, config))
    try:
        connection = await _shake_hands(nursery, stream, url, address, config)
        if connection.subprotocol is not None:
            raise StreamFailed(
                HANDSHAKE_FAILED, f"the server chose sub-protocol {connection.subprotocol!r}, none was offered"
            )
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return MediaSocket(connection, stream)


async def _open_stream(address: Address, config: CallConfig) -> trio.abc.Stream:
    place = f"{address.host}:{address.port}"
    try:
        with trio.fail_after(config.connect_timeout_s):
            plain = await trio.open_tcp_stream(address.host, address.port)
    except trio.TooSlowError:
        raise StreamFailed(NO_RESPONSE, f"{place} does not answer") from None
    except OSError as error:
        raise StreamFailed(NO_RESPONSE, f"{place}: {error}") from None
    return await _wrap_tls(plain, address, config) if address.tls else plain


async def _wrap_tls(plain: trio.SocketStream, address: Address, config: CallConfig) -> trio.abc.Stream:
    context = config.ssl_context or ssl.create_default_context()
    secure = trio.SSLStream(plain, context, server_hostname=address.server_name, https_compatible=True)
    try:
        with trio.fail_after(config.connect_timeout_s):
            await secure.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(plain)
        if isinstance(error, trio.TooSlowError | trio.BrokenResourceError | OSError):
            raise StreamFailed(TLS_FAILED, f"TLS with {address.server_name}: {error.__cause__ or error!r}") from None
        raise
    return secure


async def _shake_hands(
    nursery: trio.Nursery, stream: TappedStream, url: str, address: Address, config: CallConfig
) -> WebSocketConnection:
    headers = [(b"user-agent", b"Twilio.TmeWs/1.0")]
    if config.auth_token is not None:
        headers.append((SOCKET_HEADER.encode(), sign_socket(config.auth_token, url).encode()))
    connection: WebSocketConnection | None = None
    with trio.move_on_after(config.connect_timeout_s):
        async with trio.open_nursery() as opening:
            opening.start_soon(_cancel_at_end, stream, opening.cancel_scope)
            connection = await wrap_client_stream(
                nursery,
                cast("trio.SocketStream", stream),
                address.host_header,
                urlsplit(url).path or "/",
                extra_headers=headers,
                message_queue_size=_QUEUED_MESSAGES,
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=_RECEIVE_BYTES,
            )
            opening.cancel_scope.cancel()
    if connection is not None:
        return connection
    if stream.received_bytes:
        raise StreamFailed(HANDSHAKE_FAILED, f"{url} did not answer with a WebSocket handshake")
    raise StreamFailed(NO_RESPONSE, f"{url} did not answer the WebSocket handshake")


async def _cancel_at_end(stream: TappedStream, scope: trio.CancelScope) -> None:
    await stream.over.wait()
    # Let a rejection, read together with the end of the stream, be told first.
    await trio.lowlevel.checkpoint()
    scope.cancel()
