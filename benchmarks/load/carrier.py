"""The carrier's side of one call: dials the media URL, speaks every 20 ms, plays what comes back, hangs up.

Message shapes: protocols.md A.2 and A.3.
"""

import base64
import hashlib
import hmac
import json
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .carrier_messages import CarrierMessages, Clear, Mark
from .figures import Figures
from .lanes import Lane, Lanes, OnCounted
from .network import DelayLine, Network
from .playout import Playout
from .sockets import Connection, Loop
from .speech import Follower, Tape
from .websocket import CLOSE, PING, PONG, TEXT, ClientFrames, FrameReader, accept_value


@dataclass(frozen=True, kw_only=True)
class MediaUrl:
    """Where the media socket is, and how its handshake is signed."""

    host: str
    port: int
    path: str
    signed_url: str
    auth_token: str | None

    def signature_header(self) -> str:
        """The `X-Twilio-Signature` line of the handshake, or nothing (protocols.md A.7)."""
        if self.auth_token is None:
            return ""
        digest = hmac.new(self.auth_token.encode(), self.signed_url.encode(), hashlib.sha1).digest()
        return f"X-Twilio-Signature: {base64.b64encode(digest).decode()}\r\n"


class Carrier:
    """One simulated telephone call's media stream.

    Attributes:
        on_media: called with (now_s, mu-law) for audio, before it is played; gives its position in samples.
        on_played: called with (now_s, position, samples, dry_s) once it is in the playout buffer.
        on_clear: called with (now_s) while the playout buffer still holds what the clear drops.
        sent_at: monotonic time of each caller frame sent.
    """

    def __init__(
        self,
        *,
        number: int,
        loop: Loop,
        figures: Figures,
        tape: Tape,
        parameters: dict[str, str],
        network: Network | None = None,
        strict: bool = False,
    ) -> None:
        self._loop, self._figures, self._tape = loop, figures, tape
        self.stream_sid = f"MZ{number:032x}"
        self.call_sid = f"CA{number:032x}"
        self._account_sid = f"AC{0:032x}"
        self._parameters = parameters
        self.origin = tape.origin(2 * number)
        self._frames = ClientFrames(bytes((0x37, 0xFA, 0x21, 0x3D)))
        self._reader = FrameReader(masked=False, breach=figures.violation)
        self._messages = CarrierMessages(self.stream_sid, figures.violation, strict=strict)
        self._handshake: bytes | None = b""
        self._key = base64.b64encode(number.to_bytes(16, "big"))
        self._sequence = 1
        self.playout = Playout()
        self.sent_at: array[float] = array("d")
        self.open = False
        self.hung_up_at: float | None = None
        self.on_media: Callable[[float, bytes], int] = lambda now, ulaw: 0
        self.on_played: Callable[[float, int, int, float], None] = lambda now, position, samples, dry_s: None
        self.on_clear: Callable[[float], None] = lambda now: None
        self.connection: Connection | None = None
        self._network = network or Network()
        self._number = number
        # Puts bytes on their way to the engine.
        self._put: Callable[[bytes], None] = lambda data: None

    def dial(self, url: MediaUrl) -> None:
        """Open the media socket; `open` becomes true when it stands and `start` has been sent."""
        self.connection = Connection.connect(self._loop, url.host, url.port)
        self._lay_line(self.connection)
        self.connection.on_closed = self._closed
        request = (
            f"GET {url.path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\nSec-WebSocket-Version: 13\r\n{url.signature_header()}\r\n"
        )
        self._put(request.encode())

    def _lay_line(self, connection: Connection) -> None:
        """Join the connection to this call, through the network's delay if there is any."""
        if self._network.worst_s == 0:
            connection.on_bytes, self._put = self._received, connection.send
            return
        random = Random(self._number)
        inbound = DelayLine(self._loop, self._network, random, self._received)
        outbound = DelayLine(self._loop, self._network, random, lambda data, now: connection.send(data))
        connection.on_bytes = inbound.put
        self._put = lambda data: outbound.put(data, time.monotonic())

    def maybe_enter_lane(
        self, lanes: Lanes, origin: int, follower: Follower, on_counted: OnCounted, *, limit: int
    ) -> Lane | None:
        """Let a lane count the provider's audio, unless a frame is half received; gives the lane."""
        if not self._reader.is_between_frames or not self.open or self.connection is None:
            return None

        def sync(lane: Lane) -> None:
            lane.go_on(follower.position, self._messages.grant(), *self._messages.around)

        return self.connection.enter_lane(
            lanes, masked=False, origin=origin, limit=limit, on_counted=on_counted, sync=sync
        )

    def _closed(self, now: float) -> None:
        if self.hung_up_at is None:
            self._figures.counts["carrier sockets closed by the engine"] += 1
        self.open = False

    def _received(self, data: bytes, now: float) -> None:
        if self._handshake is not None:
            data = self._answered(self._handshake + data)
        messages = self._reader.feed(data)
        figures = self._figures
        if figures.measuring:
            figures.carrier_messages += len(messages)
            figures.carrier_bytes += len(data)
        for opcode, payload in messages:
            if opcode == TEXT:
                self._ordered(payload, now)
            elif opcode == PING:
                self._send(payload, PONG)
            elif opcode == CLOSE:
                self._close_received(payload)
            else:
                self._figures.violation("carrier: binary or stray frame", payload)

    def _answered(self, head: bytes) -> bytes:
        """Check the handshake's answer once it is whole; gives what follows it."""
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._handshake = head
            return b""
        self._handshake = None
        status, *lines = head[:end].split(b"\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if not status.startswith(b"HTTP/1.1 101") or headers.get(b"sec-websocket-accept") != accept_value(self._key):
            self._figures.violation("carrier: handshake refused", head[:end])
            return b""
        if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
            self._figures.violation("carrier: handshake agrees to what was not offered", head[:end])
        self._start()
        return head[end + 4 :]

    def _start(self) -> None:
        self._send(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        body = {
            "accountSid": self._account_sid,
            "streamSid": self.stream_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        start = {"event": "start", "sequenceNumber": "1", "start": body, "streamSid": self.stream_sid}
        self._send(json.dumps(start, separators=(",", ":")).encode())
        self.open = True

    def _send(self, payload: bytes, opcode: int = TEXT) -> None:
        self._put(self._frames.build(payload, opcode))

    def speak(self, now: float) -> None:
        """Send the next 20 ms of the caller's speech."""
        if not self.open:
            return
        frame = len(self.sent_at)
        self._sequence += 1
        text = (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"inbound","chunk":"{frame + 1}",'
            f'"timestamp":"{frame * 20}","payload":"{self._tape.frame_base64(self.origin, frame)}"}},'
            f'"streamSid":"{self.stream_sid}"}}'
        )
        self.sent_at.append(now)
        self._put(self._frames.build(text.encode()))

    def _ordered(self, payload: bytes, now: float) -> None:
        if self.hung_up_at is not None:
            return
        order = self._messages.read(payload)
        if type(order) is bytes:
            position, samples = self.on_media(now, order), len(order)
            self.on_played(now, position, samples, self.playout.add(now, position, samples))
        elif isinstance(order, Clear):
            self.on_clear(now)
            self._return_marks(self.playout.clear(now))
        elif isinstance(order, Mark):
            due = self.playout.mark(now, order.name)
            if due <= now:
                self._marks_due(now)
            else:
                self._loop.call_at(due, self._marks_due)

    def _marks_due(self, now: float) -> None:
        self._return_marks(self.playout.due_marks(now))

    def _return_marks(self, names: list[str]) -> None:
        for name in names:
            self._sequence += 1
            mark = {
                "event": "mark",
                "sequenceNumber": str(self._sequence),
                "streamSid": self.stream_sid,
                "mark": {"name": name},
            }
            self._send(json.dumps(mark, separators=(",", ":")).encode())

    def hang_up(self, now: float) -> None:
        """End the call as the carrier does when the caller hangs up: `stop`, then the closing handshake."""
        self.hung_up_at = now
        self._sequence += 1
        stop = {
            "event": "stop",
            "sequenceNumber": str(self._sequence),
            "stop": {"accountSid": self._account_sid, "callSid": self.call_sid},
            "streamSid": self.stream_sid,
        }
        self._send(json.dumps(stop, separators=(",", ":")).encode())
        self._send((1000).to_bytes(2, "big"), CLOSE)
        self.open = False

    def _close_received(self, payload: bytes) -> None:
        if self.hung_up_at is None:
            self._figures.counts["carrier sockets closed by the engine"] += 1
            self._send(payload[:2], CLOSE)
        self.open = False

    def release(self) -> None:
        """Close the socket, whatever its state."""
        if self.connection is not None:
            if self.connection.overflowed:
                self._figures.counts["calls whose audio the engine did not read"] += 1
            self.connection.close()
