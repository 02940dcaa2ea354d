"""The short way through C means exactly what the long way through the library and Python means.

Each script is played three times: without the mover, with its pass at each arrival, and with its pass on the grid. What both
peers see, and the call's own account, must be the same, whatever arrives and however it is cut.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_frames import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, frame, frame_ends, text_frame
from two_ended_call import SID, Outcome, Pass, Send, Side, Step, play

# a failing script is shown whole, however long
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr:hypothesis.errors.HypothesisWarning")
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
WAYS = ("arrivals", "grid")


def same_on_every_way(script: list[Step], **overrides: Any) -> Outcome:
    """Plays the script on every way, and returns what the long one did."""
    slow = play("slow", script, **overrides)
    for way in WAYS:
        fast = play(way, script, **overrides)
        assert fast.to_provider == slow.to_provider
        assert fast.to_carrier == slow.to_carrier
        assert (fast.provider_closed, fast.carrier_closed) == (slow.provider_closed, slow.carrier_closed)
        assert fast.figures == slow.figures
    return slow


def cut(data: bytes, sizes: list[int], side: Side) -> list[Step]:
    """Cuts into pieces of these sizes, again and again."""
    steps: list[Step] = []
    ends = frame_ends(data)
    at = 0
    while at < len(data):
        piece = data[at : at + sizes[len(steps) % len(sizes)]]
        steps.append(Send(side, piece, tuple(end - at for end in ends if at < end < at + len(piece))))
        at += len(piece)
    return steps


@st.composite
def cuts(draw: st.DrawFn, data: bytes, side: Side) -> list[Step]:
    kind = draw(st.sampled_from(["whole", "bytes", "pieces", "pieces"]))
    if kind == "whole":
        return cut(data, [60_000], side)
    if kind == "bytes" and len(data) < 800:
        return cut(data, [1], side)
    return cut(data, draw(st.lists(st.integers(1, 700), min_size=1, max_size=8)), side)


# ----------------------------------------------------------------------------------------------- what a carrier may send


class Stream:
    """Where Twilio's stream stands."""

    def __init__(self) -> None:
        self.sequence = 2
        self.at_ms = 0

    def media(self, ulaw: bytes) -> dict[str, Any]:
        message = {
            "event": "media",
            "sequenceNumber": str(self.sequence),
            "media": {
                "track": "inbound",
                "chunk": str(self.sequence),
                "timestamp": str(self.at_ms),
                "payload": base64.b64encode(ulaw).decode(),
            },
            "streamSid": SID,
        }
        self.sequence += 1
        self.at_ms += len(ulaw) // 8
        return message

    def other(self, **message: Any) -> dict[str, Any]:
        numbered = {"sequenceNumber": str(self.sequence), "streamSid": SID, **message}
        self.sequence += 1
        return numbered


@st.composite
def speech(draw: st.DrawFn) -> bytes:
    n = draw(st.sampled_from([160, 160, 160, 80, 8, 1, 2, 3, 161, 480, 1600]))
    return bytes([draw(st.integers(0, 255))]) * (n - 1) + bytes([draw(st.integers(0, 255))])


@st.composite
def odd_media(draw: st.DrawFn, stream: Stream) -> str:
    """A media message with something about it; some mean the same as a plain one, some something else, some nothing."""
    oddity = draw(st.integers(0, 25))
    if oddity == 0:
        stream.sequence += draw(st.integers(1, 3))
    if oddity == 1:
        stream.at_ms += draw(st.sampled_from([1, 9, 10, 60, 500, 5000]))
    if oddity == 2:
        stream.at_ms -= draw(st.sampled_from([1, 9, 10, 40]))
    message = stream.media(draw(speech()))
    media = message["media"]
    changes: dict[int, tuple[dict[str, Any], str, Any]] = {
        3: (message, "streamSid", "MZ" + "1" * 32),
        4: (media, "track", "outbound"),
        5: (media, "timestamp", int(media["timestamp"])),
        6: (media, "timestamp", "0" + media["timestamp"]),
        7: (message, "sequenceNumber", int(message["sequenceNumber"])),
        8: (message, "sequenceNumber", "1"),
        9: (media, "payload", ""),
        10: (media, "payload", media["payload"][:-1]),
        11: (media, "payload", media["payload"] + "===="),
        12: (media, "payload", "/x=="),
        13: (media, "payload", "/9=="[:2] + media["payload"][2:]),
        14: (media, "payload", None),
        15: (media, "timestamp", "99999999999999999999"),
        16: (message, "more", {"a": [1, 2.5e3, None]}),
        17: (media, "more", True),
        18: (message, "sequenceNumber", "-5"),
        19: (media, "timestamp", " 7 "),
        20: (media, "chunk", "many"),
    }
    if oddity in changes:
        into, name, value = changes[oddity]
        into[name] = value
    if oddity == 21:
        del message[draw(st.sampled_from(["sequenceNumber", "streamSid"]))]
    if oddity == 22:
        del media[draw(st.sampled_from(sorted(media)))]
    message["media"] = dict(draw(st.permutations(list(media.items()))))
    text = json.dumps(
        dict(draw(st.permutations(list(message.items())))),
        indent=draw(st.sampled_from([None, None, 1, "\t"])),
        separators=draw(st.sampled_from([None, (",", ":")])),
    )
    if oddity == 23:
        text = text.replace(
            '"payload"', draw(st.sampled_from(['"pay\\u006coad"', '"payload": "AAAA", "payload"', "payload"]))
        )
    if oddity == 24:
        text = (
            draw(st.sampled_from(["", " ", "\n", "\ufeff", "[", "\x0b"]))
            + text
            + draw(st.sampled_from(["", " ", "x", "}"]))
        )
    if oddity == 25:
        text = text[: draw(st.integers(0, len(text)))]
    return text


