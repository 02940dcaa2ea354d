"""Whole simulated calls over loopback sockets, against a small server made of trio-websocket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket, wrap_server_stream
from twilio.request_validator import RequestValidator

from engine.simulator.twilio import (
    After,
    AgentSilent,
    AgentSpeaking,
    CallConfig,
    Drop,
    Dtmf,
    Faults,
    HangUp,
    Say,
    SendRaw,
    SimulatedCall,
    open_call,
    place_call,
    tone,
)

TOKEN = "your_auth_token"
LOUD = tone(440, 20).ulaw
Handler = Callable[[WebSocketRequest], Awaitable[None]]


@asynccontextmanager
async def media_server(handler: Handler) -> AsyncIterator[str]:
    """Serves media sockets on a free loopback port; yields the URL."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        yield f"ws://127.0.0.1:{server.port}/media-stream"
        nursery.cancel_scope.cancel()


class Peer:
    """The server's end of a stream: keeps every message, sends what a test wants."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.stream_sid = ""
        self.headers: dict[str, str] = {}

    async def accept(self, request: WebSocketRequest) -> WebSocketConnection:
        self.headers = {name.decode(): value.decode() for name, value in request.headers}
        return await request.accept()

    async def collect(self, socket: WebSocketConnection, *, until: str = "stop") -> dict[str, Any]:
        while True:
            message = json.loads(await socket.get_message())
            self.messages.append(message)
            if message["event"] == "start":
                self.stream_sid = message["streamSid"]
            if message["event"] == until:
                return message

    async def send(self, socket: WebSocketConnection, event: str, content: object = None) -> None:
        fields = {"event": event, "streamSid": self.stream_sid}
        await socket.send_message(json.dumps(fields if content is None else {**fields, event: content}))

    async def say(self, socket: WebSocketConnection, ulaw: bytes) -> None:
        await self.send(socket, "media", {"payload": base64.b64encode(ulaw).decode()})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == event]


async def listen_to_the_end(socket: WebSocketConnection, peer: Peer) -> None:
    with pytest.raises(ConnectionClosed):
        while True:
            await peer.collect(socket, until="never")


def listener(peer: Peer) -> Handler:
    async def handle(request: WebSocketRequest) -> None:
        await listen_to_the_end(await peer.accept(request), peer)

    return handle


async def test_the_stream_begins_with_connected_and_start_and_ends_with_stop() -> None:
    peer = Peer()
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            config = CallConfig(url=url, parameters={"token": "opaque"})
            record = await place_call(config, [Dtmf("1#", gap_ms=40), HangUp(when=After(ms=100))])
    assert record.ended_by == "caller_hung_up"
    assert record.went_well
    assert peer.messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert peer.messages[1]["start"]["customParameters"] == {"token": "opaque"}
    assert peer.messages[-1]["event"] == "stop"
    numbers = [int(message["sequenceNumber"]) for message in peer.messages[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    media = peer.of("media")
    assert [frame["media"]["chunk"] for frame in media] == [str(n + 1) for n in range(len(media))]
    assert [frame["media"]["timestamp"] for frame in media] == [str(5 + 20 * n) for n in range(len(media))]
    assert [key["dtmf"] for key in peer.of("dtmf")] == [{"track": "inbound_track", "digit": digit} for digit in "1#"]
    assert len(media) == record.frames_sent == len(record.caller)


async def test_the_socket_is_signed_over_the_url_as_written_with_a_lower_case_header() -> None:
    peer = Peer()
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            record = await place_call(CallConfig(url=url, auth_token=TOKEN), [HangUp()])
    assert record.went_well
    assert RequestValidator(TOKEN).compute_signature(url, {}) == peer.headers["x-twilio-signature"]


async def test_a_public_url_is_dialed_at_its_private_address_and_signed_as_public() -> None:
    peer = Peer()
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            port = int(url.split(":")[2].split("/")[0])
            config = CallConfig(
                url="wss://voice.example.com/media", auth_token=TOKEN, behind_proxy_at=("127.0.0.1", port)
            )
            record = await place_call(config, [HangUp()])
    assert record.went_well
    expected = RequestValidator(TOKEN).compute_signature("wss://voice.example.com/media", {})
    assert peer.headers["x-twilio-signature"] == expected


async def test_a_mark_returns_when_everything_before_it_has_played() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        await peer.send(socket, "mark", {"name": "nothing buffered"})
        await peer.say(socket, LOUD * 10)
        await peer.send(socket, "mark", {"name": "after 200 ms"})
        await peer.collect(socket, until="mark")
        await peer.collect(socket, until="mark")
        await socket.aclose()

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url, strict=True))
    assert [mark["mark"]["name"] for mark in peer.of("mark")] == ["nothing buffered", "after 200 ms"]
    assert record.ended_by == "server_closed"
    assert [error.code for error in record.errors] == [31921]
    assert record.went_well
    arrived_s = record.received[0][0]
    returned_s = [event.at_s for event in record.events if event.kind == "mark_returned"]
    assert returned_s[0] <= arrived_s
    assert returned_s[1] >= arrived_s + 0.2 - 1e-6
    assert record.heard_ms(record.started_at_s, record.ended_at_s) == pytest.approx(200)
    assert b"".join(chunk.ulaw for chunk in record.played) == LOUD * 10


async def test_clear_flushes_the_buffer_and_returns_the_pending_marks_in_order() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        for name in ("one", "two"):
            await peer.say(socket, LOUD * 100)
            await peer.send(socket, "mark", {"name": name})
        await peer.collect(socket, until="media")
        await peer.send(socket, "clear")
        await peer.collect(socket, until="mark")
        await peer.collect(socket, until="mark")
        await socket.aclose()

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url, strict=True))
    assert record.count("mark_flushed") == 2
    assert [mark["mark"]["name"] for mark in peer.of("mark")] == ["one", "two"]
    assert record.heard_ms(record.started_at_s, record.ended_at_s) < 1000
    assert record.depth_max_ms == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize(
    "message",
    [
        b"binary",
        "not json",
        '{"event":"clear","streamSid":"MZ00000000000000000000000000000000"}',
        '{"event":"stop","streamSid":"SID"}',
        '{"event":"clear","streamSid":"SID","extra":1}',
        '{"event":"media","streamSid":"SID","media":{"payload":"/w==","track":"inbound"}}',
    ],
)
async def test_strict_calls_end_at_the_first_wrong_message(message: str | bytes) -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        await socket.send_message(
            message.replace("SID", peer.stream_sid, 1) if isinstance(message, str) and '"SID"' in message else message
        )
        await listen_to_the_end(socket, peer)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url, strict=True))
    assert record.ended_by == "violation"
    assert [violation.code for violation in record.violations] == [31950 if isinstance(message, bytes) else 31951]
    assert not record.went_well
    assert peer.messages[-1]["event"] == "stop"


async def test_by_default_wrong_messages_are_ignored_with_one_warning_and_all_counted() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        for _ in range(3):
            await socket.send_message("{}")
        await peer.say(socket, LOUD)
        await listen_to_the_end(socket, peer)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url), [HangUp(when=AgentSilent(ms=20))])
    assert (len(record.violations), record.count("warning"), record.ended_by) == (3, 1, "caller_hung_up")


async def test_a_message_before_start_is_a_violation() -> None:
    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message('{"event":"clear","streamSid":""}')
        await listen_to_the_end(socket, Peer())

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url, strict=True))
    assert record.ended_by == "violation"


async def test_a_refused_handshake_is_error_31920() -> None:
    async def handle(request: WebSocketRequest) -> None:
        await request.reject(403, body=b"no")

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url))
    assert record.ended_by == "stream_failed"
    assert [error.code for error in record.errors] == [31920]
    assert "403" in record.errors[0].message
    assert record.stream_sid == ""


async def test_a_sub_protocol_nobody_offered_is_error_31920() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            await stream.send_all(b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: audio\r\n\r\n")
            await stream.receive_some(4096)

    record = await call_raw_server(serve)
    assert [error.code for error in record.errors] == [31920]


async def call_raw_server(serve: Callable[[trio.SocketStream], Awaitable[None]], **settings: Any) -> Any:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            record = await place_call(CallConfig(url=f"ws://127.0.0.1:{port}/media", **settings))
            nursery.cancel_scope.cancel()
    return record


async def test_a_server_that_says_nothing_is_error_31901() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)

    record = await call_raw_server(serve)
    assert [error.code for error in record.errors] == [31901]
    assert record.ended_by == "stream_failed"


async def test_a_port_where_nobody_listens_is_error_31901() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with trio.fail_after(10):
        record = await place_call(CallConfig(url=f"ws://127.0.0.1:{port}/media"))
    assert [error.code for error in record.errors] == [31901]


async def test_failing_tls_is_error_31910() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(b"this is not TLS")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            record = await place_call(CallConfig(url=f"wss://127.0.0.1:{port}/media"))
            nursery.cancel_scope.cancel()
    assert [error.code for error in record.errors] == [31910]


async def test_a_remote_host_is_not_called_unless_allowed() -> None:
    with trio.fail_after(10):
        record = await place_call(CallConfig(url="wss://voice.example.com/media"))
    assert record.ended_by == "stream_failed"
    assert "not this machine" in record.errors[0].message


async def test_a_plain_media_url_is_refused_when_twilio_itself_would() -> None:
    with trio.fail_after(10):
        record = await place_call(CallConfig(url="ws://127.0.0.1:9/media", allow_plain_loopback=False))
    assert [error.code for error in record.errors] == [31922]


async def test_a_server_that_vanishes_mid_stream_is_error_31903() -> None:
    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await Peer().collect(socket, until="media")
        await trio.aclose_forcefully(socket._stream)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url))
    assert record.ended_by == "server_vanished"
    assert [error.code for error in record.errors] == [31903]


async def test_malformed_websocket_frames_are_error_31924() -> None:
    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await Peer().collect(socket, until="start")
        await socket._stream.send_all(b"\x83\x00")  # opcode 3 is reserved
        await listen_to_the_end(socket, Peer())

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url))
    assert record.ended_by == "framing_violation"
    assert [error.code for error in record.errors] == [31924]


async def test_pings_of_the_server_are_answered() -> None:
    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await Peer().collect(socket, until="start")
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen_to_the_end, socket, Peer())
                await socket.ping(b"are you there")
                await socket.aclose()

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url))
    assert record.ended_by == "server_closed"


async def test_a_dropped_call_ends_without_stop_and_without_a_closing_handshake() -> None:
    peer = Peer()
    codes: list[int] = []

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await listen_to_the_end(socket, peer)
        assert socket.closed is not None
        codes.append(socket.closed.code)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url), [Drop(when=After(ms=60))])
            with trio.move_on_after(1):
                while not codes:
                    await trio.lowlevel.checkpoint()
    assert record.ended_by == "caller_dropped"
    assert peer.of("stop") == []
    assert codes == [1006]


async def test_the_caller_interrupts_the_agent_and_answers_when_it_is_silent() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        await peer.say(socket, LOUD * 15)
        await listen_to_the_end(socket, peer)

    script = [
        Say(tone(300, 40), when=AgentSpeaking(ms=100)),
        Say(tone(300, 40), when=AgentSilent(ms=100)),
        HangUp(),
    ]
    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url), script)
    began_s, ended_s = record.played[0].at_s, record.played[-1].end_s
    spoke_s = [event.at_s for event in record.events if event.kind == "speech_began"]
    assert began_s + 0.0995 <= spoke_s[0] < ended_s
    assert spoke_s[1] >= ended_s + 0.0995
    assert record.cues_missed == 0


async def test_a_cue_that_never_comes_is_missed_and_the_step_done() -> None:
    peer = Peer()
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            record = await place_call(CallConfig(url=url), [HangUp(when=AgentSilent(within_ms=60))])
    assert (record.cues_missed, record.ended_by) == (1, "caller_hung_up")


async def test_gaps_lose_frames_so_that_timestamps_jump() -> None:
    peer = Peer()
    config_faults = Faults(gap_every_ms=100, gap_ms=40)
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            record = await place_call(CallConfig(url=url, faults=config_faults), [HangUp(when=After(ms=320))])
    stamps = [int(frame["media"]["timestamp"]) for frame in peer.of("media")]
    assert 60 in {after - before for before, after in pairwise(stamps)}
    assert record.frames_lost > 0
    numbers = [int(message["sequenceNumber"]) for message in peer.messages[1:]]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_hostile_messages_reach_the_server_beside_the_regular_ones() -> None:
    raw: list[str | bytes] = []

    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        with pytest.raises(ConnectionClosed):
            while True:
                raw.append(await socket.get_message())

    with trio.fail_after(10):
        async with media_server(handle) as url:
            config = CallConfig(url=url, faults=Faults(hostile_every_ms=40))
            record = await place_call(config, [SendRaw(b"\x00"), HangUp(when=After(ms=200))])
    assert b"\x00" in raw
    assert "this is not JSON" in raw
    assert record.count("raw_sent") >= 4


async def test_the_time_limit_ends_the_call_with_stop() -> None:
    peer = Peer()
    with trio.fail_after(10):
        async with media_server(listener(peer)) as url:
            record = await place_call(CallConfig(url=url, time_limit_s=0.2))
    assert record.ended_by == "time_limit"
    assert peer.messages[-1]["event"] == "stop"


async def test_a_server_that_stops_reading_loses_audio_and_the_call_still_ends() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            socket = await request.accept()
            await Peer().collect(socket, until="start")
            await trio.sleep_forever()

    # Large raw messages fill the socket's buffers at once; then nothing moves any more.
    raw = [SendRaw("x" * 4_000_000) for _ in range(4)]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            config = CallConfig(url=f"ws://127.0.0.1:{port}/media", connect_timeout_s=0.3)
            record = await place_call(config, raw, [HangUp(when=After(ms=2500))])
            nursery.cancel_scope.cancel()
    assert record.ended_by == "caller_hung_up"
    assert record.frames_congested > 0
    assert not record.went_well


async def test_an_open_call_can_be_watched_and_steered() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        await peer.say(socket, LOUD * 100)
        await listen_to_the_end(socket, peer)

    with trio.fail_after(10):
        async with media_server(handle) as url, open_call(CallConfig(url=url)) as call:
            kinds = []
            async for event in call.live:
                kinds.append(event.kind)
                if event.kind == "first_media":
                    break
            call.perform(Dtmf("5"))
            async for event in call.live:
                kinds.append(event.kind)
                if event.kind == "dtmf":
                    break
            assert call.depth_ms() > 1000
            call.hang_up()
            record = await call.wait_ended()
    assert kinds[:4] == ["dial", "answered", "connected", "start"]
    assert record.ended_by == "caller_hung_up"
    assert record.events_dropped == 0


async def test_cancelling_a_call_closes_its_socket_and_its_record() -> None:
    closed = trio.Event()
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        await listen_to_the_end(await peer.accept(request), peer)
        closed.set()

    with trio.fail_after(10):
        async with media_server(handle) as url:
            call = SimulatedCall(CallConfig(url=url), [])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.run)
                async for event in call.live:
                    if event.kind == "start":
                        nursery.cancel_scope.cancel()
            await closed.wait()
    assert call.record.ended_by == "cancelled"
    assert call.record.ended_at_s >= call.record.started_at_s
    assert peer.of("stop") == []


async def test_delayed_marks_come_back_late_and_in_order() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        for name in ("one", "two"):
            await peer.say(socket, LOUD)
            await peer.send(socket, "mark", {"name": name})
        await peer.collect(socket, until="mark")
        await peer.collect(socket, until="mark")
        await socket.aclose()

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url, faults=Faults(mark_delay_ms=80)))
    assert [mark["mark"]["name"] for mark in peer.of("mark")] == ["one", "two"]
    returned_s = [event.at_s for event in record.events if event.kind == "mark_returned"]
    assert returned_s[0] >= record.played[0].at_s + 0.020 + 0.080 - 1e-6
    assert returned_s[1] >= record.played[0].at_s + 0.040 + 0.080 - 1e-6


async def test_playout_starts_late_when_a_fault_says_so() -> None:
    peer = Peer()

    async def handle(request: WebSocketRequest) -> None:
        socket = await peer.accept(request)
        await peer.collect(socket, until="start")
        await peer.say(socket, LOUD)
        await listen_to_the_end(socket, peer)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            config = CallConfig(url=url, faults=Faults(playout_start_ms=(70, 70)))
            record = await place_call(config, [HangUp(when=AgentSilent(ms=20))])
    assert record.played[0].at_s == pytest.approx(record.received[0][0] + 0.070)


async def test_a_message_beyond_every_measure_ends_the_stream() -> None:
    async def handle(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await Peer().collect(socket, until="start")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_to_the_end, socket, Peer())
            with suppress(ConnectionClosed):
                await socket.send_message("x" * 9_000_000)

    with trio.fail_after(10):
        async with media_server(handle) as url:
            record = await place_call(CallConfig(url=url))
    assert record.ended_by == "framing_violation"
