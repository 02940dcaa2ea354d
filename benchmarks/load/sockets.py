"""One epoll loop with timers, and the non-blocking connections it serves.

Everything runs in one thread; a callback must not block. Timers keep absolute times. The wait is a `select` on the
epoll descriptor, since epoll's own timeout rounds up to whole milliseconds and would make every frame late.

The time that comes with received bytes is the kernel's, taken when the last of them reached the socket (SO_TIMESTAMPNS,
socket(7)): it does not depend on when this process came round to them. So many calls can be served in turns a
millisecond apart, `next_turn_at`, at half the cost of waking for each arrival and no loss of accuracy.
"""

import heapq
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from .lanes import Lane, Lanes

# Python allocates so much for every call: enough for a burst of frames, little enough for its small allocator's cache.
_RECEIVE_BYTES = 16384
_EVENTS_PER_TURN = 1024
# A peer that leaves this much unread has stopped reading.
_OUTBOX_LIMIT_BYTES = 1 << 20
# Linux, asm-generic/socket.h; Python's socket module does not name it. The control message holds seconds and nanoseconds.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_CONTROL_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
# What a socket raises instead of waiting, plain or TLS.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Loop:
    """Calls handlers of ready descriptors and timers that are due; single-threaded."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._stopped = False
        # If set, arrivals are looked at no sooner; whoever sets it moves it on each time.
        self.next_turn_at: float | None = None
        # Carries most of the audio, if set; needs `next_turn_at`, as nothing wakes the loop for a lane.
        self.lanes: Lanes | None = None
        # What the wall clock, which the kernel stamps arrivals with, is ahead of the monotonic clock.
        self._wall_ahead_s = time.time() - time.monotonic()

    def arrived_at(self, stamp: bytes) -> float:
        """Monotonic time of a kernel's time stamp, never in the future."""
        seconds, nanoseconds = _TIMESPEC.unpack(stamp)
        stamped_at: float = seconds + nanoseconds * 1e-9 - self._wall_ahead_s
        return min(stamped_at, time.monotonic())

    def call_at(self, when_s: float, callback: Callable[[float], None]) -> None:
        """Call `callback(now_s)` at an absolute monotonic time."""
        self._order += 1
        heapq.heappush(self._timers, (when_s, self._order, callback))

    def watch(
        self, descriptor: int, handler: Callable[[int], None], *, readable: bool = True, writable: bool = False
    ) -> None:
        """Call `handler(mask)` whenever the descriptor is ready."""
        mask = (select.EPOLLIN if readable else 0) | (select.EPOLLOUT if writable else 0)
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
        self._handlers[descriptor] = handler

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; must be called before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def stop(self) -> None:
        """End `run` after the present turn."""
        self._stopped = True

    def run(self) -> None:
        """Serve until `stop`."""
        self._stopped = False
        timers, handlers = self._timers, self._handlers
        descriptor = self._epoll.fileno()
        while not self._stopped:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                heapq.heappop(timers)[2](now)
                now = time.monotonic()
            ready = self._epoll.poll(0, _EVENTS_PER_TURN)
            self._wall_ahead_s = time.time() - time.monotonic()
            for ready_descriptor, mask in ready:
                handler = handlers.get(ready_descriptor)
                if handler is not None:
                    handler(mask)
            if self.lanes is not None:
                self.lanes.turn(self._wall_ahead_s)
            if self._stopped or len(ready) == _EVENTS_PER_TURN:
                continue
            if self.next_turn_at is not None:
                time.sleep(max(0.0, self.next_turn_at - time.monotonic()))
            elif not ready:
                wait = timers[0][0] - time.monotonic() if timers else 1.0
                if wait > 0:
                    select.select((descriptor,), (), (), wait)

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()


