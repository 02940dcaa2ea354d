"""Opening WebSockets: to a provider, and from Twilio.

Owns the steps between a TCP connection and an open :class:`~engine.runtime.link.Link`, each with a deadline. A failure
closes the socket and raises :class:`~engine.errors.ConnectionFailed`, or
:class:`~engine.wire.websocket.RefusedHandshake` when a server answered with an HTTP error.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import trio

from engine.errors import ConnectionFailed, RemoteProtocolError
from engine.runtime.link import Link
from engine.runtime.transport import SocketTransport, TlsTransport, Transport
from engine.wire.websocket import ClientHandshake, RefusedHandshake, ServerHandshake, WebSocket

CONNECT_LIMIT_S: Final = 10.0
ACCEPT_LIMIT_S: Final = 5.0

# judges a request's headers (names lower-case): None accepts, else the refusal
Judge = Callable[[Mapping[str, str]], tuple[HTTPStatus, str] | None]


async def connect(
    url: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    now: Callable[[], float],
    name: str,
    ssl_context: ssl.SSLContext | None = None,
) -> Link:
    """Opens a WebSocket to a server.

    Args:
        url: ``ws`` or ``wss``.
        headers: Further headers of the request.
        now: The clock of the link.
        name: Who the server is, for errors.
        ssl_context: For ``wss``; by default the system's certificates are trusted.

    Raises:
        ConnectionFailed: The server cannot be reached, TLS fails, or it does not answer within 10 s.
        RefusedHandshake: The server answered with an HTTP error.
    """
    handshake = ClientHandshake(url, headers)
    try:
        with trio.fail_after(CONNECT_LIMIT_S):
            transport = await _connect_transport(handshake, ssl_context)
            try:
                websocket, behind = await _shake_hands(transport, handshake)
            except BaseException:
                await transport.aclose()
                raise
    except trio.TooSlowError as error:
        raise ConnectionFailed(f"{name} did not answer within {CONNECT_LIMIT_S:g} s") from error
    except (OSError, UnicodeError) as error:  # the latter for a host that cannot be a name
        raise ConnectionFailed(f"{name} cannot be reached: {error}") from error
    except RefusedHandshake:
        raise
    except RemoteProtocolError as error:
        raise ConnectionFailed(f"{name}: {error}") from error
    link = Link(transport, websocket, now, name=name)
    link.behind = behind
    return link


async def _connect_transport(handshake: ClientHandshake, context: ssl.SSLContext | None) -> Transport:
    uri = handshake.uri
    stream = await trio.open_tcp_stream(uri.host, uri.port)
    # the stream's own socket object must forget the descriptor, or both would close it
    sock = socket.socket(fileno=stream.socket.detach())
    if not uri.secure:
        return SocketTransport(sock)
    try:
        return await _start_tls(sock, context or ssl.create_default_context(), uri.host)
    except BaseException:
        sock.close()
        raise


async def _start_tls(sock: socket.socket, context: ssl.SSLContext, host: str) -> TlsTransport:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(tls)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(tls)
            else:
                return TlsTransport(tls)
    except BaseException:
        tls.close()
        raise


async def _shake_hands(transport: Transport, handshake: ClientHandshake) -> tuple[WebSocket, bytes]:
    await _send_all(transport, handshake.request())
    while True:
        await transport.wait_readable()
        data = transport.receive_nowait()
        opened = handshake.receive(data) if data is not None else None
        if opened is not None:
            return opened


async def _send_all(transport: Transport, data: bytes) -> None:
    while data:
        data = data[await transport.send_some(data) :]


async def accept(transport: Transport, judge: Judge, *, now: Callable[[], float], name: str) -> Link | None:
    """Takes the opening handshake of a client that has connected.

    Args:
        transport: The connection; closed here unless a link is returned.
        judge: Looks at the headers, and accepts or refuses.
        now: The clock of the link.
        name: Who the client is, for errors.

    Returns:
        The open link, or None if the client was refused.

    Raises:
        ConnectionFailed: The client left, was too slow, or did not speak WebSocket.
    """
    try:
        with trio.fail_after(ACCEPT_LIMIT_S):
            answered = await _answer(transport, judge)
    except (trio.TooSlowError, OSError, RemoteProtocolError) as error:
        await transport.aclose()
        raise ConnectionFailed(f"{name}: {str(error) or 'too slow'}") from error
    except BaseException:
        await transport.aclose()
        raise
    if answered is None:
        await transport.aclose()
        return None
    link = Link(transport, answered[0], now, name=name)
    link.behind = answered[1]
    return link


async def _answer(transport: Transport, judge: Judge) -> tuple[WebSocket, bytes] | None:
    handshake = ServerHandshake()
    headers: Mapping[str, str] | None = None
    while headers is None:
        await transport.wait_readable()
        data = transport.receive_nowait()
        headers = handshake.receive(data) if data is not None else None
    refusal = judge(headers)
    if refusal is not None:
        await _send_all(transport, handshake.refuse(*refusal))
        return None
    try:
        response, websocket, behind = handshake.accept()
    except RemoteProtocolError:
        await _send_all(transport, handshake.take_refusal())
        raise
    await _send_all(transport, response)
    return websocket, behind
