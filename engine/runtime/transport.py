"""Byte transports below a WebSocket: what can be done at once, and what can be waited for.

Owns non-blocking reads and writes of plain and TLS sockets, used directly because a socket wrapped for Trio costs more
than the frame it carries (``trio.SSLStream`` 20 times as much), and the same interface over any Trio stream for tests and
odd platforms. Always holds: no method without ``async`` waits; ``aclose`` is idempotent and wakes whoever waits.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, Protocol

import trio

RECEIVE_BYTES: Final = 65536


class Transport(Protocol):
    """A connected byte stream."""

    @property
    def fd(self) -> int | None:
        """The descriptor to watch for arrivals; None if there is none, so that the mover cannot be used."""
        ...

    @property
    def is_direct(self) -> bool:
        """Whether the descriptor can be read and written as it is; not so where bytes are encrypted on the way."""
        ...

    def receive_nowait(self) -> bytes | None:
        """Returns what has arrived, ``b""`` at the end of the stream, or None when nothing has.

        Raises:
            OSError: The connection is broken.
        """
        ...

    def send_nowait(self, data: bytes) -> int:
        """Sends as much of the data as goes at once, and returns how many bytes that was.

        If it was not all, the next call must begin with the very byte that did not go (TLS depends on it).

        Raises:
            OSError: The connection is broken.
        """
        ...

    async def wait_readable(self) -> None:
        """Waits until :meth:`receive_nowait` may have something."""
        ...

    async def send_some(self, data: bytes) -> int:
        """Waits until some of the data has gone, and returns how many bytes that was."""
        ...

    async def aclose(self) -> None:
        """Closes the connection without a goodbye, even when cancelled; a second call does nothing."""
        ...


class SocketTransport:
    """A connected plain socket, owned by this object from now on.

    Args:
        sock: Any connected stream socket; it is made non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # a frame waits for nobody
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock

    @property
    def fd(self) -> int | None:
        """The socket's descriptor."""
        return self._sock.fileno()

    @property
    def is_direct(self) -> bool:
        """It can."""
        return True

    def receive_nowait(self) -> bytes | None:
        """Receives at most 64 KiB; the rest stays readable."""
        try:
            return self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def send_nowait(self, data: bytes) -> int:
        """Sends what the socket's buffer takes."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_readable(self) -> None:
        """Waits on the socket."""
        await trio.lowlevel.wait_readable(self._sock)

    async def send_some(self, data: bytes) -> int:
        """Waits on the socket."""
        while not (sent := self.send_nowait(data)):
            await trio.lowlevel.wait_writable(self._sock)
        return sent

    async def aclose(self) -> None:
        """Closes the socket."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class TlsTransport:
    """A connected TLS socket, its handshake done; owned by this object from now on."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock

    @property
    def fd(self) -> int | None:
        """The socket's descriptor."""
        return self._sock.fileno()

    @property
    def is_direct(self) -> bool:
        """It cannot."""
        return False

    def receive_nowait(self) -> bytes | None:
        """Receives at most 64 KiB. TLS keeps nothing back that a watcher of the descriptor would not be told of."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < RECEIVE_BYTES:
                piece = self._sock.recv(RECEIVE_BYTES)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if not self._sock.pending():
                    break
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
            return b"".join(pieces) or None
        except ssl.SSLEOFError:
            pass
        return b"".join(pieces)

    def send_nowait(self, data: bytes) -> int:
        """Sends what goes."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return 0

    async def wait_readable(self) -> None:
        """Waits on the socket, unless TLS holds decrypted bytes."""
        if self._sock.pending():
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._sock)

    async def send_some(self, data: bytes) -> int:
        """Waits on the socket."""
        while not (sent := self.send_nowait(data)):
            await trio.lowlevel.wait_writable(self._sock)
        return sent

    async def aclose(self) -> None:
        """Closes the socket; a close frame has said goodbye already."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class StreamTransport:
    """Any Trio stream. Slower, and not for the mover: for tests on memory streams, and where nothing else fits."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        # what wait_readable received
        self._received: bytes | None = None

    @property
    def fd(self) -> int | None:
        """None."""
        return None

    @property
    def is_direct(self) -> bool:
        """It cannot."""
        return False

    def receive_nowait(self) -> bytes | None:
        """Returns what :meth:`wait_readable` received."""
        received, self._received = self._received, None
        return received

    def send_nowait(self, data: bytes) -> int:
        """Sends nothing: :meth:`send_some` does."""
        return 0

    async def wait_readable(self) -> None:
        """Receives."""
        if self._received is not None:
            await trio.lowlevel.checkpoint()
            return
        try:
            self._received = bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionResetError("stream broken") from error

    async def send_some(self, data: bytes) -> int:
        """Sends all of it."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BrokenPipeError("stream broken") from error
        return len(data)

    async def aclose(self) -> None:
        """Closes the stream at once."""
        await trio.aclose_forcefully(self._stream)
