"""One Realtime session, sans-IO: messages and the time in, texts to send out.

Owns what each client event does and what the service does by itself: turns of the caller, automatic responses, interruption,
transcripts, idle timeout, expiry (protocols.md B.2 to B.4). Refuses what the service refuses, with its error codes, and lives
on; only a script, the session's age or a client that does not read end it. Reads no clock: `now` never goes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from engine.simulator.openai.client_rules import check_event, decode_audio, parse_event
from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.conversation import Conversation
from engine.simulator.openai.detector import Detection, SpeechBegan
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.formats import format_named
from engine.simulator.openai.hearing import Hearing
from engine.simulator.openai.log import (
    AppendedAudio,
    CallerSpeech,
    LoggedEvent,
    SessionLog,
    ToolOutput,
    Truncation,
)
from engine.simulator.openai.outlet import Outgoing, Outlet
from engine.simulator.openai.responding import Responding
from engine.simulator.openai.script import Script
from engine.simulator.openai.session_rules import default_session, updated_session
from engine.simulator.openai.speech import SpeechLibrary
from engine.simulator.openai.trouble import Trouble
from engine.simulator.openai.turns import Turns


class RealtimeSession:
    """The service's side of one WebSocket.

    Args:
        config: The service.
        script: What the model says and what goes wrong.
        model: The model asked for.
        now: The time, in seconds of any steady clock.
        unix_time_s: The same moment as Unix time, for `expires_at`.
        index: The session's number at its peer.
        library: Sound shared with other sessions.
    """

    def __init__(
        self,
        config: PeerConfig,
        script: Script,
        *,
        model: str,
        now: float,
        unix_time_s: float = 0.0,
        index: int = 0,
        library: SpeechLibrary | None = None,
    ) -> None:
        self._config = config
        self._now = now
        self.log = SessionLog(limit=config.log_entries, model=model, opened_at_s=now)
        self._outlet = Outlet(config, self.log, index=index)
        self._outlet.now = now
        self.log.session_id = self._outlet.new_id("sess")
        self._conversation = Conversation(self._outlet.new_id("conv"))
        self._turns = Turns(script)
        self._responding = Responding(
            config,
            self._turns,
            conversation=self._conversation,
            outlet=self._outlet,
            library=library or SpeechLibrary(),
            draw=random.Random(f"{config.seed}:{index}"),
        )
        self._trouble = Trouble(script.timed_faults(), self._outlet, opened_at_s=now)
        self._session = default_session(self.log.session_id, model, int(unix_time_s + config.max_session_s))
        self._hearing = Hearing(self._session["audio"]["input"])
        # Id of the caller's turn under way.
        self._turn_id: str | None = None
        # Transcripts to come: (due, item id, words, seconds of audio), in order of their times.
        self._transcripts: list[tuple[float, str, str, float]] = []
        # When a silent caller is spoken to, and the audio position where that silence began.
        self._idle: tuple[float, float] | None = None
        self._seen_ended: tuple[float, float, float] | None = None
        self._expires_at_s = now + config.max_session_s
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "session.update": self._update_session,
            "input_audio_buffer.append": self._append_audio,
            "input_audio_buffer.commit": self._commit_audio,
            "input_audio_buffer.clear": self._clear_audio,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }
        self._outlet.send({"type": "session.created", "session": self._session})

    @property
    def closing(self) -> bool:
        """The session has ended; at most its close is still to be taken."""
        return self._outlet.closing

    def reading_resumes_s(self, now: float) -> float | None:
        """Until when the shell must not read (a stall); None if it may."""
        return self._trouble.reading_resumes_s(now)

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one WebSocket message of the client; what it breaks is answered with an `error` event."""
        self._set_time(now)
        if self.closing:
            return
        event_id: str | None = None
        try:
            if len(message) > self._config.max_event_bytes:
                raise EventRefused("The event is too large.", code="event_too_large")
            event = parse_event(message)
            self._log_received(event)
            event_id = event.get("event_id") if isinstance(event.get("event_id"), str) else None
            check_event(event)
            self._handlers[event["type"]](event)
        except EventRefused as refused:
            self._outlet.send_error(refused, event_id)
        self._watch_silence()

    def advance(self, now: float) -> None:
        """Do everything that is due."""
        self._set_time(now)
        if self.closing:
            return
        self._trouble.advance(now)
        self._responding.advance(now)
        self._trouble.advance(now)
        self._send_transcripts()
        self._watch_silence()
        if self._idle is not None and self._idle[0] <= now:
            self._time_out()
        if now >= self._expires_at_s:
            message = "Your session hit the maximum duration of 60 minutes."
            self._outlet.send_error(EventRefused(message, code="session_expired"), None)
            self._outlet.close(1001, "session_expired")

    def next_due(self) -> float | None:
        """When `advance` has something to do next; None when the session has ended and nothing is held back."""
        resumes = self._trouble.sending_resumes_s(self._now)
        if self.closing:
            return resumes
        times = [self._expires_at_s, self._responding.next_due_s, self._trouble.next_due_s(self._now)]
        times += [self._transcripts[0][0] if self._transcripts else None, self._idle[0] if self._idle else None]
        return min(time for time in times if time is not None)

    def take_outgoing(self) -> list[Outgoing]:
        """Take what is to be sent, in order; nothing while sending is stalled."""
        return [] if self._trouble.sending_resumes_s(self._now) is not None else self._outlet.take()

    def _set_time(self, now: float) -> None:
        self._now = max(self._now, now)
        self._outlet.now = self._now

    def _log_received(self, event: dict[str, Any]) -> None:
        kind = event["type"] if isinstance(event["type"], str) else "(none)"
        if kind == "input_audio_buffer.append":
            # Fifty a second: `appended` holds them at a fraction of the memory.
            return
        self.log.received.add(LoggedEvent(at_s=self._now, type=kind, event=event))

    # -- session and input audio

    def _update_session(self, event: dict[str, Any]) -> None:
        self._session = updated_session(
            self._session,
            event["session"],
            has_spoken=self._conversation.has_assistant_audio,
            responding=self._responding.active is not None,
        )
        self._hearing.configure(self._session["audio"]["input"])
        self._idle = None
        self._outlet.send({"type": "session.updated", "session": self._session})

    def _append_audio(self, event: dict[str, Any]) -> None:
        audio = decode_audio(event["audio"])
        detections = self._hearing.append(audio)
        self.log.appended.add(AppendedAudio(at_s=self._now, audio=audio))
        self.log.appended_bytes += len(audio)
        for detection in detections:
            self._notice(detection)

    def _commit_audio(self, event: dict[str, Any]) -> None:
        length_ms = self._hearing.commit()
        self._add_turn(self._turn_id or self._outlet.new_id("item"), length_ms)
        self._turn_id = None

    def _clear_audio(self, event: dict[str, Any]) -> None:
        self._hearing.clear()
        self._turn_id = None
        self._outlet.send({"type": "input_audio_buffer.cleared"})

    def _notice(self, detection: Detection) -> None:
        began = isinstance(detection, SpeechBegan)
        if began or self._turn_id is None:
            self._turn_id = self._outlet.new_id("item")
        item_id = self._turn_id
        entry = CallerSpeech(at_s=self._now, began=began, audio_ms=detection.audio_ms, item_id=item_id)
        self.log.speech.add(entry)
        if began:
            self._begin_turn(item_id, detection.audio_ms)
        else:
            self._end_turn(item_id, detection.audio_ms)

    def _begin_turn(self, item_id: str, audio_ms: int) -> None:
        self._idle = None
        self._outlet.send({"type": "input_audio_buffer.speech_started", "audio_start_ms": audio_ms, "item_id": item_id})
        if self._detection("interrupt_response") and self._responding.active is not None:
            self._responding.cancel(None, "turn_detected", self._now)

    def _end_turn(self, item_id: str, audio_ms: int) -> None:
        self._outlet.send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": audio_ms, "item_id": item_id})
        began = next((entry.audio_ms for entry in reversed(self.log.speech.entries) if entry.began), audio_ms)
        self._hearing.take_pending()
        self._turn_id = None
        self._add_turn(item_id, float(audio_ms - began))
        self._respond_to_turn()

    def _detection(self, name: str) -> bool:
        detection = self._hearing.turn_detection
        return detection is not None and bool(detection[name])

    def _respond_to_turn(self) -> None:
        if not self._detection("create_response"):
            return
        try:
            self._start_response({})
        except EventRefused as refused:
            # Without interruption a response may still be under way when the turn ends (protocols.md B.3).
            self._outlet.send_error(refused, None)

    def _add_turn(self, item_id: str, length_ms: float) -> None:
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        before = self._conversation.append(item, audio_ms=length_ms)
        self._outlet.send({"type": "input_audio_buffer.committed", "previous_item_id": before, "item_id": item_id})
        for kind in ("conversation.item.added", "conversation.item.done"):
            self._outlet.send({"type": kind, "previous_item_id": before, "item": item})
        words = self._turns.next_heard()
        if self._session["audio"]["input"]["transcription"] is not None:
            due_s = self._now + self._config.transcription_delay_ms / 1000
            self._transcripts.append((due_s, item_id, words, length_ms / 1000))

    def _send_transcripts(self) -> None:
        while self._transcripts and self._transcripts[0][0] <= self._now:
            _, item_id, words, seconds = self._transcripts.pop(0)
            place = {"item_id": item_id, "content_index": 0}
            kind = "conversation.item.input_audio_transcription"
            if words:
                self._outlet.send({"type": f"{kind}.delta", **place, "delta": words})
            usage = {"type": "duration", "seconds": seconds}
            self._outlet.send({"type": f"{kind}.completed", **place, "transcript": words, "usage": usage})
            entry = self._conversation.find(item_id)
            if entry is not None:
                entry.item["content"][0]["transcript"] = words

    # -- silence

    def _watch_silence(self) -> None:
        """Arm the idle timeout after each response: its end, plus the rest of its playback, plus the timeout."""
        ended = self._responding.last_ended
        if ended is None or ended is self._seen_ended:
            return
        self._seen_ended = ended
        detection = self._hearing.turn_detection or {}
        timeout_ms = detection.get("idle_timeout_ms")
        if timeout_ms is None or self._hearing.speaking:
            return
        began_s, ended_s, audio_ms = ended
        playing_s = max(0.0, began_s + audio_ms / 1000 - ended_s)
        self._idle = (ended_s + playing_s + timeout_ms / 1000, self._hearing.position_ms + playing_s * 1000)

    def _time_out(self) -> None:
        start_ms = self._idle[1] if self._idle is not None else 0.0
        self._idle = None
        if self._responding.active is not None or self._hearing.speaking:
            return
        end_ms = max(self._hearing.position_ms, start_ms)
        item_id = self._outlet.new_id("item")
        place = {"audio_start_ms": round(start_ms), "audio_end_ms": round(end_ms), "item_id": item_id}
        self._outlet.send({"type": "input_audio_buffer.timeout_triggered", **place})
        self._hearing.clear()
        self._add_turn(item_id, end_ms - start_ms)
        self._start_response({})

    # -- conversation

    def _create_item(self, event: dict[str, Any]) -> None:
        item = dict(event["item"])
        audio_ms = self._strip_audio(item)
        item |= {"id": item.get("id") or self._outlet.new_id("item"), "object": "realtime.item", "status": "completed"}
        if item["type"] == "function_call":
            item["call_id"] = item.get("call_id") or self._outlet.new_id("call")
        name = self._conversation.awaited_calls.get(item.get("call_id", ""), "")
        before = self._conversation.insert(item, event.get("previous_item_id"), audio_ms)
        if item["type"] == "function_call_output":
            output = ToolOutput(at_s=self._now, call_id=item["call_id"], name=name, output=item["output"])
            self.log.tool_outputs.add(output)
        for kind in ("conversation.item.added", "conversation.item.done"):
            self._outlet.send({"type": kind, "previous_item_id": before, "item": item})

    def _strip_audio(self, item: dict[str, Any]) -> float:
        """Take audio out of a message's content, as the service shows items; returns its length in ms."""
        audio_format = format_named(self._session["audio"]["input"]["format"]["type"])
        length_ms = 0.0
        parts = []
        for index, part in enumerate(item.get("content", [])):
            if "audio" in part:
                audio = decode_audio(part["audio"], f"item.content[{index}].audio")
                length_ms += audio_format.duration_ms(len(audio))
            parts.append({name: value for name, value in part.items() if name != "audio"})
        if parts:
            item["content"] = parts
        return length_ms

    def _retrieve_item(self, event: dict[str, Any]) -> None:
        item = self._conversation.retrieve(event["item_id"])
        self._outlet.send({"type": "conversation.item.retrieved", "item": item})

    def _truncate_item(self, event: dict[str, Any]) -> None:
        item_id, audio_end_ms = event["item_id"], event["audio_end_ms"]
        entry = self._conversation.find(item_id)
        item_ms = 0.0 if entry is None else entry.audio_ms
        accepted = False
        try:
            self._conversation.truncate(item_id, event["content_index"], audio_end_ms)
            accepted = True
        finally:
            self.log.truncations.add(
                Truncation(
                    at_s=self._now, item_id=item_id, audio_end_ms=audio_end_ms, item_ms=item_ms, accepted=accepted
                )
            )
        place = {"item_id": item_id, "content_index": 0, "audio_end_ms": audio_end_ms}
        self._outlet.send({"type": "conversation.item.truncated", **place})

    def _delete_item(self, event: dict[str, Any]) -> None:
        self._conversation.delete(event["item_id"])
        self._outlet.send({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    # -- responses

    def _create_response(self, event: dict[str, Any]) -> None:
        self._start_response(event.get("response", {}))

    def _start_response(self, wanted: dict[str, Any]) -> None:
        self._responding.start(self._session, wanted, self._now)
        self._idle = None
        self.log.tools_not_offered = self._turns.tools_not_offered

    def _cancel_response(self, event: dict[str, Any]) -> None:
        self._responding.cancel(event.get("response_id"), "client_cancelled", self._now)