@st.composite
def carrier_text(draw: st.DrawFn, stream: Stream) -> str:
    kind = draw(st.integers(0, 19))
    if kind < 9:
        return json.dumps(stream.media(draw(speech())))
    if kind < 15:
        return draw(odd_media(stream))
    message = {
        15: lambda: stream.other(event="mark", mark={"name": "0:160"}),
        16: lambda: stream.other(event="dtmf", dtmf={"track": "inbound_track", "digit": draw(st.sampled_from("12#"))}),
        17: lambda: stream.other(event="tomorrow"),
        18: lambda: {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        19: lambda: stream.other(event="dtmf", dtmf={"digit": "#"}),
    }[kind]()
    return json.dumps(message)


def fragments(text: bytes, at: int, between: bytes, mask: bytes | None) -> bytes:
    """A message in three pieces, with something between them."""
    at = min(at, len(text))
    return b"".join(
        [
            frame(TEXT, text[:at], mask, fin=False),
            between,
            frame(CONTINUATION, text[at : at + 7], mask, fin=False),
            frame(CONTINUATION, text[at + 7 :], mask),
        ]
    )


@st.composite
def framed(draw: st.DrawFn, text: str, mask: bytes | None) -> bytes:
    """One message's frames, mostly one; or in rare cases something else."""
    data = text.encode()
    kind = draw(st.integers(0, 40))
    if kind < 28:
        return frame(TEXT, data, mask)
    control = st.sampled_from([b"", frame(PING, b"are you there", mask), frame(PONG, b"", mask)])
    if kind < 34:
        return fragments(data, draw(st.integers(0, 200)), draw(control), mask)
    if kind < 37:
        return draw(control) + frame(TEXT, data, mask)
    return {
        37: lambda: frame(BINARY, data, mask) + frame(TEXT, data, mask),
        38: lambda: frame(TEXT, b"", mask) + frame(TEXT, data, mask),
        39: lambda: frame(TEXT, data + b"\xff", mask) if draw(st.booleans()) else frame(TEXT, data, mask),
        40: lambda: draw(violation(data, mask)) if draw(st.booleans()) else frame(TEXT, data, mask),
    }[kind]()


@st.composite
def violation(draw: st.DrawFn, data: bytes, mask: bytes | None) -> bytes:
    """What ends a connection, and what the peer sends all the same behind it."""
    wrong = draw(
        st.sampled_from(
            [
                frame(TEXT, data, mask, reserved=4),
                frame(TEXT, data, None if mask else MASK),
                frame(3, data, mask),
                frame(CONTINUATION, data, mask),
                frame(TEXT, data, mask, fin=False) + frame(TEXT, data, mask),
                frame(PING, data, mask),
                frame(PING, b"", mask, fin=False),
                frame(CLOSE, b"\x03\xe8bye", mask),
                frame(CLOSE, b"", mask),
                frame(CLOSE, b"\x03", mask),
                bytes([0x81, 0x7F | (0x80 if mask else 0)]) + b"\xff" * 8 + (mask or b"") + data,
                bytes([0x81, 0x7F | (0x80 if mask else 0)]) + b"\x7f" + b"\xff" * 7 + (mask or b"") + data,
            ]
        )
    )
    return wrong + frame(TEXT, data, mask)


@st.composite
def carrier_script(draw: st.DrawFn) -> list[Step]:
    stream = Stream()
    masks = st.sampled_from([b"\0\0\0\0", MASK, b"\xff\xff\xff\xff"])
    texts = draw(st.lists(st.deferred(lambda: carrier_text(stream)), min_size=1, max_size=25))
    data = b"".join(draw(framed(text, draw(masks))) for text in texts)
    return draw(cuts(data, "carrier"))


@EXAMPLES
@given(script=carrier_script())
def test_the_caller_is_heard_alike_on_every_way(script: list[Step]) -> None:
    same_on_every_way(script)


@EXAMPLES
@given(script=carrier_script())
def test_the_caller_is_heard_alike_where_the_provider_wants_24_khz(script: list[Step]) -> None:
    same_on_every_way(script, openai_audio="pcm24k")


# ---------------------------------------------------------------------------------------------- what a provider may send


def delta(response: int, item: int, audio: bytes, **more: Any) -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "event_id": "event_1",
        "response_id": f"resp_{response}",
        "item_id": f"item_{item}",
        "output_index": 0,
        "content_index": 0,
        "delta": base64.b64encode(audio).decode(),
        **more,
    }


