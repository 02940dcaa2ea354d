"""The peer on a loopback port, met by another WebSocket implementation."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from realtime_driver import PCMU_BOTH, assert_as_the_service_sends, question
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from engine.simulator.openai import (
    Die,
    PeerConfig,
    RealtimePeer,
    RefuseHandshake,
    ReportError,
    Script,
    Speak,
    Stall,
    open_realtime_peer,
)
from engine.simulator.voices import load_ulaw

KEY = [("Authorization", "Bearer your_api_key")]
Headers = list[tuple[str, str]]
Rejection = tuple[int, dict[str, Any]]
LIMIT_S = 20
FAST = PeerConfig(speedup=100.0, first_audio_ms=20)


def port_of(peer: RealtimePeer) -> int:
    return urlsplit(peer.url).port or 0


@asynccontextmanager
async def connected(
    peer: RealtimePeer, query: str = "?model=gpt-realtime-2.1", headers: Headers = KEY
) -> AsyncIterator[WebSocketConnection]:
    """Connect; the stream is ours to close, since the library leaves it open when the other side ends things."""
    async with await trio.open_tcp_stream("127.0.0.1", port_of(peer)) as stream, trio.open_nursery() as nursery:
        resource = urlsplit(peer.url).path + query
        yield await wrap_client_stream(nursery, stream, "127.0.0.1", resource, extra_headers=wire(headers))
        nursery.cancel_scope.cancel()


async def rejection(peer: RealtimePeer, query: str = "?model=gpt-realtime-2.1", headers: Headers = KEY) -> Rejection:
    """Connect, and give the refusal that comes back."""
    found: list[ConnectionRejected] = []
    try:
        async with connected(peer, query, headers):
            pytest.fail("the peer let the client in")
    except* ConnectionRejected as group:
        found += leaves(group)
    return found[0].status_code, json.loads(found[0].body)["error"]


def leaves(group: BaseExceptionGroup[ConnectionRejected]) -> list[ConnectionRejected]:
    nested = (leaves(error) if isinstance(error, BaseExceptionGroup) else [error] for error in group.exceptions)
    return [error for errors in nested for error in errors]


def wire(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


async def next_event(socket: WebSocketConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await socket.get_message())
    assert_as_the_service_sends(event)
    return event


async def events_until(socket: WebSocketConnection, kind: str) -> list[dict[str, Any]]:
    events = [await next_event(socket)]
    while events[-1]["type"] != kind:
        events.append(await next_event(socket))
    return events


async def send(socket: WebSocketConnection, kind: str, **fields: Any) -> None:
    await socket.send_message(json.dumps({"type": kind, **fields}))


async def use_pcmu(socket: WebSocketConnection) -> None:
    await send(socket, "session.update", session={"type": "realtime", "audio": PCMU_BOTH})
    await events_until(socket, "session.updated")


def audio_of(events: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")


async def test_a_conversation_runs_over_a_socket() -> None:
    with trio.fail_after(LIMIT_S):
        script = Script(replies=(Speak("agent_greeting"), Speak("agent_sorry")))
        async with open_realtime_peer(FAST, script) as peer, connected(peer) as socket:
            await use_pcmu(socket)
            await send(socket, "response.create")
            assert audio_of(await events_until(socket, "response.done")) == load_ulaw("agent_greeting")
            for offset in range(0, len(heard := question()), 160):
                audio = base64.b64encode(heard[offset : offset + 160]).decode()
                await send(socket, "input_audio_buffer.append", audio=audio)
            assert audio_of(await events_until(socket, "response.done")) == load_ulaw("agent_sorry")
            log = await peer.session()
            assert b"".join(chunk.audio for chunk in log.appended) == heard
            assert [entry.began for entry in log.speech] == [True, False]
            await socket.aclose()
            await peer.closed(log)
        assert (log.closed_by, log.close_code) == ("client", 1000)


@pytest.mark.parametrize("fragment_bytes", [1, 7, 1000])
async def test_fragments_join_to_whole_events(fragment_bytes: int) -> None:
    with trio.fail_after(LIMIT_S):
        config = PeerConfig(fragment_bytes=fragment_bytes)
        async with open_realtime_peer(config) as peer, connected(peer) as socket:
            assert (await next_event(socket))["type"] == "session.created"
            await use_pcmu(socket)


@pytest.mark.parametrize(
    ("config", "query", "headers", "status"),
    [
        (PeerConfig(api_key="another"), "?model=gpt-realtime-2.1", KEY, 401),
        (PeerConfig(), "?model=gpt-realtime-2.1", [], 401),
        (PeerConfig(), "?model=gpt-imaginary", KEY, 404),
        (PeerConfig(), "", KEY, 400),
        (PeerConfig(), "/elsewhere", KEY, 404),
    ],
)
async def test_a_refused_handshake_gets_an_http_status(
    config: PeerConfig, query: str, headers: Headers, status: int
) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer(config) as peer:
            got, error = await rejection(peer, query, headers)
            assert (got, error["type"]) == (status, "invalid_request_error")
            assert [refusal.status for refusal in peer.refusals] == [status]
            assert len(peer.sessions) == 0


@pytest.mark.parametrize(
    ("config", "headers", "code"),
    [
        (PeerConfig(), [*KEY, ("OpenAI-Beta", "realtime=v1")], "beta_api_shape_disabled"),
        (PeerConfig(api_key="another", refuses_at_handshake=False), KEY, "invalid_api_key"),
    ],
)
async def test_a_client_may_be_shown_out_with_an_error_event(config: PeerConfig, headers: Headers, code: str) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer(config) as peer:
            async with connected(peer, headers=headers) as socket:
                assert (await next_event(socket))["error"]["code"] == code
                with pytest.raises(ConnectionClosed) as caught:
                    await socket.get_message()
            assert caught.value.reason.code == 4000


async def test_a_plain_http_request_is_answered_and_does_no_harm() -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer() as peer:
            port = port_of(peer)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 4")
            async with connected(peer) as socket:
                assert (await next_event(socket))["type"] == "session.created"


async def test_scripts_may_differ_by_connection() -> None:
    def script(index: int) -> Script:
        return Script(faults=(RefuseHandshake(status=503),)) if index == 0 else Script()

    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer(script=script) as peer:
            assert (await rejection(peer))[0] == 503
            async with connected(peer) as socket:
                assert (await next_event(socket))["type"] == "session.created"


async def test_a_dying_peer_leaves_no_close_frame() -> None:
    with trio.fail_after(LIMIT_S):
        script = Script(faults=(Die(at_s=0.05),))
        async with open_realtime_peer(FAST, script) as peer, connected(peer) as socket:
            await next_event(socket)
            with pytest.raises(ConnectionClosed) as caught:
                await socket.get_message()
            assert caught.value.reason is None or caught.value.reason.code == 1006
            assert (await peer.session()).closed_by == "dropped"


async def test_a_fatal_error_is_followed_by_its_close_code() -> None:
    with trio.fail_after(LIMIT_S):
        script = Script(faults=(ReportError(at_s=0.02, code="insufficient_quota", close_code=4000),))
        async with open_realtime_peer(FAST, script) as peer, connected(peer) as socket:
            events = await events_until(socket, "error")
            assert events[-1]["error"]["code"] == "insufficient_quota"
            with pytest.raises(ConnectionClosed) as caught:
                await socket.get_message()
            assert caught.value.reason.code == 4000
            assert (await peer.session()).closed_by == "peer"


async def test_a_stalled_peer_reads_and_sends_later() -> None:
    with trio.fail_after(LIMIT_S):
        script = Script(faults=(Stall(at_s=0.0, for_s=0.3),))
        async with open_realtime_peer(FAST, script) as peer, connected(peer) as socket:
            await send(socket, "response.create")
            assert (await next_event(socket))["type"] == "session.created"
            log = await peer.session()
            assert trio.current_time() >= log.opened_at_s + 0.3
            await events_until(socket, "response.done")
            assert log.received[0].at_s >= log.opened_at_s + 0.3


async def test_a_message_far_beyond_the_limit_closes_the_socket() -> None:
    with trio.fail_after(LIMIT_S):
        config = PeerConfig(max_event_bytes=1000)
        async with open_realtime_peer(config) as peer, connected(peer) as socket:
            await next_event(socket)
            with pytest.raises(ConnectionClosed) as caught:
                await send(socket, "input_audio_buffer.append", audio="A" * 1_200_000)
                await socket.get_message()
            assert caught.value.reason.code == 1009


async def test_a_ping_is_answered() -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer() as peer, connected(peer) as socket:
            await socket.ping(b"still there?")


async def test_a_client_that_vanishes_is_logged_as_dropped() -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer() as peer:
            port = port_of(peer)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(
                b"GET /v1/realtime?model=gpt-realtime-2.1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"Sec-WebSocket-Version: 13\r\n\r\n"
            )
            log = await peer.session()
            await stream.receive_some()
            await stream.aclose()
            await peer.closed(log)
            assert log.closed_by == "dropped"


async def test_leaving_the_block_closes_every_socket() -> None:
    with trio.fail_after(LIMIT_S):
        async with open_realtime_peer() as peer:
            port = port_of(peer)
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        for stream in streams:
            async with stream:
                with pytest.raises(trio.BrokenResourceError):
                    # An end of file or a reset: either way the other end is gone.
                    if await stream.receive_some() == b"":
                        raise trio.BrokenResourceError
        with pytest.raises(OSError, match=r"refused|connect"):
            await trio.open_tcp_stream("127.0.0.1", port)
