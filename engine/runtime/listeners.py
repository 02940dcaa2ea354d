"""Listening sockets: bound where the settings say, or a sentence that says why not."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import trio

from engine.errors import ConfigurationError

# Calls arrive in bursts; what does not fit waits a second for its next attempt (SYN retransmission).
BACKLOG = 1024

# An address of a name such as localhost may belong to a protocol that this machine does not run.
_UNUSABLE_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


async def open_listeners(host: str, port: int, *, reuse_port: bool = False) -> list[trio.SocketListener]:
    """Listen on every address of `host`.

    Args:
        host: A name or an address, IPv6 without brackets.
        port: The port; 0 takes any free one, the same for every address.
        reuse_port: Share the port with other processes that do the same (SO_REUSEPORT).

    Returns:
        At least one listener. The caller closes them.

    Raises:
        ConfigurationError: The name has no address, or none of its addresses can be used.
    """
    sockets = await bind_sockets(host, port, reuse_port=reuse_port)
    for sock in sockets:
        sock.listen(BACKLOG)
    return [trio.SocketListener(sock) for sock in sockets]


async def bind_sockets(host: str, port: int, *, reuse_port: bool = False) -> list[trio.socket.SocketType]:
    """Bind a TCP socket to every address of `host`, without listening yet; as `open_listeners` otherwise."""
    sockets: list[trio.socket.SocketType] = []
    try:
        for family, address in await _resolve(host, port):
            sock = await _bind(family, _with_port(address, sockets), reuse_port=reuse_port)
            if sock is not None:
                sockets.append(sock)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigurationError(
            [f"HOST and PORT cannot be listened on ({host} port {port}: {error.strerror}); free or change them."]
        ) from error
    return sockets


async def _resolve(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), tuple(address)) for family, _, _, _, address in found))


def _with_port(address: tuple[Any, ...], bound: list[trio.socket.SocketType]) -> tuple[Any, ...]:
    """Give every further address the port that the first one got, in case any free one was asked for."""
    if address[1] != 0 or not bound:
        return address
    return (address[0], bound[0].getsockname()[1], *address[2:])


async def _bind(family: int, address: tuple[Any, ...], *, reuse_port: bool) -> trio.socket.SocketType | None:
    """Bind one socket; None if this machine does not have the address."""
    try:
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in _UNUSABLE_ADDRESS:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(address)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno in _UNUSABLE_ADDRESS:
            return None
        raise
    return sock
