"""Twilio's messages (protocols.md A.2, A.3): every documented one, every broken one, and the order they come in."""

import base64
import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.twilio import (
    NUMBER_LIMIT,
    UNSUPPORTED_DATA,
    Connected,
    DtmfReceived,
    MarkReturned,
    MediaReceived,
    StreamStarted,
    StreamStopped,
    TwilioStream,
    Unrecognised,
)

SID = "MZ0123456789abcdef0123456789abcdef"
ULAW = bytes(range(256))[:160]
PAYLOAD = base64.b64encode(ULAW).decode()

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": "ACxxxx",
        "streamSid": SID,
        "callSid": "CAxxxx",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "opaque"},
    },
    "streamSid": SID,
}
MEDIA = {
    "event": "media",
    "sequenceNumber": "4",
    "media": {"track": "inbound", "chunk": "2", "timestamp": "25", "payload": PAYLOAD},
    "streamSid": SID,
}
DTMF = {
    "event": "dtmf",
    "streamSid": SID,
    "sequenceNumber": "5",
    "dtmf": {"track": "inbound_track", "digit": "1"},
}
MARK = {"event": "mark", "sequenceNumber": "4", "streamSid": SID, "mark": {"name": "my label"}}
STOP = {"event": "stop", "sequenceNumber": "5", "stop": {"accountSid": "ACxxxx", "callSid": "CAxxxx"}, "streamSid": SID}
IN_STREAM = (MEDIA, DTMF, MARK, STOP)
EVENTS = (Connected, StreamStarted, MediaReceived, DtmfReceived, MarkReturned, StreamStopped, Unrecognised)

MISSING = object()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def changed(message: dict[str, Any], path: str, value: object = MISSING) -> dict[str, Any]:
    """A copy with the field at a dotted path set, or taken away."""
    whole = copy.deepcopy(message)
    *parents, last = path.split(".")
    inner = whole
    for name in parents:
        inner = inner[name]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return whole


def paths(message: dict[str, Any]) -> list[str]:
    """The dotted paths of all fields, inner ones too."""
    found = []
    for name, value in message.items():
        found.append(name)
        if isinstance(value, dict):
            found += [f"{name}.{inner}" for inner in paths(value)]
    return found


def started() -> TwilioStream:
    stream = TwilioStream()
    stream.receive(json.dumps(CONNECTED))
    stream.receive(json.dumps(START))
    return stream


def assert_usable(stream: TwilioStream) -> None:
    assert stream.receive(json.dumps(MEDIA)) == MediaReceived(25, PAYLOAD, ULAW)
    assert json.loads(stream.send_media(b"\xff"))["streamSid"] == SID


def refuse(stream: TwilioStream, message: object) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        stream.receive(message if isinstance(message, str) else json.dumps(message))
    return caught.value


# ------------------------------------------------------------------------------------------------- documented messages


def test_connected_says_protocol_and_version() -> None:
    assert TwilioStream().receive(json.dumps(CONNECTED)) == Connected("Call", "1.0.0")


def test_start_gives_the_streams_identity_and_parameters() -> None:
    stream = TwilioStream()
    event = stream.receive(json.dumps(START))
    assert event == StreamStarted(SID, "CAxxxx", "ACxxxx", {"token": "opaque"})
    assert stream.stream_sid == SID


@pytest.mark.parametrize("parameters", [MISSING, None, {}])
def test_a_stream_without_parameters_starts(parameters: object) -> None:
    message = changed(START, "start.customParameters", parameters)
    assert TwilioStream().receive(json.dumps(message)) == StreamStarted(SID, "CAxxxx", "ACxxxx", {})


def test_media_gives_the_bytes_and_the_text_as_it_came() -> None:
    assert started().receive(json.dumps(MEDIA)) == MediaReceived(25, PAYLOAD, ULAW)


