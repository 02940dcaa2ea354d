"""Webhooks, TwiML followed verb by verb, and status callbacks, against a small HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket
from twilio.request_validator import RequestValidator

from engine.simulator.record import CallRecord
from engine.simulator.twilio import After, CallConfig, HangUp, open_call, place_call

TOKEN = "your_auth_token"
Answer = tuple[int, str, str]


@dataclass
class Request:
    """One HTTP request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class WebServer:
    """Answers every path from a table and keeps the requests."""

    answers: dict[str, Answer | Callable[[Request], Answer]]
    url: str = ""
    requests: list[Request] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            request = await read_request(stream)
            self.requests.append(request)
            answer = self.answers.get(request.path.partition("?")[0], (404, "text/plain", ""))
            status, content_type, body = answer(request) if callable(answer) else answer
            head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            await stream.send_all(f"{head}Connection: close\r\n\r\n{body}".encode())

    def of(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path.partition("?")[0] == path]


async def read_request(stream: trio.SocketStream) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += await stream.receive_some(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, dict(parse_qsl(body.decode(), keep_blank_values=True)))


def twiml(*verbs: str) -> Answer:
    return (
        200,
        "text/xml; charset=utf-8",
        f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>',
    )


@asynccontextmanager
async def web_server(answers: dict[str, Any]) -> AsyncIterator[WebServer]:
    server = WebServer(answers)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def call(answers: dict[str, Any], **settings: Any) -> tuple[CallRecord, WebServer]:
    with trio.fail_after(10):
        async with web_server(answers) as server:
            settings = {
                name: server.url + value if isinstance(value, str) and value.startswith("/") else value
                for name, value in settings.items()
            }
            record = await place_call(CallConfig(url=f"{server.url}/in", **settings))
    return record, server


async def test_a_webhook_carries_the_documented_parameters_and_a_valid_signature() -> None:
    record, server = await call({"/in": twiml("<Say>Hello</Say>")}, auth_token=TOKEN)
    (request,) = server.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["host"] == server.url.removeprefix("http://")
    expected = {
        "AccountSid",
        "ApiVersion",
        "CallSid",
        "CallStatus",
        "CallToken",
        "Called",
        "Caller",
        "Direction",
        "From",
    }
    assert expected | {"To", "ToCity", "FromCountry", "StirVerstat"} <= set(request.form)
    assert (request.form["CallStatus"], request.form["Direction"]) == ("ringing", "inbound")
    assert request.form["CallSid"] == record.call_sid
    signature = request.headers["x-twilio-signature"]
    assert RequestValidator(TOKEN).validate(f"{server.url}/in", request.form, signature)
    assert (record.ended_by, record.count("say"), record.went_well) == ("twiml_ended", 1, True)


async def test_a_get_webhook_carries_them_in_the_query_and_signs_the_whole_url() -> None:
    record, server = await call({"/in": twiml("<Hangup/>")}, auth_token=TOKEN, method="GET")
    (request,) = server.requests
    assert request.method == "GET"
    assert "CallSid=" + record.call_sid in request.path
    assert request.form == {}
    signature = request.headers["x-twilio-signature"]
    assert RequestValidator(TOKEN).validate(server.url + request.path, {}, signature)
    assert record.ended_by == "hangup_verb"


async def test_a_public_webhook_is_asked_at_its_private_address_and_signed_as_public() -> None:
    with trio.fail_after(10):
        async with web_server({"/in": twiml("<Hangup/>")}) as server:
            port = int(server.url.rpartition(":")[2])
            config = CallConfig(
                url="https://voice.example.com/in", auth_token=TOKEN, behind_proxy_at=("127.0.0.1", port)
            )
            record = await place_call(config)
    (request,) = server.requests
    assert request.headers["host"] == "voice.example.com"
    signature = request.headers["x-twilio-signature"]
    assert RequestValidator(TOKEN).validate("https://voice.example.com/in", request.form, signature)
    assert record.went_well


async def test_without_a_token_nothing_is_signed() -> None:
    _, server = await call({"/in": twiml("<Hangup/>")})
    assert "x-twilio-signature" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((500, "text/xml", "<Response/>"), 11200),
        ((302, "text/xml", "<Response/>"), 11200),
        ((403, "text/plain", "no"), 11200),
        ((200, "text/plain", "<Response/>"), 12300),
        ((200, "text/html", "<html/>"), 12300),
        ((200, "text/xml", "<Response>"), 12100),
        ((200, "text/xml", "<Response>" + " " * 70_000 + "</Response>"), 11750),
        (twiml('<Connect><Stream url="ws://voice.example.com/media"/></Connect>'), 31922),
        (twiml("<Say>hi</Say>", "<Reject/>"), 12200),
    ],
)
async def test_unusable_answers_are_errors(answer: Answer, code: int) -> None:
    record, _ = await call({"/in": answer})
    assert [error.code for error in record.errors] == [code]
    assert record.ended_by == "twiml_error"
    assert not record.went_well


async def test_the_fallback_url_is_asked_with_the_reason() -> None:
    answers = {"/in": (500, "text/xml", ""), "/fallback": twiml("<Say>Sorry</Say>")}
    record, server = await call(answers, fallback_url="/fallback")
    (request,) = server.of("/fallback")
    assert (request.form["ErrorCode"], request.form["ErrorUrl"]) == ("11200", f"{server.url}/in")
    assert [event.detail for event in record.events if event.kind == "say"] == ["Sorry"]
    assert [error.code for error in record.errors] == [11200]


