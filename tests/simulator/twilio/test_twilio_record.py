"""Sums over a call's record."""

from __future__ import annotations

import pytest

from engine.simulator.record import CallError, CallRecord, Chunk, Gap, Violation


def test_heard_ms_counts_only_what_played_inside_the_interval() -> None:
    record = CallRecord(call_sid="CA", played=[Chunk(10.0, bytes(800)), Chunk(10.2, bytes(800))])
    assert record.heard_ms(0, 100) == pytest.approx(200)
    assert record.heard_ms(10.05, 10.25) == pytest.approx(100)
    assert record.heard_ms(10.1, 10.2) == pytest.approx(0, abs=1e-6)


def test_only_gaps_without_a_mark_are_underruns() -> None:
    gaps = [Gap(1.0, 5.0, True), Gap(2.0, 5.0, False)]
    assert CallRecord(call_sid="CA", gaps=gaps).underruns == gaps[1:]


@pytest.mark.parametrize(
    ("record", "well"),
    [
        (CallRecord(call_sid="CA", ended_by="caller_hung_up"), True),
        (CallRecord(call_sid="CA", ended_by="server_closed", errors=[CallError(1.0, 31921, "closed")]), True),
        (CallRecord(call_sid="CA", ended_by="server_vanished", errors=[CallError(1.0, 31903, "gone")]), False),
        (CallRecord(call_sid="CA", ended_by="caller_hung_up", violations=[Violation(1.0, 31951, "x")]), False),
        (CallRecord(call_sid="CA", ended_by="caller_hung_up", frames_congested=1), False),
        (CallRecord(call_sid="CA", ended_by="rejected"), False),
    ],
)
def test_a_call_went_well_when_nothing_broke(record: CallRecord, well: bool) -> None:
    assert record.went_well is well
