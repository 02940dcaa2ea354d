"""Messages of a stream: numbering of what is sent, strictness about what comes."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator.record import Violation
from engine.simulator.twilio.messages import (
    ClearReceived,
    MarkReceived,
    MediaReceived,
    MessageWriter,
    read_message,
)

SID = "MZ" + "1" * 32


def writer() -> MessageWriter:
    return MessageWriter(account_sid="AC", call_sid="CA", stream_sid=SID)


def test_messages_look_as_documented() -> None:
    out = writer()
    assert json.loads(out.connected()) == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert json.loads(out.start({"token": "opaque"})) == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC",
            "streamSid": SID,
            "callSid": "CA",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": "opaque"},
        },
        "streamSid": SID,
    }
    assert json.loads(out.media(b"\xff" * 160))["media"] == {
        "track": "inbound",
        "chunk": "1",
        "timestamp": "5",
        "payload": base64.b64encode(b"\xff" * 160).decode(),
    }
    assert json.loads(out.dtmf("1"))["dtmf"] == {"track": "inbound_track", "digit": "1"}
    assert json.loads(out.mark("m")) == {
        "event": "mark",
        "sequenceNumber": "4",
        "mark": {"name": "m"},
        "streamSid": SID,
    }
    assert json.loads(out.stop()) == {
        "event": "stop",
        "sequenceNumber": "5",
        "stop": {"accountSid": "AC", "callSid": "CA"},
        "streamSid": SID,
    }


def test_a_lost_frame_uses_up_its_chunk_and_time_but_no_sequence_number() -> None:
    out = writer()
    out.media(b"\xff")
    out.lose_frame()
    message = json.loads(out.media(b"\xff"))
    assert (message["sequenceNumber"], message["media"]["chunk"], message["media"]["timestamp"]) == ("2", "3", "45")


@given(st.binary(min_size=1, max_size=2000))
def test_audio_of_any_size_is_read(ulaw: bytes) -> None:
    text = json.dumps({"event": "media", "streamSid": SID, "media": {"payload": base64.b64encode(ulaw).decode()}})
    read = read_message(1.0, text, SID)
    if not ulaw.startswith(b"RIFF"):
        assert read == MediaReceived(ulaw)


def test_marks_and_clears_are_read() -> None:
    mark = {"event": "mark", "streamSid": SID, "mark": {"name": "r12:0:1480"}}
    assert read_message(1.0, json.dumps(mark), SID) == MarkReceived("r12:0:1480")
    assert read_message(1.0, json.dumps({"event": "clear", "streamSid": SID}), SID) == ClearReceived()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "unknown event None"),
        ('{"event":"start","streamSid":"SID"}', "unknown event 'start'"),
        ('{"event":["media"],"streamSid":"SID"}', "unknown event"),
        ('{"event":"clear"}', "clear lacks streamSid"),
        ('{"event":"clear","streamSid":"SID","sequenceNumber":"1"}', "clear has surplus 'sequenceNumber'"),
        ('{"event":"clear","streamSid":"SID","streamSid":"SID"}', "twice"),
        ('{"event":"clear","streamSid":"MZ0"}', "clear.streamSid is 'MZ0'"),
        ('{"event":"clear","streamSid":null}', "clear.streamSid is None"),
        ('{"event":"mark","streamSid":"SID"}', "mark lacks mark"),
        ('{"event":"mark","streamSid":"SID","mark":{}}', "mark.mark lacks name"),
        ('{"event":"mark","streamSid":"SID","mark":{"name":""}}', "mark.name is empty"),
        ('{"event":"mark","streamSid":"SID","mark":{"name":1}}', "mark.name is not a string"),
        ('{"event":"media","streamSid":"SID","media":"/w=="}', "media.media is not an object"),
        ('{"event":"media","streamSid":"SID","media":{"payload":""}}', "media.payload is empty"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"/w="}}', "not base64"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"/w ="}}', "not base64"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"é==="}}', "not base64"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"/w==","track":"outbound"}}', "surplus 'track'"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"UklGRgAAAABXQVZF"}}', "file header"),
    ],
)
def test_every_deviation_is_a_violation_31951(text: str, reason: str) -> None:
    read = read_message(1.5, text.replace("SID", SID).replace("stream" + SID, "streamSid"), SID)
    assert isinstance(read, Violation)
    assert (read.at_s, read.code) == (1.5, 31951)
    assert reason in read.reason


def test_a_binary_frame_is_a_violation_31950() -> None:
    read = read_message(1.0, b'{"event":"clear"}', SID)
    assert isinstance(read, Violation)
    assert read.code == 31950


def test_nothing_is_legal_before_start() -> None:
    read = read_message(1.0, '{"event":"clear","streamSid":""}', "")
    assert isinstance(read, Violation)
    assert "before start" in read.reason


@given(st.text(max_size=300))
def test_no_text_makes_reading_raise(text: str) -> None:
    assert isinstance(read_message(1.0, text, SID), Violation)
