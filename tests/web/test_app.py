"""The webhooks and probes, asked as Twilio asks them."""

from dataclasses import dataclass, field
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
import trio
import trio.testing
from quart.wrappers import Response
from quart_trio import QuartTrio
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from engine.settings import Settings
from engine.web.app import create_app
from engine.web.collaborators import CallStatusReported, SmsHandler, StreamStatusReported, TextMessage

TOKEN = "your_auth_token"
PUBLIC = Settings(public_url="https://voice.example.com", twilio_auth_token=TOKEN)
FORM_TYPE = "application/x-www-form-urlencoded"
WEBHOOKS = ["/incoming-call", "/incoming-sms", "/call-status", "/stream-status"]
CALL = {"CallSid": "CAxxxx", "From": "+15550100", "To": "+15550199", "CallStatus": "ringing"}


@dataclass
class Host:
    """Stands where the service stands: decides, counts, and remembers."""

    reason: str | None = None
    calls: int = 0
    draining: bool = False
    call_statuses: list[CallStatusReported] = field(default_factory=list)
    stream_statuses: list[StreamStatusReported] = field(default_factory=list)

    def refuse_reason(self) -> str | None:
        return self.reason


def make_app(host: Host, settings: Settings = PUBLIC, sms_handler: SmsHandler | None = None) -> QuartTrio:
    return create_app(
        settings,
        admission=host,
        health=host,
        on_call_status=host.call_statuses.append,
        on_stream_status=host.stream_statuses.append,
        sms_handler=sms_handler,
    )


async def post(
    app: QuartTrio,
    path: str,
    form: dict[str, str] | list[tuple[str, str]],
    *,
    query: str = "",
    signature: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    fields = MultiDict(form)
    url = f"https://voice.example.com{path}" + (f"?{query}" if query else "")
    signed = RequestValidator(TOKEN).compute_signature(url, fields) if signature is None else signature
    sent = {"X-Twilio-Signature": signed, "Content-Type": FORM_TYPE, **(headers or {})}
    with trio.fail_after(5):
        response: Response = await app.test_client().post(
            path + (f"?{query}" if query else ""), data=urlencode(list(fields.items(multi=True))), headers=sent
        )
    return response


async def read_twiml(response: Response) -> ElementTree.Element:
    assert response.status_code == 200
    assert response.mimetype == "text/xml"
    return ElementTree.fromstring(await response.get_data())


async def test_a_call_is_connected_to_the_public_media_socket() -> None:
    forged = {"Host": "elsewhere.example", "X-Forwarded-Host": "elsewhere.example", "X-Forwarded-Proto": "http"}
    response = await read_twiml(await post(make_app(Host()), "/incoming-call", CALL, headers=forged))
    (stream,) = response.iter("Stream")
    assert stream.get("url") == "wss://voice.example.com/media-stream"
    assert stream.get("statusCallback") == "https://voice.example.com/stream-status"
    assert {each.get("name"): each.get("value") for each in stream} == {"from": "+15550100", "to": "+15550199"}
    assert response.findtext("Say") == PUBLIC.fallback_message


async def test_a_call_that_cannot_be_taken_hears_why(caplog: pytest.LogCaptureFixture) -> None:
    response = await read_twiml(await post(make_app(Host(reason="draining")), "/incoming-call", CALL))
    assert [verb.tag for verb in response] == ["Say", "Hangup"]
    assert response.findtext("Say") == PUBLIC.busy_message
    assert "draining" in caplog.text


async def test_a_parameter_that_is_too_long_is_left_out_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    response = await read_twiml(await post(make_app(Host()), "/incoming-call", {**CALL, "CallerName": "x" * 500}))
    assert [each.get("name") for each in response.iter("Parameter")] == ["from", "to"]
    assert "caller_name" in caplog.text


async def test_numbers_are_logged_by_their_last_digits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await post(make_app(Host()), "/incoming-call", CALL)
    await post(make_app(Host()), "/incoming-sms", {**CALL, "Body": "private words"})
    assert "...0100" in caplog.text
    assert "+15550100" not in caplog.text
    assert "private words" not in caplog.text


@pytest.mark.parametrize("path", WEBHOOKS)
async def test_a_wrong_signature_is_refused_before_anything_happens(path: str) -> None:
    host = Host()
    for signature in ("", "x", RequestValidator(TOKEN).compute_signature("https://elsewhere.example" + path, CALL)):
        assert (await post(make_app(host), path, CALL, signature=signature)).status_code == 403
    assert host.call_statuses == []
    assert host.stream_statuses == []


@pytest.mark.parametrize("path", WEBHOOKS)
async def test_a_missing_signature_is_refused(path: str) -> None:
    response = await make_app(Host()).test_client().post(path, data=b"", headers={"Content-Type": FORM_TYPE})
    assert response.status_code == 403


@pytest.mark.parametrize("query", ["foo=1&bar=2", "a=%2F%2f&b=+&c", "caf%C3%A9=1;2"])
async def test_the_query_counts_exactly_as_it_was_sent(query: str) -> None:
    assert (await post(make_app(Host()), "/call-status", CALL, query=query)).status_code == 204


async def test_every_value_of_a_field_counts() -> None:
    form = [("CallSid", "CAxxxx"), ("StatusCallbackEvent", "ringing"), ("StatusCallbackEvent", "answered")]
    app = make_app(Host())
    assert (await post(app, "/call-status", form)).status_code == 204
    signature = RequestValidator(TOKEN).compute_signature("https://voice.example.com/call-status", MultiDict(form))
    assert (await post(app, "/call-status", form[:2], signature=signature)).status_code == 403


@pytest.mark.parametrize("path", WEBHOOKS)
async def test_bodies_are_bounded(path: str) -> None:
    assert (await post(make_app(Host()), path, {"Body": "x" * 65536})).status_code == 413


@pytest.mark.parametrize("path", WEBHOOKS)
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
async def test_another_type_of_body_is_refused(path: str, content_type: str) -> None:
    response = await post(make_app(Host()), path, CALL, headers={"Content-Type": content_type})
    assert response.status_code == 415


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"&".join(b"a=%d" % n for n in range(600))])
async def test_a_damaged_or_crowded_form_is_refused(body: bytes) -> None:
    client = make_app(Host(), Settings()).test_client()
    assert (await client.post("/call-status", data=body, headers={"Content-Type": FORM_TYPE})).status_code == 400