@pytest.mark.parametrize("size", [1, 2, 3, 159, 160, 161, 8000])
def test_media_may_be_of_any_length(size: int) -> None:
    payload = base64.b64encode(b"\x7f" * size).decode()
    event = started().receive(json.dumps(changed(MEDIA, "media.payload", payload)))
    assert event == MediaReceived(25, payload, b"\x7f" * size)


def test_numbers_may_come_as_json_numbers() -> None:
    message = changed(changed(MEDIA, "media.timestamp", 25), "sequenceNumber", 2)
    assert started().receive(json.dumps(message)) == MediaReceived(25, PAYLOAD, ULAW)


@pytest.mark.parametrize("digit", list("0123456789*#ABCD"))
def test_every_key_of_a_telephone_arrives(digit: str) -> None:
    assert started().receive(json.dumps(changed(DTMF, "dtmf.digit", digit))) == DtmfReceived(digit)


def test_a_mark_returns_its_name() -> None:
    assert started().receive(json.dumps(MARK)) == MarkReturned("my label")


def test_stop_ends_the_stream() -> None:
    assert started().receive(json.dumps(STOP)) == StreamStopped()


def test_an_undocumented_event_is_named_and_cut_to_a_bounded_length() -> None:
    assert started().receive('{"event":"weather"}') == Unrecognised("weather")
    assert started().receive(json.dumps({"event": "x" * 1000})) == Unrecognised("x" * 40)


def test_fields_that_are_not_documented_are_ignored() -> None:
    stream = TwilioStream()
    assert isinstance(stream.receive(json.dumps({**START, "later": 1})), StreamStarted)
    for message in IN_STREAM:
        assert not isinstance(stream.receive(json.dumps({**message, "later": [1]})), Unrecognised)


# --------------------------------------------------------------------------------------------------- malformed messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        "7",
        '"media"',
        "{}",
        '{"event":null}',
        '{"event":[]}',
        '{"event":{}}',
        "[" * 100_000,
        '{"event":"media","media":' + "9" * 5000 + "}",
        "\ufeff{}",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_not_a_message_is_refused_and_changes_nothing(text: str) -> None:
    stream = started()
    assert refuse(stream, text).close_code is None
    assert_usable(stream)


REQUIRED = [
    (START, "start"),
    (START, "start.accountSid"),
    (START, "start.streamSid"),
    (START, "start.callSid"),
    (START, "start.mediaFormat"),
    (START, "streamSid"),
    (MEDIA, "streamSid"),
    (MEDIA, "media"),
    (MEDIA, "media.payload"),
    (MEDIA, "media.timestamp"),
    (DTMF, "streamSid"),
    (DTMF, "dtmf"),
    (DTMF, "dtmf.digit"),
    (MARK, "streamSid"),
    (MARK, "mark"),
    (MARK, "mark.name"),
    (STOP, "streamSid"),
]


@pytest.mark.parametrize(("message", "path"), REQUIRED, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("value", [MISSING, None, [], {}, True], ids=["missing", "null", "[]", "{}", "true"])
def test_a_required_field_that_is_missing_or_of_another_kind_is_refused(
    message: dict[str, Any], path: str, value: object
) -> None:
    stream = TwilioStream() if message is START else started()
    refuse(stream, changed(message, path, value))
    if message is START:
        stream.receive(json.dumps(START))
    assert_usable(stream)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("media.payload", ""),
        ("media.payload", "A"),
        ("media.payload", "AAA"),
        ("media.payload", "AAA=\n"),
        ("media.payload", "=AAA"),
        ("media.payload", "AA==AA=="),
        ("media.payload", 'AA","x":"'),
        ("media.payload", "_-__"),
        ("media.payload", "ÄÄÄÄ"),
        ("media.timestamp", "-1"),
        ("media.timestamp", "soon"),
        ("media.timestamp", ""),
        ("media.timestamp", float("nan")),
        ("media.timestamp", float("inf")),
        ("media.timestamp", "9" * 400),
        ("media.timestamp", str(NUMBER_LIMIT + 1)),
        ("media.track", "outbound"),
        ("media.track", None),
        ("sequenceNumber", "next"),
        ("sequenceNumber", "-1"),
        ("sequenceNumber", None),
        ("sequenceNumber", "9" * 400),
        ("streamSid", ""),
        ("streamSid", "MZother"),
    ],
)
def test_media_with_a_wrong_value_is_refused_and_changes_nothing(path: str, value: object) -> None:
    stream = started()
    refuse(stream, changed(MEDIA, path, value))
    assert stream.messages_missed == 0
    assert_usable(stream)


