"""The frame pacer by itself: its schedule, its frames, its counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._codec import ffi, lib
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


# ------------------------------------------------------------------------------- frames that the mover takes by itself


def take_in_c(pacer: FramePacer, now: float) -> list[bytes]:
    """Takes what is due as the mover's pass does, which keeps the account for later."""
    ulaw, frame, taken = ffi.new("char[]", 1600), ffi.new("struct paced_frame *"), []
    while lib.pacer_take(pacer.state, ulaw, frame, now):
        taken.append(ffi.unpack(ulaw, pacer.state.frame_bytes))
    return taken


def test_frames_that_play_without_a_gap_are_one_run() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(160 * 30), 5.0)
    assert len(take_in_c(pacer, 5.0)) == 11
    assert len(take_in_c(pacer, 5.1)) == 5
    assert pacer.take_runs() == [(160 * 16, 0, 5.0, True)]
    assert pacer.take_runs() == []


def test_a_run_goes_on_after_its_account_was_taken_at_the_place_where_it_plays() -> None:
    pacer = FramePacer(20, 200)
    pacer.push(bytes(160 * 30), 5.0)
    take_in_c(pacer, 5.0)
    pacer.take_runs()
    take_in_c(pacer, 5.04)
    (run,) = pacer.take_runs()
    assert (run.audio_bytes, run.starts_spurt) == (320, False)
    assert run.plays_at == pytest.approx(5.22)


def test_silence_that_fills_a_frame_ends_its_run() -> None:
    pacer = FramePacer(20, 200)
    for _ in range(2):
        pacer.push(bytes(200), 5.0)
        pacer.complete(5.0)
        take_in_c(pacer, 5.0)
    runs = pacer.take_runs()
    assert [(run.audio_bytes, run.filler_bytes, run.starts_spurt) for run in runs] == [
        (200, 120, True),
        (200, 120, False),
    ]
    assert runs[1].plays_at == pytest.approx(5.04)


def test_a_gap_begins_a_new_run() -> None:
    pacer = FramePacer(20, 200)
    for now in (5.0, 7.0):
        pacer.push(bytes(160), now)
        take_in_c(pacer, now)
    assert pacer.take_runs() == [(160, 0, 5.0, True), (160, 0, 7.0, True)]


def test_nothing_leaves_while_the_account_is_full_and_a_mark_is_wanted_so_that_it_is_taken() -> None:
    pacer = FramePacer(10, 400)
    for index in range(33):
        pacer.push(b"\x01" * 40, index * MS)
        pacer.complete(index * MS)
        take_in_c(pacer, index * MS)
        pacer.marked()
    assert pacer.queued_bytes == 40
    assert pacer.due_at() is None
    assert pacer.mark_wanted
    assert sum(run.audio_bytes for run in pacer.take_runs()) == 32 * 40
    assert pacer.due_at() is not None
    assert len(take_in_c(pacer, 33 * MS)) == 1


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.binary(max_size=500), st.booleans(), st.integers(0, 300)), max_size=40),
    frame_ms=st.sampled_from([10, 20, 40]),
)
def test_the_account_of_runs_is_the_account_of_their_frames(
    pieces: list[tuple[bytes, bool, int]], frame_ms: int
) -> None:
    in_runs, in_frames, now = FramePacer(frame_ms, 100), FramePacer(frame_ms, 100), 1.0
    sent, runs, frames = b"", [], []
    for piece, is_complete, pause_ms in pieces:
        for pacer in (in_runs, in_frames):
            pacer.push(piece, now)
            if is_complete:
                pacer.complete(now)
        sent += b"".join(take_in_c(in_runs, now))
        runs += in_runs.take_runs()
        frames += frames_at(in_frames, now)
        now += pause_ms * MS
    assert sent == b"".join(frame.ulaw for frame in frames)
    assert sum(run.audio_bytes for run in runs) == sum(frame.audio_bytes for frame in frames)
    assert sum(run.audio_bytes + run.filler_bytes for run in runs) == len(sent)
    starts = [frame.plays_at for frame in frames if frame.starts_spurt]
    assert [run.plays_at for run in runs if run.starts_spurt] == starts
