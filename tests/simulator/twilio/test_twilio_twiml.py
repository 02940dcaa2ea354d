"""Strict TwiML: what Twilio's SDK writes is read, what is wrong is refused with Twilio's code."""

from __future__ import annotations

import pytest
from twilio.twiml.voice_response import Connect as ConnectVerb
from twilio.twiml.voice_response import Dial as DialVerb
from twilio.twiml.voice_response import VoiceResponse

from engine.simulator.twilio.twiml import (
    Connect,
    Dial,
    Hangup,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    TwimlError,
    read_twiml,
)

URL = "https://example.com/incoming-call"


def read(response: VoiceResponse) -> object:
    return read_twiml(str(response).encode(), URL)


def test_a_stream_with_parameters_and_callbacks_is_read() -> None:
    response = VoiceResponse()
    connect = ConnectVerb(action="/after", method="GET")
    stream = connect.stream(
        url="wss://example.com/media", name="first", track="inbound_track", status_callback="/stream-status"
    )
    stream.parameter(name="token", value="a & b <c>")
    response.append(connect)
    response.say("Goodbye")
    assert read(response) == (
        Connect(
            url="wss://example.com/media",
            name="first",
            parameters={"token": "a & b <c>"},
            status_callback="https://example.com/stream-status",
            action="https://example.com/after",
            method="GET",
        ),
        Say("Goodbye"),
    )


def test_the_other_verbs_are_read() -> None:
    response = VoiceResponse()
    response.say("Hello", voice="alice", language="en-GB")
    response.play("/hold.wav")
    response.play(digits="12")
    response.pause(length=3)
    response.redirect("next", method="GET")
    response.dial("+15005550006", timeout=10)
    dial = DialVerb()
    dial.number("+15005550006")
    response.append(dial)
    response.hangup()
    assert read(response) == (
        Say("Hello", "alice", "en-GB"),
        Play("https://example.com/hold.wav"),
        Play("", "12"),
        Pause(3),
        Redirect("https://example.com/next", "GET"),
        Dial("+15005550006"),
        Dial("Number:+15005550006"),
        Hangup(),
    )
    rejecting = VoiceResponse()
    rejecting.reject(reason="busy")
    assert read(rejecting) == (Reject("busy"),)
    assert read(VoiceResponse()) == ()


@pytest.mark.parametrize(
    ("base", "expected"),
    [(URL, "wss://example.com/media"), ("http://127.0.0.1:8080/in", "ws://127.0.0.1:8080/media")],
)
def test_a_relative_media_url_takes_the_host_of_the_document(base: str, expected: str) -> None:
    body = b'<Response><Connect><Stream url="/media"/></Connect></Response>'
    (connect,) = read_twiml(body, base)
    assert isinstance(connect, Connect)
    assert connect.url == expected


def stream(attributes: str = "", children: str = "") -> str:
    """A document with one stream."""
    head = f'<Stream url="wss://example.com/media" {attributes}>'
    return f"<Response><Connect>{head}{children}</Stream></Connect></Response>"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", 12100),
        ("hello", 12100),
        (' <?xml version="1.0"?><Response/>', 12100),
        ("<Response><Say>a & b</Say></Response>", 12100),
        ("<Response>", 12100),
        ("<response/>", 12100),
        ("<Message/>", 12100),
        ('<!DOCTYPE x [<!ENTITY a "b">]><Response><Say>&a;</Say></Response>', 12100),
        ('<?xml version="1.0" encoding="nonsense"?><Response/>', 12100),
        ("<Response><Say>" + "x" * 70_000 + "</Say></Response>", 11750),
        ("<Response>text</Response>", 12200),
        ("<Response><say>hi</say></Response>", 12200),
        ("<Response><Gather/></Response>", 12200),
        ('<Response><Say tone="warm">hi</Say></Response>', 12200),
        ("<Response><Say/></Response>", 12200),
        ("<Response><Say>a<break/></Say></Response>", 12200),
        ('<Response><Pause length="-1"/></Response>', 12200),
        ('<Response><Reject reason="tired"/></Response>', 12200),
        ('<Response><Redirect method="PUT">/x</Redirect></Response>', 12200),
        ("<Response><Redirect/></Response>", 12200),
        ("<Response><Hangup>now</Hangup></Response>", 12200),
        ("<Response><Dial/></Response>", 12200),
        ("<Response><Connect/></Response>", 12200),
        ("<Response><Connect><Stream/></Connect></Response>", 12200),
        (stream('audioFormat="pcm"', ""), 12200),
        (stream("", "<Say>hi</Say>"), 12200),
        (stream("", '<Parameter name="a"/>'), 12200),
        (stream("", '<Parameter name="a" value="' + "v" * 499 + '"/>'), 12200),
        (stream("", '<Parameter name="a" value="1"/>' * 2), 12200),
        (stream('track="both_tracks"', ""), 31941),
        ('<Response><Connect><Stream url="https://example.com/media"/></Connect></Response>', 31922),
        ('<Response><Connect><Stream url="ws://example.com/media"/></Connect></Response>', 31922),
        ('<Response><Connect><Stream url="wss://example.com/media?token=1"/></Connect></Response>', 31920),
        ('<Response><Connect><Stream url="wss://example.com/media?"/></Connect></Response>', 31920),
    ],
)
def test_what_is_wrong_is_refused_with_twilios_code(body: str, code: int) -> None:
    with pytest.raises(TwimlError) as caught:
        read_twiml(body.encode(), URL)
    assert caught.value.code == code


def test_a_parameter_of_499_characters_passes() -> None:
    body = stream("", '<Parameter name="a" value="' + "v" * 498 + '"/>')
    assert len(read_twiml(body.encode(), URL)) == 1


def test_plain_sockets_are_allowed_on_loopback_only_if_the_simulator_says_so() -> None:
    body = b'<Response><Connect><Stream url="ws://127.0.0.1:8080/media"/></Connect></Response>'
    assert len(read_twiml(body, URL)) == 1
    with pytest.raises(TwimlError) as caught:
        read_twiml(body, URL, allow_plain_loopback=False)
    assert caught.value.code == 31922


def test_a_document_type_is_refused_in_any_encoding() -> None:
    body = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY a "b">]><Response><Say>&a;</Say></Response>'
    with pytest.raises(TwimlError, match="document type"):
        read_twiml(body.encode("utf-16"), URL)