class Connection:
    """A connected or connecting non-blocking TCP socket; with `tls`, a server's, wrapped in it.

    Attributes:
        on_bytes: called with (data, arrived_s): monotonic time at which the last byte reached this machine's socket.
        on_closed: called with now_s once, when the peer closed or the connection broke; not for our own `close`.
    """

    def __init__(self, loop: Loop, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._loop, self._sock = loop, sock
        self._tls = tls is not None
        self._shaking_hands = tls is not None
        self._outbox = bytearray()
        self._lane: Lane | None = None
        # Masking keys that followed themselves, on the lane.
        self.repeated_keys = 0
        self.closed = False
        self.overflowed = False
        self.on_bytes: Callable[[bytes, float], None] = lambda data, now: None
        self.on_closed: Callable[[float], None] = lambda now: None
        loop.watch(sock.fileno(), self._ready)

    @classmethod
    def connect(cls, loop: Loop, host: str, port: int) -> "Connection":
        """Begin connecting; what is sent meanwhile waits in the outbox."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((host, port))
        return cls(loop, sock)

    def enter_lane(self, lanes: Lanes, **lane: Any) -> Lane:
        """From now on, audio is counted on a lane (`Lanes.open`); the rest still comes by `on_bytes`, whole frames."""
        self._loop.unwatch(self._sock.fileno())
        self._lane = lanes.open(
            self._sock.fileno(),
            on_raw=lambda data, now: self.on_bytes(data, now),  # noqa: PLW0108  on_bytes may change
            on_closed=lambda now: self._broke(),
            **lane,
        )
        return self._lane

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, the rest when it can."""
        if self.closed:
            return
        if self._outbox:
            self._enqueue(data)
            return
        try:
            sent = self._sock.send(data)
        except _NOT_NOW:
            sent = 0
        except OSError:
            self._broke()
            return
        if sent < len(data):
            self._enqueue(data[sent:])

    def _enqueue(self, data: bytes) -> None:
        if len(self._outbox) > _OUTBOX_LIMIT_BYTES:
            self.overflowed = True
            return
        self._outbox += data
        self._loop.watch(self._sock.fileno(), self._ready, readable=self._lane is None, writable=True)

    def _ready(self, mask: int) -> None:
        if self._shaking_hands:
            self._shake_hands()
            return
        if mask & select.EPOLLOUT:
            self._flush()
        if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not self.closed and self._lane is None:
            try:
                if self._tls:
                    data, stamps = self._receive_tls()
                else:
                    data, stamps, _, _ = self._sock.recvmsg(_RECEIVE_BYTES, _CONTROL_BYTES)
            except _NOT_NOW:
                return
            except OSError:
                data, stamps = b"", []
            if data:
                # The first bytes of all may have come before the kernel began to stamp.
                self.on_bytes(data, self._loop.arrived_at(stamps[0][2]) if stamps else time.monotonic())
            else:
                self._broke()

    def _receive_tls(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """What has arrived, and the control message with its time stamp."""
        # TLS hides the socket's own messages: look at the stamp first, under the TLS layer. Decrypted bytes may wait
        # above an empty socket.
        try:
            _, stamps, _, _ = socket.socket.recvmsg(self._sock, _RECEIVE_BYTES, _CONTROL_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            stamps = []
        return self._sock.recv(_RECEIVE_BYTES), stamps

    def _shake_hands(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._loop.watch(self._sock.fileno(), self._ready, writable=True)
            return
        except OSError:
            self._broke()
            return
        self._shaking_hands = False
        self._loop.watch(self._sock.fileno(), self._ready, writable=bool(self._outbox))

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._outbox)
        except _NOT_NOW:
            return
        except OSError:
            self._broke()
            return
        del self._outbox[:sent]
        if not self._outbox and self._lane is not None:
            self._loop.unwatch(self._sock.fileno())
        elif not self._outbox:
            self._loop.watch(self._sock.fileno(), self._ready)

    def _broke(self) -> None:
        if not self.closed:
            self.close()
            self.on_closed(time.monotonic())

    def close(self) -> None:
        """Close at once; idempotent."""
        if not self.closed:
            self.closed = True
            if self._lane is not None and self._loop.lanes is not None:
                self.repeated_keys = self._lane.repeated_keys()
                self._loop.lanes.forget(self._lane)
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
