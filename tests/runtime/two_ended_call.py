"""A real call with the real OpenAI provider, and both of its peers in the test's hand, byte by byte.

Real sockets, virtual time that stands still but for the steps of a script: what the peers see depends on nothing but what
they send. The same script can be played with the mover's C pass at work, on arrivals or on the grid, and without it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import trio
import trio.testing
from raw_frames import MASK, text_frame

from engine.runtime.call import Call
from engine.runtime.clock import SleepingClock
from engine.runtime.link import Link
from engine.runtime.mover import Mover
from engine.runtime.openai_provider import OpenAIProvider
from engine.runtime.transport import SocketTransport
from engine.settings import Settings
from engine.wire.websocket import ClientHandshake, Closed, ServerHandshake, Text, WebSocket

SID = "MZ" + "0" * 32
STEP_S = 0.001


def start_message(stream_sid: str) -> dict[str, Any]:
    """Twilio's start of a stream."""
    identity = {"accountSid": "ACxxxxxxxx", "streamSid": stream_sid, "callSid": "CAxxxxxxxx", "tracks": ["inbound"]}
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = {**identity, "mediaFormat": media_format}
    return {"event": "start", "sequenceNumber": "1", "streamSid": stream_sid, "start": start}


Side: TypeAlias = Literal["carrier", "provider"]
Way: TypeAlias = Literal["slow", "arrivals", "grid"]


@dataclass(frozen=True)
class Send:
    """Bytes that arrive from one side in one piece.

    The library takes a piece as a whole: what ends the connection takes effect before the messages in front of it are looked
    at. The pass goes frame by frame. So the slow way, which is the measure, gets a piece cut at ``frame_ends``.
    """

    side: Side
    data: bytes
    frame_ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pass:
    """Time that passes, five milliseconds at a time."""

    ms: int


Step: TypeAlias = Send | Pass


@dataclass
class Outcome:
    """What a call did, as far as it must not depend on the way its bytes took.

    Attributes:
        to_provider: The messages that reached the provider, in order.
        to_carrier: The messages that reached the carrier, in order.
        provider_closed: How the provider's side saw the connection end.
        carrier_closed: Likewise for the carrier's.
        figures: The call's own account.
        carried: Media messages that Python never saw.
    """

    to_provider: list[str] = field(default_factory=list)
    to_carrier: list[str] = field(default_factory=list)
    provider_closed: int | None = None
    carrier_closed: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    carried: int = 0

    def appended(self) -> list[str]:
        """The base64 of each piece of audio that reached the provider."""
        events = [json.loads(text) for text in self.to_provider]
        return [event["audio"] for event in events if event["type"] == "input_audio_buffer.append"]


