"""Figures and checks of a staged call, whose delays are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from staged_call import DOWN_S, LEAD_MS, UP_S, stage_call

from engine.demo.account import Account, Reply
from engine.demo.checks import check_call
from engine.demo.figures import down_latencies_ms, lateness_ms, measure, spread_of, up_latencies_ms
from engine.demo.hearing import trace_replies
from engine.demo.table import NOT_MEASURED, figure_rows
from engine.simulator.record import CallRecord, Chunk, Violation


def _failed(account: Account) -> list[str]:
    return [check.claim for check in check_call(account, measure(account)) if not check.passed]


def test_a_call_as_scripted_passes_every_check(account: Account) -> None:
    assert _failed(account) == []


def test_the_known_delays_are_measured(account: Account) -> None:
    figures = measure(account)
    assert figures.connected_ms == pytest.approx(42)
    assert figures.first_audio_ms == pytest.approx(42 + 15 + DOWN_S * 1000)
    assert figures.up is not None
    assert figures.up.median_ms == pytest.approx(UP_S * 1000)
    assert figures.up.count > 250
    assert figures.down is not None
    assert figures.down.worst_ms == pytest.approx(DOWN_S * 1000)
    assert figures.lateness is not None
    assert figures.lateness.p99_ms == pytest.approx(0, abs=1e-6)
    assert figures.depth is not None
    assert figures.depth.median_ms == LEAD_MS + 20


def test_the_truth_about_hearing_is_found_in_the_played_samples(account: Account) -> None:
    barge_in = measure(account).barge_in
    assert barge_in is not None
    assert barge_in.hearing.heard_ms == 4517
    assert barge_in.reported_ms == 4520
    assert barge_in.error_ms == 3
    assert barge_in.clear_ms == pytest.approx(1.3)


@pytest.mark.parametrize("reported_ms", [4496, 4538, 10_054])
def test_a_wrong_report_of_what_was_heard_fails(reported_ms: int) -> None:
    assert any("knew what was heard" in claim for claim in _failed(stage_call(reported_ms=reported_ms)))


@pytest.mark.parametrize("tool_calls", [0, 2])
def test_the_tool_must_be_called_once(tool_calls: int) -> None:
    assert any("tool" in claim for claim in _failed(stage_call(tool_calls=tool_calls)))


def test_a_tool_without_an_answer_fails(account: Account) -> None:
    use = replace(account.provider.tool_uses[0], output=None, answered_at_s=None)
    provider = replace(account.provider, tool_uses=(use,))
    assert any("tool" in claim for claim in _failed(replace(account, provider=provider)))


def test_a_call_that_breaks_off_after_the_greeting_has_no_goodbye(account: Account) -> None:
    provider = replace(account.provider, replies=account.provider.replies[:1])
    failed = _failed(replace(account, provider=provider))
    assert "The goodbye was heard to its end" in failed
    assert "The greeting was heard to its end" not in failed


def test_a_violation_fails() -> None:
    account = stage_call()
    account.record.violations.append(Violation(at_s=1001.0, code=31951, reason="an extra field"))
    assert _failed(account) == ["Twilio saw no violation of its protocol"]


def test_a_provider_left_open_fails(account: Account) -> None:
    left_open = replace(account, provider=replace(account.provider, closed_at_s=None))
    assert any("closed behind the call" in claim for claim in _failed(left_open))


def test_a_service_that_does_not_stop_cleanly_fails(account: Account) -> None:
    assert any("closed behind the call" in claim for claim in _failed(replace(account, ended=False)))


def test_a_missed_cue_fails() -> None:
    account = stage_call()
    account.record.cues_missed = 1
    assert any("script" in claim for claim in _failed(account))


def test_a_call_in_which_nothing_happened_fails_and_measures_nothing(account: Account) -> None:
    record = CallRecord(call_sid="CA" + "0" * 32, started_at_s=1.0, ended_at_s=1.0, ended_by="error")
    provider = replace(
        account.provider,
        appended=(),
        speech_started_at_s=(),
        replies=(),
        truncations=(),
        tool_uses=(),
        closed_at_s=None,
    )
    empty = replace(account, record=record, provider=provider, lines=(), ended=False)
    figures = measure(empty)
    assert (figures.up, figures.down, figures.lateness, figures.depth, figures.barge_in) == (None,) * 5
    assert sum(row.value == NOT_MEASURED for row in figure_rows(figures)) == 7
    assert len(_failed(empty)) == 6


def _frames(count: int) -> list[bytes]:
    return [bytes([number % 200, number // 200]) * 80 for number in range(count)]


def test_up_latency_follows_each_frame_however_it_was_regrouped() -> None:
    frames = _frames(6)
    caller = [Chunk(number * 0.02, frame) for number, frame in enumerate(frames)]
    appended = [(0.030, frames[0] + frames[1][:40]), (0.050, frames[1][40:] + frames[2]), (0.120, b"".join(frames[3:]))]
    assert up_latencies_ms(caller, appended) == pytest.approx([30, 30, 10, 60, 40, 20])


def test_up_latency_leaves_out_what_cannot_be_recognised_or_never_came() -> None:
    silence = b"\xff" * 160
    frames = _frames(3)
    caller = [Chunk(number * 0.02, frame) for number, frame in enumerate([silence, frames[0], silence, frames[1]])]
    assert up_latencies_ms(caller, [(0.025, silence + frames[0] + silence)]) == pytest.approx([5])


def _reply(sent_at_s: float, audio: bytes = b"", item_id: str = "item") -> Reply:
    return Reply(item_id=item_id, text="", sent_at_s=sent_at_s, finished_at_s=sent_at_s, audio=audio)


def test_down_latency_counts_only_replies_on_a_line_at_rest() -> None:
    media_at_s = [1.003, 1.02, 1.04, 5.007]
    assert down_latencies_ms([_reply(1.0), _reply(1.05), _reply(5.0), _reply(9.0)], media_at_s) == pytest.approx([3, 7])


def test_lateness_forgives_the_burst_that_fills_the_lead_and_nothing_else() -> None:
    burst = [(1.0, 160)] * 5
    steady = [(1.0 + 0.02 * number, 160) for number in range(1, 20)]
    late = [(at_s + (0.007 if number == 10 else 0), size) for number, (at_s, size) in enumerate(steady)]
    figures = lateness_ms(burst + late)
    assert max(figures) == pytest.approx(7)
    assert sum(value > 1 for value in figures) == 1


def test_lateness_starts_anew_with_each_spurt() -> None:
    spurts = [(begin + 0.02 * number, 160) for begin in (1.0, 3.3333) for number in range(10)]
    assert lateness_ms(spurts) == pytest.approx([0] * 20, abs=1e-6)


def test_a_reply_cut_in_a_pause_does_not_go_on_into_the_next() -> None:
    first = bytes(range(1, 201)) * 8 + b"\xff" * 800
    second = b"\xff" * 40 + bytes(range(1, 101)) * 10
    played = [Chunk(1.0, first[:1640]), Chunk(2.0, second)]
    hearings = trace_replies(played, [_reply(1.0, first), _reply(2.0, second, "next")], [1.205])
    assert [hearing.heard_ms for hearing in hearings] == [205, 130]
    assert hearings[0].ended_at_s == pytest.approx(1.205)
    assert [hearing.whole for hearing in hearings] == [False, True]


def test_a_reply_that_was_never_played_was_not_heard() -> None:
    assert trace_replies([Chunk(1.0, b"\x01" * 1600)], [_reply(1.0, b"\x02" * 1600), _reply(1.5)]) == ()


def test_nothing_measured_is_not_zero() -> None:
    assert spread_of([]) is None
