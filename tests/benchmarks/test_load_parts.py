"""Parts of the load generator that judge the engine must themselves be right."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.carrier_messages import CarrierMessages, Clear, Mark
from benchmarks.load.figures import Figures, percentile, summary
from benchmarks.load.network import DelayLine, Network
from benchmarks.load.options import read_options
from benchmarks.load.playout import Playout
from benchmarks.load.realtime_messages import RealtimeMessages
from benchmarks.load.sockets import Loop
from benchmarks.load.speech import FRAME_SAMPLES, Follower, Tape
from benchmarks.load.websocket import PING, TEXT, ClientFrames, FrameReader, server_frame

TAPE = Tape(1)
ORIGIN = TAPE.origin(3)
SID = f"MZ{1:032x}"


def frames(first: int, count: int) -> list[bytes]:
    return [TAPE.ulaw(ORIGIN, number * FRAME_SAMPLES, FRAME_SAMPLES) for number in range(first, first + count)]


def follow(pieces: list[bytes], sent_frames: int = 1000) -> Follower:
    follower = Follower(TAPE, ORIGIN)
    for piece in pieces:
        follower.take(piece, sent_frames * FRAME_SAMPLES)
    return follower


def faults(follower: Follower) -> tuple[int, int, int]:
    return follower.lost, follower.repeated, follower.foreign


# ---------------------------------------------------------------------------------------------------------- the tape


def test_a_faithful_stream_has_no_faults_however_it_is_cut() -> None:
    whole = b"".join(frames(0, 50))
    for size in (1, 7, 160, 333, 8000):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        # the first piece must be long enough to be found on the tape
        follower = follow([b"".join(pieces[:40]), *pieces[40:]])
        assert faults(follower) == (0, 0, 0)
        assert follower.position == len(whole)


def test_a_dropped_frame_is_lost() -> None:
    assert faults(follow([*frames(0, 10), *frames(11, 10)])) == (FRAME_SAMPLES, 0, 0)


def test_a_frame_sent_twice_is_repeated() -> None:
    assert faults(follow([*frames(0, 10), *frames(9, 10)])) == (0, FRAME_SAMPLES, 0)


def test_another_calls_frame_is_foreign() -> None:
    other = TAPE.ulaw(TAPE.origin(4), 40_000, FRAME_SAMPLES)
    assert follow([*frames(0, 10), other]).foreign == FRAME_SAMPLES


def test_audio_that_was_never_sent_is_foreign() -> None:
    assert follow(frames(0, 10), sent_frames=9).foreign == FRAME_SAMPLES


def test_a_damaged_byte_is_noticed() -> None:
    good = frames(0, 20)
    damaged = bytes([*good[10][:80], good[10][80] ^ 1, *good[10][81:]])
    assert any(faults(follow([*good[:10], damaged, *good[11:]])))


def test_silence_put_in_is_padding_and_no_fault() -> None:
    follower = follow([*frames(0, 5), b"\xff" * 80, *frames(5, 5)])
    assert faults(follower) == (0, 0, 0)
    assert follower.padding == 80


# ------------------------------------------------------------------------------------------------------- the playout


def test_the_buffer_plays_eight_bytes_a_millisecond() -> None:
    playout = Playout()
    assert playout.add(0.0, 0, 160) == 0.0
    playout.add(0.0, 160, 160)
    assert playout.depth_ms(0.010) == pytest.approx(30)
    assert playout.heard_to(0.010) == 80
    assert playout.heard_to(1.0) == 320


def test_a_late_frame_tells_how_long_the_buffer_was_dry() -> None:
    playout = Playout()
    playout.add(0.0, 0, 160)
    assert playout.add(0.050, 160, 160) == pytest.approx(0.030)


def test_a_clear_gives_the_marks_back_and_dries_nothing() -> None:
    playout = Playout()
    playout.add(0.0, 0, 1600)
    playout.mark(0.0, "one")
    assert playout.clear(0.1) == ["one"]
    assert playout.heard_to(0.2) == 800
    assert playout.add(0.5, 1600, 160) == 0.0


def test_a_mark_is_due_when_what_was_before_it_has_played() -> None:
    playout = Playout()
    playout.add(0.0, 0, 160)
    due = playout.mark(0.0, "end")
    assert playout.due_marks(due - 0.001) == []
    assert playout.due_marks(due) == ["end"]


# -------------------------------------------------------------------------------------------------------- the frames


@pytest.mark.parametrize("masked", [False, True])
def test_messages_survive_being_cut_at_every_byte(masked: bool) -> None:
    payloads = [b"x", b"y" * 125, b"z" * 126, b"w" * 300, b"v" * 70_000]
    build = ClientFrames(b"abcd").build if masked else server_frame
    stream = build(b"", PING) + b"".join(build(payload) for payload in payloads)
    expected = [(PING, b""), *((TEXT, payload) for payload in payloads)]
    cuts = [*range(1, 700, 13), 700, 30_000, len(stream) - 1]
    for cut in cuts:
        breaches: list[str] = []
        reader = FrameReader(masked=masked, breach=lambda kind, _, seen=breaches: seen.append(kind))
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == expected
        assert not breaches


@given(st.lists(st.binary(min_size=100, max_size=400), min_size=1, max_size=5), st.booleans())
def test_the_short_way_reads_what_the_long_way_reads(payloads: list[bytes], masked: bool) -> None:
    build = ClientFrames(b"\x01\x80\xff\x7f").build if masked else server_frame

    def breach(kind: str, _: bytes) -> None:
        raise AssertionError(kind)

    short, long = (FrameReader(masked=masked, breach=breach) for _ in range(2))
    whole = [message for payload in payloads for message in short.feed(build(payload))]
    # a byte held back forces the careful way
    cut = [
        message
        for payload in payloads
        for part in (build(payload),)
        for half in (part[:1], part[1:])
        for message in long.feed(half)
    ]
    assert whole == cut == [(TEXT, payload) for payload in payloads]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xc1\x01x", "reserved bit"),
        (b"\x81\x81abcdx", "wrong masking"),
        (b"\x81\x7e\x00\x05hello", "length not minimal"),
        (b"\x83\x01x", "unknown opcode"),
        (b"\x09\x00", "control frame fragmented"),
    ],
)
def test_breaches_of_framing_are_reported(data: bytes, kind: str) -> None:
    breaches: list[str] = []
    FrameReader(masked=False, breach=lambda name, _: breaches.append(name)).feed(data)
    assert any(kind in breach for breach in breaches)


# ------------------------------------------------------------------------------------------------------ the messages


def media(payload: str = "f39/") -> bytes:
    return f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"{payload}"}}}}'.encode()


@pytest.mark.parametrize("strict", [False, True])
def test_valid_orders_are_read(strict: bool) -> None:
    figures = Figures()
    messages = CarrierMessages(SID, figures.violation, strict=strict)
    for _ in range(40):
        assert messages.read(media()) == b"\x7f\x7f\x7f"
    assert messages.read(f'{{"event":"mark","streamSid":"{SID}","mark":{{"name":"a"}}}}'.encode()) == Mark("a")
    assert messages.read(f'{{"event":"clear","streamSid":"{SID}"}}'.encode()) == Clear()
    assert not figures.violations


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b"not json",
        media("f3 /"),
        media(""),
        media().replace(b"MZ", b"MX"),
        media()[:-1] + b',"extra":1}',
        media().replace(b'"event":"media",', b'"event":"media","event":"media",'),
    ],
)
def test_breaches_are_found_behind_valid_messages(strict: bool, text: bytes) -> None:
    figures = Figures()
    messages = CarrierMessages(SID, figures.violation, strict=strict)
    messages.read(media())
    assert messages.read(text) is None
    assert sum(figures.violations.values()) == 1


def test_appends_are_decoded_and_unknown_events_refused() -> None:
    figures = Figures()
    messages = RealtimeMessages("pcmu", figures.violation)
    for _ in range(20):
        assert messages.read(b'{"type":"input_audio_buffer.append","audio":"f39/"}') == b"\x7f\x7f\x7f"
    assert messages.read(b'{"type":"input_audio_buffer.append","audio":"f39/","more":1}') is None
    assert messages.read(b'{"type":"session.create"}') is None
    assert sum(figures.violations.values()) == 2


# ------------------------------------------------------------------------------------------------- network, figures


class Timers(Loop):
    """A loop whose time is told."""

    def __init__(self) -> None:
        super().__init__()
        self.due: list[tuple[float, object]] = []

    def call_at(self, when_s: float, callback: object) -> None:  # type: ignore[override]
        self.due.append((when_s, callback))


def test_a_delay_line_keeps_the_order_and_loses_nothing() -> None:
    loop, arrived = Timers(), []
    try:
        line = DelayLine(
            loop, Network(delay_s=0.02, jitter_s=0.05), Random(1), lambda data, now: arrived.append((now, data))
        )
        for number in range(100):
            line.put(bytes([number]), number / 1000)
        for when_s, callback in sorted(loop.due, key=lambda each: each[0]):
            callback(when_s)  # type: ignore[operator]
    finally:
        loop.close()
    assert [data[0] for _, data in arrived] == list(range(100))
    assert all(0.02 <= now - number / 1000 <= 0.1 for number, (now, _) in enumerate(arrived))


def test_percentiles_are_samples() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    figures = Figures()
    figures.up_ms.extend(range(1000))
    assert summary(figures.up_ms) == {"count": 1000, "p50": 500, "p99": 990, "p99.9": 999, "min": 0, "max": 999}


def test_examples_of_violations_are_bounded() -> None:
    figures = Figures()
    for _ in range(100):
        figures.violation("kind", "x" * 10_000)
    assert figures.violations == Counter({"kind": 100})
    assert len(figures.examples["kind"]) == 2
    assert all(len(example) <= 300 for example in figures.examples["kind"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--calls", "0"],
        ["--stall-ms", "100", "--url", "ws://127.0.0.1:1/", "--provider-port", "1"],
        ["--stall-ms", "3000"],
        ["--network-delay-ms", "-1"],
        ["--legs", "sideways"],
    ],
)
def test_impossible_runs_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read_options(arguments)
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err
