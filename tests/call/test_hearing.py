"""The caller's audio made whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.call.hearing import REPAIR_LIMIT_MS, TOLERANCE_MS, Hearing, HearingCounts


def missing_ms(hearing: Hearing, *pieces: tuple[int, int]) -> list[float]:
    """Silence put before each piece of (stamp, length in ms), in ms."""
    silences = [hearing.missing_before(stamp_ms, length_ms * 8) for stamp_ms, length_ms in pieces]
    assert set(b"".join(silences)) <= {0xFF}
    return [len(silence) / 8 for silence in silences]


@pytest.mark.parametrize("first_ms", [0, 25, 3_600_000])
def test_a_whole_stream_is_left_alone_whatever_its_first_stamp(first_ms: int) -> None:
    hearing = Hearing()
    assert missing_ms(hearing, *((first_ms + 20 * n, 20) for n in range(500))) == [0] * 500
    assert hearing.counts == HearingCounts()


@pytest.mark.parametrize("length_ms", [1, 7, 10, 30, 60, 200])
def test_pieces_may_have_any_length(length_ms: int) -> None:
    hearing = Hearing()
    assert sum(missing_ms(hearing, *((length_ms * n, length_ms) for n in range(200)))) == 0


def test_a_gap_is_filled_with_as_much_silence() -> None:
    hearing = Hearing()
    assert missing_ms(hearing, (0, 20), (20, 20), (100, 20), (120, 20)) == [0, 0, 60, 0]
    assert (hearing.counts.gaps, hearing.counts.repaired_ms) == (1, 60)


def test_jittering_stamps_are_not_gaps() -> None:
    hearing = Hearing()
    jitter = [0, 9, -9, 5, -5, 9, 9, 9, -9, 0]
    pieces = [(1000 + 20 * n + jitter[n % 10], 20) for n in range(1, 300)]
    assert sum(missing_ms(hearing, (1020 - 20, 20), *pieces)) == 0


def test_stamps_that_creep_ahead_are_followed_in_steps() -> None:
    hearing = Hearing()
    silences = missing_ms(hearing, *((21 * n, 20) for n in range(101)))
    assert sum(silences) == 100
    assert {silence for silence in silences if silence} == {TOLERANCE_MS}


def test_of_a_long_gap_only_the_last_part_is_filled() -> None:
    hearing = Hearing()
    assert missing_ms(hearing, (0, 20), (60_020, 20), (60_040, 20)) == [0, REPAIR_LIMIT_MS, 0]
    assert (hearing.counts.repaired_ms, hearing.counts.skipped_ms) == (3000, 57_000)


def test_overlapping_pieces_pass_and_do_not_turn_the_clock_back() -> None:
    hearing = Hearing()
    assert missing_ms(hearing, (0, 200), (100, 20), (200, 20)) == [0, 0, 0]
    assert hearing.counts.overlaps == 1


def test_an_overlap_that_reaches_further_is_followed() -> None:
    hearing = Hearing()
    assert missing_ms(hearing, (0, 100), (50, 100), (150, 20)) == [0, 0, 0]


def test_one_absurd_stamp_does_not_end_all_repair() -> None:
    hearing = Hearing()
    assert missing_ms(hearing, (0, 20), (10**400, 20), (40, 20), (60, 20), (120, 20)) == [0, REPAIR_LIMIT_MS, 0, 0, 40]


@settings(max_examples=150, deadline=None)
@given(
    first_ms=st.integers(0, 10_000),
    pieces=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2500), st.integers(-4, 4)), max_size=60),
)
def test_positions_in_audio_stay_true(first_ms: int, pieces: list[tuple[int, int, int]]) -> None:
    hearing, position_ms, end_ms = Hearing(), 0.0, first_ms
    start_ms = None
    for length_ms, lost_ms, jitter_ms in pieces:
        stamp_ms = end_ms + lost_ms + jitter_ms + 4
        start_ms = stamp_ms if start_ms is None else start_ms
        position_ms += len(hearing.missing_before(stamp_ms, length_ms * 8)) / 8
        assert abs(position_ms - (stamp_ms - start_ms)) < TOLERANCE_MS
        position_ms += length_ms
        end_ms += lost_ms + length_ms
    assert hearing.counts.overlaps == hearing.counts.skipped_ms == 0
