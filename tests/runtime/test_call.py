"""A call on memory streams and virtual time: an hour of it takes a moment."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from engine.errors import ProviderError
from engine.runtime.call import Call
from engine.runtime.clock import open_clock
from engine.runtime.echo_provider import EchoProvider
from engine.runtime.handshake import accept
from engine.runtime.mover import Mover
from engine.runtime.provider import CallPort, MakeProvider, Provider
from engine.runtime.transport import StreamTransport
from engine.settings import Settings

SID = "MZ" + "0" * 32
LOUD = bytes([0x80, 0x00] * 80)  # 20 ms that no detector takes for silence
SILENT = b"\xff" * 160
CALL = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": SID,
    "start": {
        "accountSid": "ACxxxxxxxx",
        "streamSid": SID,
        "callSid": "CAxxxxxxxx",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"from": "+15005550100"},
    },
}


class Caller:
    """Twilio's end of the stream."""

    def __init__(self, socket: WebSocketConnection, call: Call) -> None:
        self.socket = socket
        self.call = call
        # (virtual time, message) of everything that came
        self.received: list[tuple[float, dict[str, Any]]] = []
        self.closed: ConnectionClosed | None = None
        self._at_ms = 0

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps(message))

    async def say(self, ulaw: bytes) -> None:
        """Sends audio, and lets its time pass."""
        media = {"track": "inbound", "timestamp": str(self._at_ms), "payload": base64.b64encode(ulaw).decode()}
        await self.send({"event": "media", "streamSid": SID, "media": media})
        self._at_ms += len(ulaw) // 8
        await trio.sleep(len(ulaw) / 8000)

    async def listen(self) -> None:
        """Notes what comes, and returns marks at once, until the socket closes."""
        try:
            while True:
                message = json.loads(await self.socket.get_message())
                self.received.append((trio.current_time(), message))
                if message["event"] == "mark":
                    await self.send({"event": "mark", "streamSid": SID, "mark": message["mark"]})
        except ConnectionClosed as closed:
            self.closed = closed

    def times_of(self, event: str) -> list[float]:
        return [at for at, message in self.received if message["event"] == event]


@contextmanager
def opened_mover() -> Iterator[Mover]:
    clock = open_clock()
    try:
        yield Mover(clock)
    finally:
        clock.close()


@asynccontextmanager
async def calling(make_provider: MakeProvider = EchoProvider, **settings: Any) -> AsyncIterator[Caller]:
    """Holds a call; leaving the block waits for its end."""
    ours, theirs = memory_stream_pair()
    with trio.fail_after(7200), opened_mover() as mover:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.run)
            opened: list[Call] = []

            async def hold() -> None:
                link = await accept(StreamTransport(ours), lambda _: None, now=mover.clock.now, name="Twilio")
                assert link is not None
                opened.append(Call(link, Settings(**settings), mover, make_provider))
                await opened[0].run()

            async with trio.open_nursery() as tasks:
                tasks.start_soon(hold)
                socket = await wrap_client_stream(tasks, theirs, "engine", "/media-stream")
                caller = Caller(socket, opened[0])
                tasks.start_soon(caller.listen)
                yield caller
            nursery.cancel_scope.cancel()


async def test_echo_plays_the_caller_back_frame_by_frame(autojump_clock: MockClock) -> None:
    async with calling() as caller:
        await caller.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await caller.send(CALL)
        for _ in range(100):
            await caller.say(LOUD)
        for _ in range(200):
            await caller.say(SILENT)
        await caller.send({"event": "stop", "streamSid": SID, "stop": {}})
    times = caller.times_of("media")
    echoed = b"".join(base64.b64decode(m["media"]["payload"]) for _, m in caller.received if m["event"] == "media")
    assert LOUD * 100 in echoed
    # the lead leaves at once (200 ms and the frame that is due), the rest one frame every 20 ms
    lead = [at for at in times if at < times[0] + 0.001]
    assert len(lead) == 11
    assert [round(later - earlier, 6) for earlier, later in pairwise(times[10:])] == [0.02] * (len(times) - 11)
    assert caller.call.end_reason == "hung up"
    assert caller.call.figures()["provider"]["phrases"] == 1