@st.composite
def odd_delta(draw: st.DrawFn) -> str:
    message = delta(draw(st.integers(0, 1)), draw(st.integers(0, 2)), draw(speech()))
    oddity = draw(st.integers(0, 14))
    changes: dict[int, tuple[str, Any]] = {
        0: ("type", "response.audio.delta"),
        1: ("content_index", 1),
        2: ("content_index", 1.0),
        3: ("content_index", "0"),
        4: ("content_index", -1),
        5: ("delta", ""),
        6: ("delta", "/x=="),
        7: ("delta", message["delta"][:-1]),
        8: ("delta", None),
        9: ("item_id", 'a "quoted" one'),
        10: ("more", [1]),
        11: ("response_id", 5),
    }
    if oddity in changes:
        name, value = changes[oddity]
        message[name] = value
    if oddity == 12:
        del message[draw(st.sampled_from(sorted(message)))]
    text = json.dumps(dict(draw(st.permutations(list(message.items())))), indent=draw(st.sampled_from([None, 1])))
    if oddity == 13:
        text = text[: draw(st.integers(0, len(text)))]
    if oddity == 14:
        text = text.replace('"item_id"', '"item_id": "item_9", "item_id"')
    return text


@st.composite
def provider_text(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 19))
    response, item = draw(st.integers(0, 1)), draw(st.integers(0, 2))
    if kind < 8:
        return json.dumps(delta(response, item, draw(speech()) * draw(st.integers(1, 5))))
    if kind < 12:
        return draw(odd_delta())
    ids = {"response_id": f"resp_{response}", "item_id": f"item_{item}"}
    event: dict[str, Any] = {
        12: {"type": "response.created", "response": {"id": f"resp_{response}"}},
        13: {"type": "response.output_audio.done", **ids},
        14: {"type": "input_audio_buffer.speech_started", "audio_start_ms": 5, "item_id": "item_c"},
        15: {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 50, "item_id": "item_c"},
        16: {"type": "response.done", "response": {"id": f"resp_{response}", "status": "completed"}},
        17: {
            "type": "response.output_audio_transcript.delta",
            **ids,
            "delta": draw(st.sampled_from(["Hi", 'a "b"', "\u00e4"])),
        },
        18: {"type": "error", "error": {"code": "oops", "type": "server_error", "message": "m"}},
        19: {"type": "response.output_audio_transcript.done", **ids, "transcript": "Hi."},
    }[kind]
    return json.dumps(event, ensure_ascii=draw(st.booleans()))


@st.composite
def provider_script(draw: st.DrawFn) -> list[Step]:
    texts = draw(st.lists(provider_text(), min_size=1, max_size=25))
    data = b"".join(draw(framed(text, None)) for text in texts)
    steps = draw(cuts(data, "provider"))
    pauses = draw(st.dictionaries(st.integers(0, len(steps)), st.integers(1, 300), max_size=3))
    return [
        step for index, sent in enumerate(steps) for step in ([Pass(pauses[index])] if index in pauses else []) + [sent]
    ]


@EXAMPLES
@given(script=provider_script())
def test_the_model_is_played_alike_on_every_way(script: list[Step]) -> None:
    same_on_every_way(script)


@EXAMPLES
@given(script=provider_script())
def test_the_model_is_played_alike_where_it_speaks_24_khz(script: list[Step]) -> None:
    same_on_every_way(script, openai_audio="pcm24k")


@EXAMPLES
@given(data=st.data())
def test_both_directions_at_once_are_alike_on_every_way(data: st.DataObject) -> None:
    ways = [data.draw(carrier_script())[:60], data.draw(provider_script())[:60]]
    script: list[Step] = []
    while any(ways):
        taken = data.draw(st.sampled_from([way for way in ways if way]))
        script.append(taken.pop(0))
    same_on_every_way(script, openai_audio=data.draw(st.sampled_from(["pcmu", "pcm24k"])))


