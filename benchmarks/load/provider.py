"""The provider's side: a listening socket, and one GA Realtime session for each call (protocols.md B.1 to B.4)."""

import json
import socket
import ssl
from collections.abc import Callable

from .figures import Figures
from .lanes import ANY_POSITION, Lane, Lanes, OnCounted
from .realtime_messages import RealtimeMessages
from .sockets import Connection, Loop
from .speech import Follower
from .voice import Voice
from .websocket import CLOSE, PING, PONG, TEXT, FrameReader, accept_value, server_frame

# A session whose engine asks for no response begins to speak by itself after this long.
_SILENCE_S = 0.3


class ProviderSession:
    """One provider socket.

    Attributes:
        on_ready: called with (now_s) when `session.updated` has been sent.
        on_audio: called with (now_s, decoded audio) for each append.
        on_first_delta: called with (now_s) when speech begins after silence.
        on_truncate: called with (now_s, item_id, audio_end_ms).
        on_closed: called once with (now_s) when the engine has closed.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        figures: Figures,
        *,
        audio: str,
        speaks: bool = True,
        strict: bool = False,
    ) -> None:
        self._loop, self._figures, self.connection = loop, figures, connection
        self._reader = FrameReader(masked=True, breach=figures.violation)
        self._messages = RealtimeMessages(audio, figures.violation, strict=strict)
        self._handshake: bytes | None = b""
        self._speaks = speaks
        self.voice: Voice | None = None
        self.configured = False
        self.closed = False
        # Counts silences, so that a delta scheduled before one is not sent after it.
        self._epoch = 0
        self._first_delta_due = False
        self.on_ready: Callable[[float], None] = lambda now: None
        self.on_audio: Callable[[float, bytes], None] = lambda now, audio: None
        self.on_first_delta: Callable[[float], None] = lambda now: None
        self.on_truncate: Callable[[float, str, int], None] = lambda now, item_id, end_ms: None
        self.on_closed: Callable[[float], None] = lambda now: None
        # Called with how many samples have been said.
        self.on_spoken: Callable[[int], None] = lambda produced: None
        connection.on_bytes = self._received
        connection.on_closed = self._broken

    def maybe_enter_lane(self, lanes: Lanes, origin: int, follower: Follower, on_counted: OnCounted) -> bool:
        """Let a lane count the caller's audio, unless a frame is half received."""
        if not self._reader.is_between_frames or self.closed:
            return False

        def sync(lane: Lane) -> None:
            lane.go_on(follower.position, self._messages.grant(), *self._messages.around)

        self.connection.enter_lane(
            lanes, masked=True, origin=origin, limit=ANY_POSITION, on_counted=on_counted, sync=sync
        )
        return True

    def send(self, *events: bytes) -> None:
        """Send events in one write, as a service that computes faster than it speaks does."""
        self.connection.send(b"".join([server_frame(event) for event in events]))

    def send_event(self, kind: str, **fields: object) -> None:
        """Send one event given by its fields."""
        self.send(json.dumps({"type": kind, "event_id": "event_load", **fields}).encode())

    def _received(self, data: bytes, now: float) -> None:
        if self._handshake is not None:
            data = self._requested(self._handshake + data)
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT:
                self._ordered(payload, now)
            elif opcode == PING:
                self.connection.send(server_frame(payload, PONG))
            elif opcode == CLOSE:
                self.connection.send(server_frame(payload[:2], CLOSE))
                self.connection.close()
                self._ended(now)
                return
            elif opcode != PONG:
                self._figures.violation("provider: binary frame", payload)

    def _requested(self, head: bytes) -> bytes:
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._handshake = head
            return b""
        self._handshake = None
        request, *lines = head[:end].split(b"\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if not request.startswith(b"GET /v1/realtime?") or b"model=" not in request:
            self._figures.violation("provider: wrong request line", request)
        if not headers.get(b"authorization", b"").startswith(b"Bearer ") or b"openai-beta" in headers:
            self._figures.violation("provider: headers without a bearer token, or of the beta", head[:end])
        upgrades = (
            headers.get(b"upgrade", b"").lower() == b"websocket" and headers.get(b"sec-websocket-version") == b"13"
        )
        if not upgrades or b"sec-websocket-key" not in headers:
            self._figures.violation("provider: no WebSocket upgrade", head[:end])
        accept = accept_value(headers.get(b"sec-websocket-key", b""))
        self.connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.send_event(
            "session.created", session={"type": "realtime", "object": "realtime.session", "id": "sess_load"}
        )
        return head[end + 4 :]

    def _ordered(self, payload: bytes, now: float) -> None:
        order = self._messages.read(payload)
        if order is None:
            self.send_event("error", error={"type": "invalid_request_error", "message": "refused", "code": None})
        elif isinstance(order, bytes):
            if not self.configured:
                self._figures.violation("provider: audio before session.update", payload)
            self.on_audio(now, order)
        elif order["type"] == "session.update":
            self._configure(order["session"], now)
        elif not self.configured:
            self._figures.violation("provider: event before session.update", payload)
        elif order["type"] == "conversation.item.truncate":
            self._truncate(str(order["item_id"]), order["audio_end_ms"], now)
        elif order["type"] == "response.create":
            self._create(now)
        elif order["type"] == "conversation.item.delete":
            self.send_event("conversation.item.deleted", item_id=order["item_id"])

    def _configure(self, session: object, now: float) -> None:
        self.send_event(
            "session.updated", session={"id": "sess_load", **(session if isinstance(session, dict) else {})}
        )
        if not self.configured:
            self.configured = True
            self.on_ready(now)
            self._loop.call_at(now + _SILENCE_S, self._begin_if_silent)

    def _begin_if_silent(self, now: float) -> None:
        if self._epoch == 0:
            self.begin(now)

    def _create(self, now: float) -> None:
        if self._epoch == 0:
            self.begin(now)
            return
        self._figures.notices["response.create while a response is active"] += 1
        code = "conversation_already_has_active_response"
        self.send_event("error", error={"type": "invalid_request_error", "code": code, "message": "active response"})

    def _truncate(self, item_id: str, end_ms: object, now: float) -> None:
        item = next((item for item in self.voice.items if item.item_id == item_id), None) if self.voice else None
        if item is None or not isinstance(end_ms, int):
            self._figures.violation("provider: truncate of an unknown item", item_id)
            self.send_event("error", error={"type": "invalid_request_error", "message": "no such item"})
        elif end_ms * 8 > item.end - item.start:
            example = f"{item_id}: {end_ms} ms of {(item.end - item.start) / 8:.1f}"
            self._figures.violation("provider: truncate beyond the item's audio", example)
            self.send_event("error", error={"type": "invalid_request_error", "message": "audio shorter than that"})
        else:
            self.send_event("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=end_ms)
            self.on_truncate(now, item_id, end_ms)

    def begin(self, now: float) -> None:
        """Speak after a silence."""
        if self.voice is None or self.closed or not self._speaks:
            return
        self._epoch += 1
        self._first_delta_due = True
        self.send(*self.voice.begin(now))
        self._speak(now, self._epoch)

    def _speak(self, now: float, epoch: int) -> None:
        if self.voice is None or self.closed or epoch != self._epoch or not self.voice.speaking:
            return
        if self._first_delta_due:
            self._first_delta_due = False
            self.on_first_delta(now)
        events, next_at = self.voice.speak(now)
        self.on_spoken(self.voice.produced)
        self.send(*events)
        self._loop.call_at(next_at, lambda later: self._speak(later, epoch))

    def interrupt(self, audio_start_ms: int, item_id: str) -> None:
        """The caller speaks: announce it and cancel the response."""
        if self.voice is None:
            return
        started = {"type": "input_audio_buffer.speech_started", "event_id": "event_load", "item_id": item_id}
        self.send(json.dumps({**started, "audio_start_ms": audio_start_ms}).encode(), *self.voice.interrupt())

    def end_speech(self, audio_end_ms: int, item_id: str) -> None:
        """The caller has finished: announce it and take the speech into the conversation."""
        item = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        item_shape = {**item, "content": [{"type": "input_audio", "transcript": None}]}
        self.send_event("input_audio_buffer.speech_stopped", audio_end_ms=audio_end_ms, item_id=item_id)
        self.send_event("input_audio_buffer.committed", previous_item_id=None, item_id=item_id)
        self.send_event("conversation.item.added", previous_item_id=None, item=item_shape)
        self.send_event("conversation.item.done", previous_item_id=None, item=item_shape)

    def _broken(self, now: float) -> None:
        self._figures.notices["provider sockets closed without a close frame"] += 1
        self._ended(now)

    def _ended(self, now: float) -> None:
        if not self.closed:
            self.closed = True
            self._figures.notices["frames with the masking key of the frame before"] += (
                self._reader.repeated_keys + self.connection.repeated_keys
            )
            self.on_closed(now)


class ProviderListener:
    """Accepts the engine's provider connections and hands each to whoever expects the next one."""

    def __init__(
        self,
        loop: Loop,
        figures: Figures,
        *,
        port: int,
        make_session: Callable[[Connection], ProviderSession],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop, self._figures, self._make_session, self._tls = loop, figures, make_session, tls
        self._sock = socket.create_server(("127.0.0.1", port), backlog=512)
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        self._expected: Callable[[ProviderSession], None] | None = None
        loop.watch(self._sock.fileno(), self._ready)

    def expect(self, taker: Callable[[ProviderSession], None]) -> None:
        """Give the next session to `taker`."""
        self._expected = taker

    def _ready(self, mask: int) -> None:
        accepted, _ = self._sock.accept()
        session = self._make_session(Connection(self._loop, accepted, tls=self._tls))
        taker, self._expected = self._expected, None
        if taker is None:
            self._figures.violation("provider: a connection that belongs to no call")
            session.connection.close()
        else:
            taker(session)

    def close(self) -> None:
        """Stop listening."""
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