async def test_a_refused_connection_is_tried_twice() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with trio.fail_after(10):
        record = await place_call(CallConfig(url=f"http://127.0.0.1:{port}/in"))
    assert record.count("webhook_retry") == 1
    assert [error.code for error in record.errors] == [11205]


async def test_an_answer_that_does_not_come_in_time_is_an_error() -> None:
    async def hang(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, hang, listeners)
            port = listeners[0].socket.getsockname()[1]
            record = await place_call(CallConfig(url=f"http://127.0.0.1:{port}/in", webhook_timeout_s=0.2))
            nursery.cancel_scope.cancel()
    assert [error.code for error in record.errors] == [11200]


async def test_verbs_are_followed_in_order_and_a_redirect_replaces_the_rest() -> None:
    answers = {
        "/in": twiml("<Say>one</Say>", "<Redirect>/more</Redirect>", "<Say>never</Say>"),
        "/more": twiml("<Play>/two.wav</Play>", '<Pause length="0"/>', "<Dial>+15005550006</Dial>", "<Say>never</Say>"),
    }
    record, server = await call(answers)
    kinds = [event.kind for event in record.events if event.kind != "webhook"]
    assert kinds == ["dial", "answered", "say", "redirect", "play", "pause", "dial_out", "ended"]
    assert record.ended_by == "dialed"
    assert server.of("/more")[0].form["CallStatus"] == "in-progress"


async def test_redirecting_in_circles_ends_with_an_error() -> None:
    record, server = await call({"/in": twiml("<Redirect>/in</Redirect>")})
    assert record.ended_by == "twiml_error"
    assert len(server.requests) == 50


async def test_a_rejected_call_is_never_answered() -> None:
    record, server = await call(
        {"/in": twiml('<Reject reason="busy"/>'), "/status": (204, "", "")},
        status_callback="/status",
        status_events=("ringing", "answered", "completed"),
    )
    assert record.ended_by == "rejected"
    assert [request.form["CallStatus"] for request in server.of("/status")] == ["ringing", "busy"]
    assert record.count("answered") == 0


async def test_the_caller_can_hang_up_during_a_pause() -> None:
    with trio.fail_after(10):
        answers = {"/in": twiml('<Pause length="60"/>')}
        async with web_server(answers) as server, open_call(CallConfig(url=f"{server.url}/in")) as live:
            async for event in live.live:
                if event.kind == "pause":
                    live.hang_up()
            record = await live.wait_ended()
    assert record.ended_by == "caller_hung_up"


async def stream_through(server_closes: bool, connect: str = "<Connect>") -> tuple[CallRecord, WebServer]:
    """Places a call whose TwiML streams, then says something; the status callbacks go to the same server."""

    async def media(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            for _ in range(4):
                await socket.get_message()
            if server_closes:
                await socket.aclose()
            while True:
                await socket.get_message()
        except ConnectionClosed:
            pass

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            sockets = await nursery.start(serve_websocket, media, "127.0.0.1", 0, None)
            url = f"ws://127.0.0.1:{sockets.port}/m"
            stream = f'<Stream url="{url}" statusCallback="/stream"><Parameter name="a" value="b"/>'
            answers = {
                "/in": twiml(f"{connect}{stream}</Stream></Connect>", "<Say>after</Say>"),
                "/after": twiml("<Say>action</Say>"),
                "/stream": (204, "", ""),
            }
            async with web_server(answers) as server:
                config = CallConfig(url=f"{server.url}/in", auth_token=TOKEN, strict=True)
                record = await place_call(config, [HangUp(when=After(ms=150))])
            nursery.cancel_scope.cancel()
    return record, server


async def test_twiml_goes_on_when_the_server_closes_the_stream() -> None:
    record, server = await stream_through(server_closes=True)
    assert [event.detail for event in record.events if event.kind == "say"] == ["after"]
    assert (record.ended_by, record.went_well) == ("twiml_ended", True)
    callbacks = server.of("/stream")
    assert [request.form["StreamEvent"] for request in callbacks] == [
        "stream-started",
        "stream-error",
        "stream-stopped",
    ]
    assert callbacks[1].form["StreamError"].startswith("31921")
    assert callbacks[0].form["StreamSid"] == callbacks[0].form["StreamName"] == record.stream_sid
    for request in callbacks:
        signature = request.headers["x-twilio-signature"]
        assert RequestValidator(TOKEN).validate(f"{server.url}/stream", request.form, signature)


async def test_nothing_is_said_when_the_caller_has_hung_up() -> None:
    record, server = await stream_through(server_closes=False)
    assert record.count("say") == 0
    assert record.ended_by == "caller_hung_up"
    assert [request.form["StreamEvent"] for request in server.of("/stream")] == ["stream-started", "stream-stopped"]


async def test_an_action_url_replaces_the_verbs_after_the_stream() -> None:
    record, server = await stream_through(server_closes=True, connect='<Connect action="/after">')
    assert [event.detail for event in record.events if event.kind == "say"] == ["action"]
    assert server.of("/after")[0].form["StreamSid"] == record.stream_sid


async def test_a_failing_callback_is_noted_and_hurts_nothing() -> None:
    record, _ = await call({"/in": twiml("<Say>x</Say>")}, status_callback="/nowhere")
    assert record.count("callback_failed") == 1
    assert record.ended_by == "twiml_ended"


async def test_a_completed_call_reports_its_duration() -> None:
    _, server = await call({"/in": twiml("<Say>x</Say>"), "/status": (204, "", "")}, status_callback="/status")
    (request,) = server.of("/status")
    assert (request.form["CallStatus"], request.form["CallDuration"]) == ("completed", "0")
    assert request.form["SequenceNumber"] == "0"