async def test_an_hour_of_talk_keeps_every_account(autojump_clock: MockClock) -> None:
    async with calling() as caller:
        await caller.send(CALL)
        for _ in range(3600 // 4):
            await caller.say(LOUD * 50)
            await caller.say(SILENT * 150)
        await caller.send({"event": "stop", "streamSid": SID, "stop": {}})
    figures = caller.call.figures()
    assert figures["provider"]["phrases"] == 900
    assert figures["provider"]["interruptions"] == 0
    assert figures["hearing"] == {"gaps": 0, "repaired_ms": 0, "skipped_ms": 0, "overlaps": 0}
    assert figures["pacer"]["underruns"] == 0
    assert figures["ledger"]["marks_sent"] == figures["ledger"]["marks_played"]
    assert figures["ledger"]["marks_unknown"] == 0
    assert figures["ledger"]["heard_bytes"] >= 900 * len(LOUD) * 50
    assert figures["late_ms_worst"] < 2


async def test_a_stream_that_never_starts_is_closed_after_five_seconds(autojump_clock: MockClock) -> None:
    async with calling() as caller:
        await caller.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
    assert caller.call.end_reason == "no start within 5 s"
    assert 5.0 <= trio.current_time() < 6.0
    assert caller.closed is not None
    assert caller.closed.reason.code == 1002


async def test_a_stream_without_audio_is_closed_after_five_seconds(autojump_clock: MockClock) -> None:
    async with calling() as caller:
        await caller.send(CALL)
        for _ in range(500):
            await caller.say(SILENT)
    assert caller.call.end_reason == "no audio from Twilio for 5 s"
    assert 14.9 < trio.current_time() < 16.0


async def test_another_media_format_is_refused(autojump_clock: MockClock) -> None:
    pcm = {"encoding": "audio/l16", "sampleRate": 16000, "channels": 1}
    async with calling() as caller:
        await caller.send({**CALL, "start": {**CALL["start"], "mediaFormat": pcm}})  # type: ignore[dict-item]
    assert "media format not supported" in caller.call.end_reason
    assert caller.closed is not None
    assert caller.closed.reason.code == 1003


async def test_malformed_messages_are_counted_and_the_call_goes_on(autojump_clock: MockClock) -> None:
    async with calling() as caller:
        await caller.send(CALL)
        await caller.socket.send_message("{")
        await caller.socket.send_message(b"\x00")
        await caller.send({"event": "tomorrow", "streamSid": SID})
        await caller.say(SILENT)
        await caller.send({"event": "stop", "streamSid": SID, "stop": {}})
    figures = caller.call.figures()
    assert (figures["malformed"], figures["unrecognised"], figures["media_received"]) == (2, 1, 1)
    assert figures["reason"] == "hung up"


class Listener:
    """A provider that notes what it is given, and does what a test tells it."""

    def __init__(self, port: CallPort) -> None:
        self.port = port
        self.heard = bytearray()
        self.keys: list[tuple[float, str]] = []

    def hear(self, payload: str, ulaw: bytes) -> None:
        assert base64.b64decode(payload) == ulaw
        self.heard += ulaw

    def keys_pressed(self, digits: str) -> None:
        self.keys.append((trio.current_time(), digits))

    async def run(self) -> None:
        await trio.sleep_forever()

    def figures(self) -> dict[str, Any]:
        return {}


async def test_gaps_in_the_timestamps_are_heard_as_silence(autojump_clock: MockClock) -> None:
    made: list[Listener] = []

    def make(port: CallPort) -> Provider:
        made.append(Listener(port))
        return made[0]

    async with calling(make) as caller:
        await caller.send(CALL)
        await caller.say(LOUD)
        caller._at_ms += 60
        await caller.say(LOUD)
        await caller.send({"event": "stop", "streamSid": SID, "stop": {}})
    assert bytes(made[0].heard) == LOUD + b"\xff" * 480 + LOUD


async def test_keys_pressed_in_one_go_arrive_together(autojump_clock: MockClock) -> None:
    made: list[Listener] = []

    def make(port: CallPort) -> Provider:
        made.append(Listener(port))
        return made[0]

    async with calling(make) as caller:
        await caller.send(CALL)
        for digit in "12":
            await caller.send({"event": "dtmf", "streamSid": SID, "dtmf": {"track": "inbound_track", "digit": digit}})
            await caller.say(SILENT * 50)
        await caller.say(SILENT * 100)
        await caller.send({"event": "dtmf", "streamSid": SID, "dtmf": {"track": "inbound_track", "digit": "#"}})
        await caller.say(SILENT)
        await caller.send({"event": "stop", "streamSid": SID, "stop": {}})
    assert [digits for _, digits in made[0].keys] == ["12", "#"]


class Failing(Listener):
    """A provider that gives up, or has a bug."""

    def __init__(self, port: CallPort, error: Exception, *, when_heard: bool) -> None:
        super().__init__(port)
        self.error = error
        self.when_heard = when_heard

    def hear(self, payload: str, ulaw: bytes) -> None:
        if self.when_heard:
            raise self.error

    async def run(self) -> None:
        if self.when_heard:
            await trio.sleep_forever()
        raise self.error


async def test_a_provider_that_gives_up_ends_the_call_with_its_reason(autojump_clock: MockClock) -> None:
    async with calling(lambda port: Failing(port, ProviderError("no credit"), when_heard=False)) as caller:
        await caller.send(CALL)
    assert caller.call.end_reason == "provider failed: no credit"
    assert caller.closed is not None
    assert caller.closed.reason.code == 1011


async def test_a_bug_ends_its_call_and_is_raised_at_the_root(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError), flatten_subgroups=True, allow_unwrapped=True):
        async with calling(lambda port: Failing(port, LookupError("bug"), when_heard=True)) as caller:
            await caller.send(CALL)
            await caller.say(LOUD)
            await trio.sleep(1)
    assert caller.call.end_reason == "internal error"


async def test_a_peer_that_reads_nothing_is_closed_after_five_seconds_and_loses_no_call_but_its_own(
    autojump_clock: MockClock,
) -> None:
    made: list[Listener] = []

    def make(port: CallPort) -> Provider:
        made.append(Listener(port))
        return made[0]

    async with calling(make) as caller:
        await caller.send(CALL)
        await caller.say(SILENT)
        begun = trio.current_time()
        blocked = trio.Event()
        caller.call._link._transport.send_some = _never(blocked)  # type: ignore[method-assign]
        made[0].port.play("item", LOUD * 500)
        while not caller.call.end_reason:
            await caller.say(SILENT)
    assert "took nothing for 5 s" in caller.call.end_reason
    assert trio.current_time() - begun < 7.0


def _never(blocked: trio.Event) -> Any:
    async def send_some(data: bytes) -> int:
        del data
        await blocked.wait()
        return 0

    return send_some
