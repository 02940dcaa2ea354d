"""A whole call on virtual time: real speech, exact known delays, no sockets and no clock.

Plays the parcel desk's conversation through a perfect engine (20 ms frames, a lead of 100 ms, one delay each way), so that
every figure is known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.demo.account import Account, Line, ProviderAccount, Reply, ToolUse, Truncation
from engine.simulator.record import CallEvent, CallRecord, Chunk
from engine.simulator.voices import RECORDINGS, load_ulaw

START_S = 1000.0
LEAD_MS = 100
UP_S = 0.0006
DOWN_S = 0.0008
FRAME_BYTES = 160
SILENCE = b"\xff" * FRAME_BYTES


@dataclass
class Stage:
    """Builds the two sides' observations while `now_s` moves on."""

    record: CallRecord
    now_s: float = START_S
    lines: list[Line] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    truncations: list[Truncation] = field(default_factory=list)
    speech_started: list[float] = field(default_factory=list)
    caller: dict[int, bytes] = field(default_factory=dict)

    def event(self, at_s: float, kind: str, detail: str = "") -> None:
        self.record.events.append(CallEvent(at_s, kind, detail))

    def caller_says(self, name: str) -> None:
        """One line of the caller, from the next frame on; the time stands at its end afterwards."""
        ulaw = load_ulaw(name)
        first = round((self.now_s - START_S) / 0.02) + 1
        count = 0
        for count, index in enumerate(range(0, len(ulaw), FRAME_BYTES), start=1):
            self.caller[first + count - 1] = ulaw[index : index + FRAME_BYTES].ljust(FRAME_BYTES, b"\xff")
        begin, end = START_S + first * 0.02, START_S + (first + count) * 0.02
        self.speech_started.append(begin + 0.12 + UP_S)
        self.lines.append(Line(text=RECORDINGS[name].transcript, started_at_s=begin, ended_at_s=end))
        self.now_s = end

    def agent_says(self, name: str, *, heard_ms: int | None = None, reported_ms: int | None = None) -> float:
        """One reply; its playout starts now. `heard_ms` of it play before a clear. Returns the end of its playout."""
        audio = load_ulaw(name)
        heard = audio if heard_ms is None else audio[: heard_ms * 8]
        begin = self.now_s + DOWN_S
        item_id = f"item_{len(self.replies)}"
        self.replies.append(
            Reply(
                item_id=item_id,
                text=RECORDINGS[name].transcript,
                sent_at_s=self.now_s,
                finished_at_s=self.now_s + len(audio) / 8000 / 4,
                audio=audio,
            )
        )
        end = begin + len(heard) / 8000
        self.record.depth.append((begin, 0.0))
        for index in range(0, len(audio), FRAME_BYTES):
            frame, played = audio[index : index + FRAME_BYTES], heard[index : index + FRAME_BYTES]
            at_s = begin + max(0.0, index / 8000 - LEAD_MS / 1000)
            if at_s < end - 1e-9:
                self.record.received.append((at_s, len(frame)))
                self.record.depth.append((at_s, min(index / 8 + 20, LEAD_MS + 20)))
                if index % 1600 == 0 and index:
                    self.event(at_s, "mark_received", f"{item_id}:{index // 8}")
                    self.event(min(begin + index / 8000, end), "mark_returned", f"{item_id}:{index // 8}")
            if played:
                self.record.played.append(Chunk(begin + index / 8000, played))
        self.record.depth.append((end - (0 if heard_ms else 0.1), LEAD_MS))
        self.record.depth.append((end, 0.0))
        if heard_ms is not None and reported_ms is not None:
            self.event(end, "clear")
            self.truncations.append(Truncation(item_id=item_id, at_s=end + 0.0003, audio_end_ms=reported_ms))
        return end


def stage_call(*, reported_ms: int = 4520, heard_ms: int = 4517, tool_calls: int = 1) -> Account:
    """The whole conversation; the order is interrupted after `heard_ms`, and the engine reports `reported_ms`."""
    stage = Stage(record=CallRecord(call_sid="CA" + "0" * 32, stream_sid="MZ" + "0" * 32, started_at_s=START_S))
    stage.record.dialed_at_s = START_S - 0.042
    stage.now_s += 0.015
    stage.now_s = stage.agent_says("agent_greeting") + 0.5
    stage.caller_says("caller_question")
    stage.now_s += 0.65
    called_at_s = stage.now_s + 0.05
    stage.now_s = stage.agent_says("agent_tool_wait") + 0.2
    end = stage.now_s + heard_ms / 1000
    stage.agent_says("agent_order", heard_ms=heard_ms, reported_ms=reported_ms)
    stage.now_s = end - 0.18
    stage.caller_says("caller_bargein")
    stage.speech_started[-1] = end - 0.0005
    stage.now_s += 0.65
    stage.now_s = stage.agent_says("agent_sorry") + 0.5
    stage.caller_says("caller_goodbye")
    stage.now_s += 0.65
    stage.now_s = stage.agent_says("agent_goodbye") + 0.5
    return _finish(stage, called_at_s, tool_calls)


def _finish(stage: Stage, called_at_s: float, tool_calls: int) -> Account:
    record = stage.record
    frames = round((stage.now_s - START_S) / 0.02)
    record.caller = [Chunk(START_S + n * 0.02, stage.caller.get(n, SILENCE)) for n in range(frames)]
    record.events.sort(key=lambda event: event.at_s)
    record.ended_at_s, record.ended_by = stage.now_s, "caller_hung_up"
    stage.event(record.ended_at_s, "hangup")
    use = ToolUse(
        name="lookup_order",
        arguments='{"order_number": "4711"}',
        output='{"found": true, "status": "out for delivery"}',
        called_at_s=called_at_s,
        answered_at_s=called_at_s + 0.403,
    )
    provider = ProviderAccount(
        opened_at_s=START_S - 0.02,
        closed_at_s=record.ended_at_s + 0.004,
        appended=tuple((chunk.at_s + UP_S, chunk.ulaw) for chunk in record.caller),
        speech_started_at_s=tuple(stage.speech_started),
        replies=tuple(stage.replies),
        truncations=tuple(stage.truncations),
        tool_uses=(use,) * tool_calls,
        errors=(),
    )
    return Account(
        record=record,
        provider=provider,
        lines=tuple(stage.lines),
        lead_ms=LEAD_MS,
        engine_summary={"frames_sent": len(record.received), "late_p99_ms": 0.3},
        ended=True,
    )