@pytest.mark.parametrize("path", WEBHOOKS)
async def test_another_method_is_refused(path: str) -> None:
    client = make_app(Host()).test_client()
    assert (await client.get(path)).status_code == 405
    assert (await client.put(path)).status_code == 405


async def test_without_a_token_no_signature_is_needed() -> None:
    response = await make_app(Host(), Settings()).test_client().post("/incoming-call")
    (stream,) = (await read_twiml(response)).iter("Stream")
    assert stream.get("url") == "ws://127.0.0.1:8080/media-stream"


async def test_call_statuses_are_passed_on() -> None:
    host = Host()
    response = await post(make_app(host), "/call-status", CALL)
    assert (response.status_code, await response.get_data()) == (204, b"")
    assert host.call_statuses == [CallStatusReported(call_sid="CAxxxx", status="ringing", parameters=CALL)]


async def test_stream_statuses_are_passed_on() -> None:
    host = Host()
    form = {"CallSid": "CAxxxx", "StreamSid": "MZxxxx", "StreamEvent": "stream-error", "StreamError": "31924 - x"}
    assert (await post(make_app(host), "/stream-status", form)).status_code == 204
    assert host.stream_statuses == [
        StreamStatusReported(call_sid="CAxxxx", stream_sid="MZxxxx", event="stream-error", error="31924 - x")
    ]


SMS = {"MessageSid": "SMxxxx", "From": "+15550100", "To": "+15550199", "Body": "Hello & <you>", "NumMedia": "2"}


async def test_a_text_message_is_answered() -> None:
    seen: list[TextMessage] = []

    async def handler(message: TextMessage) -> str:
        seen.append(message)
        return message.body + "\x00!"

    response = await read_twiml(await post(make_app(Host(), sms_handler=handler), "/incoming-sms", SMS))
    assert [message.text for message in response.iter("Message")] == ["Hello & <you>!"]
    assert seen == [
        TextMessage(
            message_sid="SMxxxx",
            from_number="+15550100",
            to_number="+15550199",
            body="Hello & <you>",
            media_count=2,
        )
    ]


async def test_a_handler_that_fails_leaves_the_message_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(message: TextMessage) -> str:
        raise RuntimeError("no words")

    response = await read_twiml(await post(make_app(Host(), sms_handler=handler), "/incoming-sms", SMS))
    assert len(response) == 0
    assert "no words" in caplog.text


async def test_a_handler_that_is_late_leaves_the_message_unanswered(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(message: TextMessage) -> str:
        await trio.sleep_forever()
        raise AssertionError

    app = make_app(Host(), sms_handler=handler)
    with trio.fail_after(14):  # Twilio waits 15 s
        response = await app.test_client().post("/incoming-sms", data=b"", headers={"X-Twilio-Signature": _signature()})
    assert len(await read_twiml(response)) == 0
    assert "longer than 10 s" in caplog.text


def _signature() -> str:
    return str(RequestValidator(TOKEN).compute_signature("https://voice.example.com/incoming-sms", {}))


async def test_without_a_handler_a_message_is_left_unanswered() -> None:
    assert len(await read_twiml(await post(make_app(Host()), "/incoming-sms", SMS))) == 0


async def test_health_tells_how_many_calls_run() -> None:
    client = make_app(Host(calls=3)).test_client()
    answer = await (await client.get("/healthz")).get_json()
    assert (answer["status"], answer["calls"]) == ("ok", 3)
    assert answer["version"]


async def test_a_draining_service_is_healthy_but_not_ready() -> None:
    host = Host()
    client = make_app(host).test_client()
    assert (await client.get("/readyz")).status_code == 200
    host.draining = True
    assert (await client.get("/readyz")).status_code == 503
    response = await client.get("/healthz")
    assert (response.status_code, (await response.get_json())["status"]) == (200, "draining")


async def test_the_media_path_without_an_upgrade_asks_for_one() -> None:
    response = await make_app(Host()).test_client().get("/media-stream")
    assert (response.status_code, response.headers["Upgrade"]) == (426, "websocket")
