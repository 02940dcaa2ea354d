"""From the provider's session log and the telephone's events to the demonstration's own account.

Owns that translation and nothing else; both simulators stay free of the demonstration.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.demo.account import Line, ProviderAccount, Reply, ToolUse, Truncation
from engine.simulator.openai import SessionLog
from engine.simulator.openai.log import SentDelta
from engine.simulator.record import CallEvent, CallRecord


def provider_account(log: SessionLog) -> ProviderAccount:
    """Reads one session."""
    return ProviderAccount(
        opened_at_s=log.opened_at_s,
        closed_at_s=log.closed_at_s,
        appended=tuple((entry.at_s, entry.audio) for entry in log.appended),
        speech_started_at_s=tuple(log.speech_started_s),
        replies=replies_sent(log),
        truncations=tuple(
            Truncation(item_id=entry.item_id, at_s=entry.at_s, audio_end_ms=entry.audio_end_ms)
            for entry in log.truncations
            if entry.accepted
        ),
        tool_uses=tool_uses(log),
        errors=_complaints(log),
    )


def replies_sent(log: SessionLog) -> tuple[Reply, ...]:
    """The spoken items of a session in the order of their first audio."""
    texts = {
        entry.event["item_id"]: str(entry.event["transcript"])
        for entry in log.sent
        if entry.type.endswith("audio_transcript.done")
    }
    deltas: dict[str, list[SentDelta]] = {}
    for delta in log.deltas:
        deltas.setdefault(delta.item_id, []).append(delta)
    return tuple(
        Reply(
            item_id=item_id,
            text=texts.get(item_id, ""),
            sent_at_s=parts[0].at_s,
            finished_at_s=parts[-1].at_s,
            audio=b"".join(part.audio for part in parts),
        )
        for item_id, parts in deltas.items()
    )


def tool_uses(log: SessionLog) -> tuple[ToolUse, ...]:
    """Every completed function call of a session, with the output that came for it."""
    outputs = {output.call_id: output for output in log.tool_outputs}
    uses = []
    for entry in log.sent:
        item = entry.event.get("item", {})
        if entry.type != "response.output_item.done" or item.get("type") != "function_call":
            continue
        if item.get("status") == "completed":
            output = outputs.get(item["call_id"])
            uses.append(
                ToolUse(
                    name=item["name"],
                    arguments=item["arguments"],
                    output=None if output is None else output.output,
                    called_at_s=entry.at_s,
                    answered_at_s=None if output is None else output.at_s,
                )
            )
    return tuple(uses)


def caller_lines(record: CallRecord, words: Sequence[str]) -> tuple[Line, ...]:
    """What the caller said, by the times at which the telephone began and ended each line."""
    began = _times(record.events, "speech_began")
    ended = _times(record.events, "speech_ended")
    ends = [*ended, *([record.ended_at_s] * (len(began) - len(ended)))]
    return tuple(
        Line(text=text, started_at_s=begin, ended_at_s=end)
        for text, begin, end in zip(words, began, ends, strict=False)
    )


def _times(events: Sequence[CallEvent], kind: str) -> list[float]:
    return [event.at_s for event in events if event.kind == kind]


def _complaints(log: SessionLog) -> tuple[str, ...]:
    """What the engine did wrong in the provider's eyes."""
    complaints = [f"{error.code}: {error.message}" for error in log.errors]
    complaints += ["a truncation was refused" for entry in log.truncations if not entry.accepted]
    if log.tools_not_offered:
        complaints.append("the session did not offer the tool")
    return tuple(complaints)