@pytest.mark.parametrize("digit", ["", "11", "E", "a", " ", "²"])
def test_what_is_no_key_of_a_telephone_is_refused(digit: str) -> None:
    stream = started()
    refuse(stream, changed(DTMF, "dtmf.digit", digit))
    assert stream.messages_missed == 0
    assert_usable(stream)


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "audio/x-alaw", "sampleRate": 8000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2},
        {"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1, "bits": 16},
        {},
    ],
)
def test_another_media_format_is_refused_with_a_close_code(media_format: dict[str, object]) -> None:
    stream = TwilioStream()
    error = refuse(stream, changed(START, "start.mediaFormat", media_format))
    assert error.close_code == UNSUPPORTED_DATA == 1003
    assert stream.stream_sid == ""


def test_a_start_that_is_refused_leaves_the_stream_unstarted() -> None:
    stream = TwilioStream()
    refuse(stream, changed(START, "sequenceNumber", "first"))
    assert stream.stream_sid == ""
    with pytest.raises(LocalProtocolError):
        stream.send_media(b"\xff")
    assert isinstance(stream.receive(json.dumps(START)), StreamStarted)


@given(message=json_values, event=st.sampled_from(["connected", "start", "media", "dtmf", "mark", "stop", "new"]))
def test_any_json_is_an_event_or_refused_and_leaves_the_stream_usable(message: object, event: str) -> None:
    for whole in (message, {**message, "event": event} if isinstance(message, dict) else [message]):
        stream = started()
        with suppress(RemoteProtocolError):
            assert isinstance(stream.receive(json.dumps(whole)), EVENTS)
        assert_usable(stream)


@given(text=st.text(max_size=200))
def test_any_text_is_refused_or_an_event(text: str) -> None:
    stream = started()
    with suppress(RemoteProtocolError):
        assert isinstance(stream.receive(text), EVENTS)
    assert_usable(stream)


@given(data=st.data(), message=st.sampled_from([CONNECTED, START, MEDIA, DTMF, MARK]), value=json_values)
def test_a_message_with_any_field_changed_is_an_event_or_refused(
    data: st.DataObject, message: dict[str, Any], value: object
) -> None:
    mutated = changed(message, data.draw(st.sampled_from(paths(message))), value)
    stream = TwilioStream() if message is START else started()
    try:
        assert isinstance(stream.receive(json.dumps(mutated)), EVENTS)
    except RemoteProtocolError:
        if message is START:
            stream.receive(json.dumps(START))
    if message is not START:
        assert_usable(stream)


@given(message=st.sampled_from([START, MEDIA, DTMF, MARK, STOP]), cut=st.integers(0, 300), noise=st.text(max_size=3))
def test_a_message_with_its_text_damaged_is_an_event_or_refused(message: dict[str, Any], cut: int, noise: str) -> None:
    text = json.dumps(message)
    stream = started()
    try:
        assert isinstance(stream.receive(text[:cut] + noise + text[cut + 1 :]), EVENTS)
    except RemoteProtocolError:
        assert_usable(stream)


