"""A caller's ear: a socket that keeps what is sent to it, with the kernel's time of each arrival, and is read afterwards.

Nothing runs while frames are measured, so listening costs the sender nothing. A datagram socket keeps one send apart from
the next; what it holds bounds how long a call can be measured.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

_SO_TIMESTAMPNS: Final = 35  # Linux, asm-generic/socket.h
_TIMESPEC: Final = struct.Struct("qq")
_CONTROL_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_LARGEST_BYTES: Final = 1 << 18
_BUFFER_BYTES: Final = 4 << 20


class Ear:
    """One call's receiving end; `mouth` is what the sender writes to."""

    def __init__(self) -> None:
        self.mouth, self._ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.mouth, self._ear):
            end.setblocking(False)
        self.mouth.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._ear.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._wall_ahead_s = time.time() - time.monotonic()
        self._began_at = time.monotonic()

    def read(self) -> list[tuple[float, int]]:
        """Everything that arrived: (monotonic time in seconds, bytes) of each send, in order."""
        ended_at, ahead_s = time.monotonic(), time.time() - time.monotonic()
        # the wall clock may have been slewed meanwhile
        drift = (ahead_s - self._wall_ahead_s) / max(ended_at - self._began_at, 1e-9)
        found: list[tuple[float, int]] = []
        while True:
            try:
                data, stamps, _, _ = self._ear.recvmsg(_LARGEST_BYTES, _CONTROL_BYTES)
            except BlockingIOError:
                return found
            seconds, nanoseconds = _TIMESPEC.unpack(stamps[0][2])
            about = seconds + nanoseconds * 1e-9 - self._wall_ahead_s
            found.append((about - drift * (about - self._began_at), len(data)))

    def close(self) -> None:
        """Close both ends."""
        self.mouth.close()
        self._ear.close()
