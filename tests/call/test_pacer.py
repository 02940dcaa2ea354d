"""The frame pacer by itself: its schedule, its frames, its counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.call.pacer import QUEUE_LIMIT_MS, SILENCE, FramePacer, PacedFrame

MS = 0.001


def frames_at(pacer: FramePacer, now: float) -> list[PacedFrame]:
    frames = []
    while (frame := pacer.take(now)) is not None:
        frames.append(frame)
    return frames


def departures(pacer: FramePacer, now: float, until: float) -> list[float]:
    """When frames leave if the clock rings exactly when they are due."""
    times = [now] * len(frames_at(pacer, now))
    while (due_at := pacer.due_at()) is not None and due_at <= until:
        times += [due_at] * len(frames_at(pacer, due_at))
    return times


def test_pacer_sends_the_lead_at_once_and_then_a_frame_every_frame_length() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(8 * 2000), 5.0)
    times = departures(pacer, 5.0, 6.0)
    assert times[:11] == [5.0] * 11
    assert times[11:] == pytest.approx([5.02 + 0.02 * n for n in range(len(times) - 11)])


@pytest.mark.parametrize("frame_ms", [10, 20, 30, 40, 100, 200])
def test_pacer_keeps_its_rhythm_at_every_frame_length(frame_ms: int) -> None:
    pacer = FramePacer(frame_ms, 200)
    pacer.push(bytes(8 * 4000), 0.0)
    times = departures(pacer, 0.0, 3.0)
    steps = [b - a for a, b in itertools.pairwise(times) if b > 0.02 and a > 0]
    assert steps == pytest.approx([frame_ms / 1000] * len(steps))


@pytest.mark.parametrize("frame_ms", [10, 20, 38, 40, 100, 200])
@pytest.mark.parametrize("lead_ms", [20, 200, 400])
def test_pacer_never_holds_more_than_forty_ms_above_the_lead(frame_ms: int, lead_ms: int) -> None:
    pacer = FramePacer(frame_ms, lead_ms)
    pacer.push(bytes(8 * 4000), 0.0)
    now, deepest_s = 0.0, 0.0
    while (due_at := pacer.due_at()) is not None:
        now = max(now, due_at)
        pacer.take(now)
        deepest_s = max(deepest_s, pacer.buffered_s(now))
    assert deepest_s * 1000 <= max(frame_ms, lead_ms + 40 - 2) + 1e-6


def test_pacer_has_nothing_due_until_a_whole_frame_is_there() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(159), 1.0)
    assert pacer.due_at() is None
    assert pacer.take(9.0) is None
    pacer.push(bytes(1), 2.0)
    assert pacer.due_at() == 2.0


def test_pacer_fills_the_last_frame_with_silence_once_the_piece_is_complete() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(b"\x01" * 200, 1.0)
    assert [frame.audio_bytes for frame in frames_at(pacer, 1.0)] == [160]
    pacer.complete(1.5)
    (frame,) = frames_at(pacer, 1.5)
    assert frame.ulaw == b"\x01" * 40 + SILENCE * 120
    assert frame.audio_bytes == 40


def test_pacer_completes_nothing_when_nothing_waits() -> None:
    pacer = FramePacer()
    pacer.complete(1.0)
    assert pacer.due_at() is None
    pacer.push(bytes(40), 2.0)
    assert pacer.due_at() is None


def test_an_empty_push_does_not_take_back_that_a_piece_is_complete() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(40), 1.0)
    pacer.complete(1.0)
    pacer.push(b"", 1.0)
    assert len(frames_at(pacer, 1.0)) == 1


def test_the_end_of_a_complete_piece_does_not_wait_for_the_rest_of_the_next() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(b"\x01" * 100, 1.0)
    pacer.complete(1.0)
    pacer.push(b"\x02" * 10, 1.0)
    (frame,) = frames_at(pacer, 1.0)
    assert frame.ulaw == b"\x01" * 100 + SILENCE * 60
    assert pacer.queued_bytes == 10
    assert pacer.due_at() is None


def test_two_pieces_that_are_there_in_time_are_joined_without_silence() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(b"\x01" * 100, 1.0)
    pacer.complete(1.0)
    pacer.push(b"\x02" * 60, 1.0)
    assert [frame.ulaw for frame in frames_at(pacer, 1.0)] == [b"\x01" * 100 + b"\x02" * 60]


def test_frames_delayed_by_a_short_stall_leave_at_once_and_the_schedule_keeps_its_origin() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(8 * 2000), 0.0)
    frames_at(pacer, 0.0)
    late = frames_at(pacer, 0.105)
    assert [round(frame.late_s / MS) for frame in late] == [85, 65, 45, 25, 5]
    assert pacer.due_at() == pytest.approx(0.12)
    assert pacer.counts.late_frames == 4
    assert pacer.counts.underruns == 0


def test_a_stall_longer_than_the_lead_is_an_underrun_and_the_lead_is_rebuilt() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(8 * 2000), 0.0)
    frames_at(pacer, 0.0)
    frames = frames_at(pacer, 0.5)
    assert len(frames) == 11
    assert [frame.starts_spurt for frame in frames] == [True] + [False] * 10
    assert [round(frame.late_s / MS) for frame in frames] == [480] + [0] * 10
    assert pacer.counts.underruns == 1
    assert pacer.counts.underrun_s == pytest.approx(0.28)
    assert pacer.due_at() == pytest.approx(0.52)


def test_waiting_for_the_provider_is_no_underrun() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(800), 0.0)
    frames_at(pacer, 0.0)
    pacer.push(bytes(800), 3.0)
    assert frames_at(pacer, 3.0)[0].starts_spurt
    assert pacer.counts.underruns == 0


def test_what_follows_a_clear_in_the_same_millisecond_is_no_underrun() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(1600), 0.0)
    frames_at(pacer, 0.0)
    pacer.clear(0.0105)
    pacer.push(bytes(1600), 0.0106)
    assert frames_at(pacer, 0.0206)
    assert pacer.counts.underruns == 0


def test_a_burst_between_two_ticks_leaves_at_once_and_is_not_late() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(8000), 1.0007)
    frames = frames_at(pacer, 1.0007)
    assert len(frames) == 11
    assert {frame.late_s for frame in frames} == {0.0}
    assert frames[0].plays_at == 1.0007


def test_dues_lie_on_the_clocks_grid_also_after_a_clear() -> None:
    pacer = FramePacer(20, 200)
    for now in (1.00037, 2.00051):
        pacer.push(bytes(8 * 2000), now)
        frames_at(pacer, now)
        due_at = pacer.due_at()
        assert due_at is not None
        assert due_at / MS == pytest.approx(round(due_at / MS), abs=1e-6)
        pacer.clear(now + 0.0001)


def test_clear_drops_the_queue_and_says_how_much() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(8 * 1000), 0.0)
    frames_at(pacer, 0.0)
    assert pacer.clear(0.1) == 8 * 1000 - 11 * 160
    assert pacer.due_at() is None
    assert pacer.queued_bytes == 0
    assert pacer.buffered_s(0.1) == 0


def test_a_full_queue_refuses_the_newest_and_counts_it() -> None:
    pacer = FramePacer(20, 200)
    assert pacer.push(bytes(QUEUE_LIMIT_MS * 8 - 5), 0.0) == QUEUE_LIMIT_MS * 8 - 5
    assert pacer.push(bytes(9), 0.0) == 5
    assert pacer.push(bytes(9), 0.0) == 0
    assert pacer.counts.refused_bytes == 13


@pytest.mark.parametrize(("frame_ms", "lead_ms"), [(9, 200), (201, 200), (20, -1)])
def test_pacer_refuses_lengths_out_of_range(frame_ms: int, lead_ms: int) -> None:
    with pytest.raises(ValueError, match="ms must"):
        FramePacer(frame_ms, lead_ms)


def test_an_hour_of_speech_drifts_by_less_than_a_tick() -> None:
    pacer = FramePacer(20, 200)
    start = 1_000_000.0
    now = start
    for _ in range(3600):
        pacer.push(bytes(8000), now)
        while (due_at := pacer.due_at()) is not None:
            now = max(now, due_at)
            pacer.take(now)
    assert now == pytest.approx(start + 3600 - 0.2 - 0.02, abs=MS / 10)
    assert pacer.counts.underruns == pacer.counts.late_frames == 0


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=700), max_size=20),
    frame_ms=st.integers(10, 200),
    lead_ms=st.integers(0, 500),
)
def test_every_byte_leaves_once_and_in_order(pieces: list[bytes], frame_ms: int, lead_ms: int) -> None:
    pacer, now, out = FramePacer(frame_ms, lead_ms), 0.0, b""
    for piece in pieces:
        pacer.push(piece, now)
        now += 0.013
        out += b"".join(frame.ulaw[: frame.audio_bytes] for frame in frames_at(pacer, now))
    pacer.complete(now)
    while (due_at := pacer.due_at()) is not None:
        out += b"".join(frame.ulaw[: frame.audio_bytes] for frame in frames_at(pacer, max(now, due_at)))
        now = max(now, due_at)
    assert out == b"".join(pieces)
