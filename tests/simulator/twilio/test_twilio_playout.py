"""The playout buffer: nothing lost, marks in order, heard milliseconds exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator.record import Chunk
from engine.simulator.twilio.playout import MarkDue, PlayoutBuffer

START_S = 123_456.789


def test_audio_plays_at_eight_bytes_per_millisecond_from_its_arrival() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(range(160)))
    news = buffer.advance(START_S + 0.005)
    assert news.played == [Chunk(START_S, bytes(range(40)))]
    assert buffer.depth_ms(START_S + 0.005) == pytest.approx(15, abs=1e-3)
    assert buffer.next_due() == pytest.approx(START_S + 0.020)


def test_a_mark_with_nothing_buffered_returns_at_once() -> None:
    buffer = PlayoutBuffer()
    buffer.mark(START_S, "empty")
    assert buffer.advance(START_S).marks == [MarkDue(START_S, "empty")]


def test_a_mark_is_due_exactly_when_the_audio_before_it_is_over() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.mark(START_S, "a")
    buffer.receive(START_S, bytes(160))
    assert buffer.next_due() == pytest.approx(START_S + 0.020)
    assert buffer.advance(START_S + 0.0199).marks == []
    due_s = buffer.next_due()
    assert due_s is not None
    assert buffer.advance(due_s).marks == [MarkDue(due_s, "a")]
    assert buffer.depth_ms(due_s) == pytest.approx(20, abs=1e-3)


def test_playout_waits_for_its_start_delay_and_marks_wait_with_it() -> None:
    buffer = PlayoutBuffer(playout_start_ms=60)
    buffer.receive(START_S, bytes(80))
    buffer.mark(START_S, "a")
    assert buffer.advance(START_S + 0.060).played == []
    assert buffer.depth_ms(START_S + 0.060) == 10
    news = buffer.advance(START_S + 0.071)
    assert [chunk.at_s for chunk in news.played] == [START_S + 0.060]
    assert [mark.name for mark in news.marks] == ["a"]


def test_clear_keeps_what_was_heard_and_flushes_the_rest_with_every_mark_oldest_first() -> None:
    buffer = PlayoutBuffer()
    for name in "abc":
        buffer.receive(START_S, bytes(160))
        buffer.mark(START_S, name)
    buffer.clear(START_S + 0.025)
    buffer.mark(START_S + 0.026, "later")
    news = buffer.advance(START_S + 0.026)
    assert sum(len(chunk.ulaw) for chunk in news.played) == 200
    assert [(mark.name, mark.flushed) for mark in news.marks] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("later", False),
    ]
    assert buffer.depth_ms(START_S + 0.026) == 0
    assert buffer.flushed_bytes == 280


def test_running_dry_in_a_talk_spurt_is_an_underrun_with_its_length() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.receive(START_S + 0.050, bytes(160))
    (gap,) = buffer.advance(START_S + 0.050).gaps
    assert gap.at_s == pytest.approx(START_S + 0.020)
    assert gap.gap_ms == pytest.approx(30)
    assert not gap.after_mark


@pytest.mark.parametrize("mark_after_s", [0.001, 0.030])
def test_a_pause_after_a_mark_is_no_underrun(mark_after_s: float) -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.mark(START_S + mark_after_s, "end of item")
    buffer.receive(START_S + 0.050, bytes(160))
    assert [gap.after_mark for gap in buffer.advance(START_S + 0.050).gaps] == [True]


def test_a_mark_earlier_in_the_spurt_does_not_hide_an_underrun() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.mark(START_S, "interval")
    buffer.receive(START_S, bytes(160))
    buffer.receive(START_S + 0.100, bytes(160))
    assert [gap.after_mark for gap in buffer.advance(START_S + 0.100).gaps] == [False]


@pytest.mark.parametrize("at_s", [0.020, 1.021])
def test_audio_in_time_or_a_second_later_is_no_underrun(at_s: float) -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.receive(START_S + at_s, bytes(160))
    assert buffer.advance(START_S + at_s).gaps == []


def test_silence_after_a_clear_is_no_underrun() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, bytes(160))
    buffer.clear(START_S + 0.010)
    buffer.receive(START_S + 0.100, bytes(160))
    assert buffer.advance(START_S + 0.100).gaps == []


def test_what_does_not_fit_is_counted_as_surplus() -> None:
    buffer = PlayoutBuffer(limit_ms=100)
    buffer.receive(START_S, bytes(1000))
    assert (buffer.surplus_bytes, buffer.depth_ms(START_S)) == (200, 100)


def test_time_that_runs_backwards_is_refused() -> None:
    buffer = PlayoutBuffer()
    buffer.receive(START_S, b"\x00")
    with pytest.raises(ValueError, match="backwards"):
        buffer.advance(START_S - 1)


orders = st.one_of(
    st.tuples(st.just("receive"), st.integers(1, 800)),
    st.tuples(st.just("mark"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("advance"), st.just(0)),
)
waits_s = st.one_of(st.just(0.0), st.sampled_from([0.020, 0.1]), st.floats(0, 0.3))


@given(
    steps=st.lists(st.tuples(orders, waits_s), max_size=60),
    playout_start_ms=st.sampled_from([0.0, 40.0]),
    origin_s=st.floats(0, 2e6),
)
def test_every_byte_is_played_flushed_or_buffered_and_every_mark_comes_back_in_order(
    steps: list[tuple[tuple[str, int], float]], playout_start_ms: float, origin_s: float
) -> None:
    buffer = PlayoutBuffer(playout_start_ms=playout_start_ms)
    now, counter = origin_s, 0
    sent, played, sent_marks, marks = bytearray(), [], [], []
    for (order, size), wait_s in steps:
        now += wait_s
        if order == "receive":
            payload = bytes((counter + n) % 251 for n in range(size))
            counter += size
            sent += payload
            buffer.receive(now, payload)
        elif order == "mark":
            sent_marks.append(str(len(sent_marks)))
            buffer.mark(now, sent_marks[-1])
        elif order == "clear":
            buffer.clear(now)
        news = buffer.advance(now)
        played += news.played
        marks += news.marks
        assert all(depth_ms >= 0 for _, depth_ms in news.depth)
        assert buffer.depth_ms(now) >= 0
        assert buffer.played_bytes + buffer.flushed_bytes + buffer.buffered_bytes == len(sent)
    while (due_s := buffer.next_due()) is not None:
        now = max(now, due_s)
        news = buffer.advance(now)
        played += news.played
        marks += news.marks
    assert [mark.name for mark in marks] == sent_marks
    assert buffer.heard_ms == sum(len(chunk.ulaw) for chunk in played) / 8
    assert buffer.pending_marks == buffer.buffered_bytes == 0
    for before, after in pairwise(played):
        assert after.at_s >= before.end_s - 1e-6
    if buffer.flushed_bytes == 0:
        assert b"".join(chunk.ulaw for chunk in played) == bytes(sent)