class Peer:
    """One end of a connection in the test's hand."""

    def __init__(self, sock: socket.socket, websocket: WebSocket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._websocket = websocket
        self.texts: list[str] = []
        self.closed: int | None = None

    def send(self, data: bytes) -> None:
        with suppress(
            BlockingIOError, BrokenPipeError, ConnectionResetError
        ):  # the engine has closed, or does not read
            assert self._sock.send(data) == len(data)

    def receive(self) -> None:
        """Takes what has arrived."""
        with suppress(BlockingIOError, ConnectionResetError):
            while data := self._sock.recv(65536):
                self._take(data)

    def shut_down(self) -> None:
        """Ends this side."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def _take(self, data: bytes) -> None:
        for message in self._websocket.receive(data):
            if isinstance(message, Text):
                self.texts.append(message.data)
            elif isinstance(message, Closed):
                self.closed = message.code


class _Rig:
    def __init__(self, way: Way, settings: Settings, resources: ExitStack) -> None:
        self._way = way
        self._settings = settings
        self._resources = resources
        self.mover = Mover(SleepingClock())
        if way == "slow":
            self.mover._close()  # it still rings alarms, and links read by themselves
        elif way == "grid":
            self.mover._on_grid = True
            self.mover._arm(0)
        self.carrier = self._open_carrier()
        self.provider: Peer | None = None

    def _open_carrier(self) -> Peer:
        ours, theirs = socket.socketpair()
        self._resources.enter_context(theirs)
        client, server = ClientHandshake("ws://engine.test/media-stream"), ServerHandshake()
        server.receive(client.request())
        answer, accepted, _ = server.accept()
        opened = client.receive(answer)
        assert opened is not None
        link = Link(SocketTransport(ours), accepted, trio.current_time, name="Twilio")
        self.call = Call(link, self._settings, self.mover, lambda port: OpenAIProvider(port, self._settings, {}))
        return Peer(theirs, opened[0])

    async def settle(self) -> None:
        """Waits until the engine has dealt with all that was sent, and takes what it answers; no time passes."""
        if self._way == "grid":
            self.mover._arm(trio.current_time())
        await trio.testing.wait_all_tasks_blocked()
        self.receive()

    async def step(self, seconds: float = STEP_S) -> None:
        """Lets time pass."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)
        self.mover._arm(trio.current_time())  # what is due but for the dust of sums leaves on every way
        await self.settle()

    def receive(self) -> None:
        self.carrier.receive()
        if self.provider is not None:
            self.provider.receive()

    def shut_down(self) -> None:
        self.carrier.shut_down()
        if self.provider is not None:
            self.provider.shut_down()

    async def run_call(self, ended: trio.Event) -> None:
        await self.call.run()
        ended.set()

    async def accept_provider(self, listener: socket.socket) -> None:
        await trio.lowlevel.wait_readable(listener)
        sock, _ = listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # virtual time waits for no acknowledgement
        self._resources.enter_context(sock)
        handshake = ServerHandshake(4 * 1024 * 1024)
        headers = None
        while headers is None:
            await trio.lowlevel.wait_readable(sock)
            headers = handshake.receive(sock.recv(65536))
        answer, websocket, _ = handshake.accept()
        sock.send(answer)
        self.provider = Peer(sock, websocket)

    async def set_up(self, listener: socket.socket, stream_sid: str) -> None:
        """Starts the stream, and the session."""
        await self.settle()
        self.carrier.send(text_frame(json.dumps(start_message(stream_sid)), MASK))
        await self.settle()
        await self.accept_provider(listener)
        assert self.provider is not None
        for event in ("session.created", "session.updated"):
            self.provider.send(text_frame(json.dumps({"type": event, "session": {"id": "sess_1"}}), None))
            await self.settle()
        assert json.loads(self.provider.texts[0])["type"] == "session.update", self.provider.texts

    async def play(self, script: Sequence[Step]) -> None:
        for step in script:
            if isinstance(step, Pass):
                for _ in range(step.ms // 5):
                    await self.step(0.005)
                continue
            await self.step()  # what is due leaves before anything arrives, so that their order is no matter of chance
            peer = self.carrier if step.side == "carrier" else self.provider
            assert peer is not None
            cuts = [0, *(step.frame_ends if self._way == "slow" else ()), len(step.data)]
            for begin, end in pairwise(cuts):
                peer.send(step.data[begin:end])
                await self.settle()

    def outcome(self) -> Outcome:
        assert self.provider is not None
        figures = self.call.figures()
        carried = self.call._media_carried
        return Outcome(
            self.provider.texts, self.carrier.texts, self.provider.closed, self.carrier.closed, figures, carried
        )


async def hold_call(way: Way, script: Sequence[Step], stream_sid: str, settings: dict[str, Any]) -> Outcome:
    """Holds a call from the session's beginning to the end of the script, then lets both peers see it end."""
    with ExitStack() as resources:
        listener = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        rig = _Rig(way, Settings(provider="openai", openai_realtime_url=url, openai_api_key="", **settings), resources)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.mover.run)
            call_ended = trio.Event()
            nursery.start_soon(rig.run_call, call_ended)
            try:
                await rig.set_up(listener, stream_sid)
                await rig.play(script)
                rig.call.end("the script is over")
                await rig.settle()
            finally:
                rig.shut_down()  # so that nobody waits for goodbyes
            await call_ended.wait()
            rig.receive()
            nursery.cancel_scope.cancel()
        return rig.outcome()


def play(way: Way, script: Sequence[Step], *, stream_sid: str = SID, **settings: Any) -> Outcome:
    """The same in a run of its own, on a clock that moves only as the script says."""
    return trio.run(hold_call, way, script, stream_sid, settings, clock=trio.testing.MockClock())
