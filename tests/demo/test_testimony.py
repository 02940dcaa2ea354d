"""From the provider's log and the telephone's events to the account."""

from __future__ import annotations

from typing import Any

import pytest

from engine.demo.testimony import caller_lines, provider_account, replies_sent, tool_uses
from engine.simulator.openai import SessionLog
from engine.simulator.openai.log import LoggedEvent, SentDelta, SentError, ToolOutput, Truncation
from engine.simulator.record import CallEvent, CallRecord


def _delta(at_s: float, item_id: str, audio: bytes) -> SentDelta:
    return SentDelta(at_s=at_s, response_id="resp", item_id=item_id, audio=audio, duration_ms=len(audio) / 8)


def _sent(log: SessionLog, at_s: float, event: dict[str, Any]) -> None:
    log.sent.add(LoggedEvent(at_s=at_s, type=event["type"], event=event))


def _call(log: SessionLog, at_s: float, call_id: str, status: str = "completed") -> None:
    item = {"type": "function_call", "call_id": call_id, "name": "look", "arguments": "{}", "status": status}
    _sent(log, at_s, {"type": "response.output_item.done", "item": item})


def test_deltas_become_replies_in_the_order_of_their_first_audio() -> None:
    log = SessionLog()
    for at_s, item_id, audio in [(1.0, "one", b"a" * 80), (1.1, "two", b"b" * 8), (1.2, "one", b"c" * 80)]:
        log.deltas.add(_delta(at_s, item_id, audio))
    _sent(log, 1.3, {"type": "response.output_audio_transcript.done", "item_id": "one", "transcript": "Hello."})
    first, second = replies_sent(log)
    assert (first.item_id, first.text, first.sent_at_s, first.finished_at_s) == ("one", "Hello.", 1.0, 1.2)
    assert first.audio == b"a" * 80 + b"c" * 80
    assert first.audio_ms == 20
    assert (second.item_id, second.text) == ("two", "")


def test_a_tool_call_is_joined_with_its_output() -> None:
    log = SessionLog()
    _call(log, 1.0, "call_1")
    _call(log, 2.0, "call_2")
    log.tool_outputs.add(ToolOutput(at_s=2.5, call_id="call_2", name="look", output="42"))
    lost, answered = tool_uses(log)
    assert (lost.called_at_s, lost.output, lost.answered_at_s) == (1.0, None, None)
    assert (answered.called_at_s, answered.output, answered.answered_at_s) == (2.0, "42", 2.5)


def test_a_cancelled_tool_call_and_spoken_items_are_no_tool_uses() -> None:
    log = SessionLog()
    _call(log, 1.0, "call_1", status="incomplete")
    _sent(log, 2.0, {"type": "response.output_item.done", "item": {"type": "message", "status": "completed"}})
    assert tool_uses(log) == ()


def test_what_the_provider_complains_of_is_kept() -> None:
    log = SessionLog(tools_not_offered=1)
    log.errors.add(SentError(at_s=1.0, code="bad", message="no such item", param=None, event_id=None))
    for accepted in (True, False):
        log.truncations.add(Truncation(at_s=2.0, item_id="one", audio_end_ms=70, item_ms=60.0, accepted=accepted))
    account = provider_account(log)
    assert account.errors == ("bad: no such item", "a truncation was refused", "the session did not offer the tool")
    assert [truncation.audio_end_ms for truncation in account.truncations] == [70]
    assert account.closed_at_s is None


@pytest.mark.parametrize(("events", "ends"), [((1.0, 2.0, 3.0, 4.0), [2.0, 4.0]), ((1.0, 2.0, 3.0), [2.0, 9.0])])
def test_a_line_that_the_end_cut_off_ends_with_the_call(events: tuple[float, ...], ends: list[float]) -> None:
    kinds = ("speech_began", "speech_ended") * 2
    record = CallRecord(call_sid="CA", ended_at_s=9.0)
    record.events = [CallEvent(at_s, kind, "") for at_s, kind in zip(events, kinds, strict=False)]
    lines = caller_lines(record, ("Hello.", "Goodbye."))
    assert [line.text for line in lines] == ["Hello.", "Goodbye."]
    assert [line.started_at_s for line in lines] == [1.0, 3.0]
    assert [line.ended_at_s for line in lines] == ends