# ----------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("sid", [SID, "", None])
@pytest.mark.parametrize("message", IN_STREAM, ids=lambda message: message["event"])
def test_nothing_of_a_stream_comes_before_its_start(message: dict[str, Any], sid: object) -> None:
    stream = TwilioStream()
    refuse(stream, {**message, "streamSid": sid})
    assert isinstance(stream.receive(json.dumps(START)), StreamStarted)
    assert_usable(stream)


@pytest.mark.parametrize("message", [START, CONNECTED], ids=lambda message: message["event"])
def test_a_stream_begins_once(message: dict[str, Any]) -> None:
    stream = started()
    refuse(stream, message)
    refuse(stream, {**START, "streamSid": "MZother", "start": {**START["start"], "streamSid": "MZother"}})  # type: ignore[dict-item]
    assert stream.stream_sid == SID
    assert_usable(stream)


@pytest.mark.parametrize("message", IN_STREAM, ids=lambda message: message["event"])
def test_nothing_of_a_stream_comes_after_its_stop(message: dict[str, Any]) -> None:
    stream = started()
    stream.receive(json.dumps(STOP))
    refuse(stream, message)


@pytest.mark.parametrize("message", IN_STREAM, ids=lambda message: message["event"])
def test_messages_of_another_stream_are_refused(message: dict[str, Any]) -> None:
    stream = started()
    refuse(stream, {**message, "streamSid": "MZother"})
    assert_usable(stream)


def test_a_start_that_names_two_streams_is_refused() -> None:
    refuse(TwilioStream(), {**START, "streamSid": "MZother"})


def test_a_start_without_connected_is_taken() -> None:
    assert isinstance(TwilioStream().receive(json.dumps(START)), StreamStarted)


def test_gaps_of_the_sequence_number_are_counted() -> None:
    stream = started()  # 1
    numbers = [("2", 0), ("3", 0), ("6", 2), ("7", 2), ("7", 2), ("5", 2), ("8", 2), ("10", 3)]
    for number, missed in numbers:
        stream.receive(json.dumps({**MEDIA, "sequenceNumber": number}))
        assert stream.messages_missed == missed


def test_messages_without_a_sequence_number_miss_nothing() -> None:
    stream = started()
    for _ in range(3):
        stream.receive(json.dumps(changed(MEDIA, "sequenceNumber")))
    stream.receive(json.dumps({**MEDIA, "sequenceNumber": "5"}))
    assert stream.messages_missed == 0


# -------------------------------------------------------------------------------------------------------------- sending


@given(ulaw=st.binary(min_size=1, max_size=400))
def test_outgoing_media_has_exactly_the_documented_fields(ulaw: bytes) -> None:
    message = json.loads(started().send_media(ulaw))
    assert message == {"event": "media", "streamSid": SID, "media": {"payload": base64.b64encode(ulaw).decode()}}


def test_outgoing_mark_and_clear_have_exactly_the_documented_fields() -> None:
    stream = started()
    assert json.loads(stream.send_mark("r12:0:1480")) == {
        "event": "mark",
        "streamSid": SID,
        "mark": {"name": "r12:0:1480"},
    }
    assert json.loads(stream.send_clear()) == {"event": "clear", "streamSid": SID}


@given(sid=st.text(min_size=1, max_size=30), name=st.text(max_size=30))
def test_odd_stream_sids_and_mark_names_are_quoted(sid: str, name: str) -> None:
    stream = TwilioStream()
    stream.receive(json.dumps(changed(changed(START, "streamSid", sid), "start.streamSid", sid)))
    for text in (stream.send_media(b"\x00"), stream.send_mark(name), stream.send_clear()):
        assert json.loads(text.decode())["streamSid"] == sid
    assert json.loads(stream.send_mark(name))["mark"] == {"name": name}


def test_nothing_can_be_sent_before_the_start() -> None:
    stream = TwilioStream()
    stream.receive(json.dumps(CONNECTED))
    for send in (lambda: stream.send_media(b"\xff"), lambda: stream.send_mark("m"), stream.send_clear):
        with pytest.raises(LocalProtocolError):
            send()