# -------------------------------------------------------------------------------------------------------- in particular


def plain_stream(n: int) -> tuple[bytes, list[str]]:
    stream = Stream()
    messages = [stream.media(bytes([index]) * 160) for index in range(n)]
    data = b"".join(text_frame(json.dumps(message), MASK) for message in messages)
    return data, [message["media"]["payload"] for message in messages]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 7, 300, 50_000])
def test_all_but_the_first_media_message_take_the_short_way(way: Any, size: int) -> None:
    data, payloads = plain_stream(9)
    outcome = play(way, cut(data, [size], "carrier"))
    assert outcome.appended() == payloads
    assert outcome.carried == 8
    assert outcome.figures["media_received"] == 9


def test_the_long_way_is_not_the_short_one() -> None:
    data, payloads = plain_stream(9)
    outcome = play("slow", cut(data, [100], "carrier"))
    assert outcome.appended() == payloads
    assert outcome.carried == 0


@settings(max_examples=40, deadline=None)
@given(audio=st.lists(st.binary(min_size=1, max_size=900), min_size=2, max_size=8))
@example(audio=[b"\0", b"\xff" * 767, b"\xff" * 768, b"\xff" * 769, bytes(range(256))])
def test_base64_is_read_and_written_as_python_does(audio: list[bytes]) -> None:
    stream = Stream()
    texts = [json.dumps(stream.media(piece)) for piece in audio]
    said = b"".join(text_frame(text, MASK) for text in texts)
    spoken = b"".join(text_frame(json.dumps(delta(0, 0, piece)), None) for piece in audio)
    outcome = play("arrivals", [Send("carrier", said), Send("provider", spoken), Pass(1000)])
    assert [binascii.a2b_base64(text, strict_mode=True) for text in outcome.appended()] == audio
    media = [json.loads(text) for text in outcome.to_carrier]
    played = b"".join(base64.b64decode(m["media"]["payload"]) for m in media if m["event"] == "media")
    whole = b"".join(audio)
    assert played == whole.ljust(len(played), b"\xff")  # at the call's end the last frame is filled
    assert 0 <= len(played) - len(whole) < 160


def test_nothing_is_carried_behind_a_stop() -> None:
    data, payloads = plain_stream(3)
    stream = Stream()
    stream.sequence, stream.at_ms = 5, 60
    stop = text_frame(json.dumps(stream.other(event="stop", stop={})), MASK)
    after = text_frame(json.dumps(stream.media(b"\x01" * 160)), MASK)
    outcome = same_on_every_way([Send("carrier", data), Send("carrier", stop + after)])
    assert outcome.appended() == payloads
    assert outcome.figures["reason"] == "hung up"


@pytest.mark.parametrize("side", ["carrier", "provider"])
def test_audio_amid_a_fragmented_message_is_a_violation_on_every_way(side: Side) -> None:
    data, payloads = plain_stream(3)
    stream = Stream()
    stream.sequence, stream.at_ms = 5, 60
    messages = {"carrier": stream.media(b"\x01" * 160), "provider": delta(0, 0, bytes(160))}
    mask = MASK if side == "carrier" else None
    amid = frame(TEXT, b"{", mask, fin=False) + text_frame(json.dumps(messages[side]), mask)
    outcome = same_on_every_way([*cut(data, [100], "carrier"), *cut(amid, [50], side)])
    assert outcome.appended() == payloads
    assert outcome.to_carrier == []
    assert (outcome.carrier_closed if side == "carrier" else outcome.provider_closed) == 1002


@pytest.mark.parametrize("size", [1000, 65_536, 60_000])
def test_a_message_beyond_the_limit_closes_the_connection_on_every_way(size: int) -> None:
    data, _ = plain_stream(3)
    long = text_frame('{"event":"' + "x" * 70_000 + '"}', MASK)
    outcome = same_on_every_way(cut(data + long + data, [size], "carrier"))
    assert outcome.carrier_closed == 1009


@pytest.mark.parametrize("sid", ["MZ" + "0" * 500, 'a "quoted" \u00e4', "\ud800", "x"])
def test_a_stream_of_any_id_is_heard_and_played_to(sid: str) -> None:
    stream = Stream()
    messages = [{**stream.media(bytes([index]) * 160), "streamSid": sid} for index in range(4)]
    said = b"".join(text_frame(json.dumps(message), MASK) for message in messages)
    spoken = text_frame(json.dumps(delta(0, 0, bytes(1600))), None)
    outcome = same_on_every_way([Send("carrier", said), Send("provider", spoken), Pass(50)], stream_sid=sid)
    assert len(outcome.appended()) == 4
    assert {json.loads(text)["streamSid"] for text in outcome.to_carrier} == {sid}
    assert outcome.figures["media_sent"] == 10
