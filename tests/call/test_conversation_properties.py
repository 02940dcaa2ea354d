"""The conversation under any order of events, sensible or not: what must hold of everything it does."""

from __future__ import annotations

from math import isfinite
from typing import Any

from conversation_host import RecordingHost, make_conversation, open_session
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.call.conversation import RealtimeConversation
from engine.call.transcript import Transcript
from engine.errors import ProviderError
from engine.wire import realtime

ALREADY_ACTIVE = "conversation_already_has_active_response"
RESPONSES = st.sampled_from(["resp_1", "resp_2", "resp_3", "resp_4", "resp_5"])
ITEMS = st.sampled_from(["item_1", "item_2", "item_3", "item_4"])
CALLS = st.sampled_from(["call_1", "call_2", "call_3"])
TEXTS = st.text(max_size=30)
CODES = [
    "",
    "",
    ALREADY_ACTIVE,
    ALREADY_ACTIVE,
    ALREADY_ACTIVE,
    "response_cancel_not_active",
    "item_not_found",
    "invalid_value",
    "session_expired",
    "insufficient_quota",
]


class WatchedHost(RecordingHost):
    """Judges every order at the moment it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_per_ms = 8
        # what the service knows
        self.item_bytes: dict[str, int] = {}
        self.truncated: set[str] = set()
        self.active = ""
        self.interrupted: set[str] = set()
        self.speaking = False
        self.outstanding: list[str] = []
        self.answered: set[str] = set()
        # results and keys that no response has seen
        self.unseen = False
        # whose delta is being delivered
        self.delivering = ""
        self.is_over = False

    def send_event(self, event: bytes, *, audio: bool = False) -> None:
        super().send_event(event, audio=audio)
        message = self.sent[-1]
        assert not self.is_over
        assert not self.lost
        assert self.ready or message["type"] == "session.update"
        getattr(self, "_" + message["type"].replace(".", "_"), lambda _: None)(message)

    def _response_create(self, message: dict[str, Any]) -> None:
        assert not self.outstanding
        assert not self.active
        assert not self.speaking
        self.outstanding.append(message["event_id"])

    def _conversation_item_truncate(self, message: dict[str, Any]) -> None:
        item_id = message["item_id"]
        assert item_id not in self.truncated
        assert message["content_index"] == 0
        assert 0 <= message["audio_end_ms"] <= self.item_bytes[item_id] // self.bytes_per_ms
        self.truncated.add(item_id)

    def _conversation_item_create(self, message: dict[str, Any]) -> None:
        if message["item"]["type"] == "function_call_output":
            call_id = message["item"]["call_id"]
            assert call_id in {call.call_id for call in self.tools}
            assert call_id not in self.answered
            self.answered.add(call_id)
        self.unseen = True

    def play(self, item_id: str, ulaw: bytes) -> None:
        super().play(item_id, ulaw)
        assert not self.is_over
        assert not self.lost
        assert self.delivering not in self.interrupted
        assert item_id not in self.truncated

    def run_tool(self, call: realtime.FunctionCalled) -> None:
        assert call.call_id not in {earlier.call_id for earlier in self.tools}
        super().run_tool(call)

    def session_lost(self, error: ProviderError) -> None:
        super().session_lost(error)
        assert len(self.lost) == 1


class Conversation(RuleBasedStateMachine):
    """One session with a service that may say anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.host = WatchedHost()
        self.conversation: RealtimeConversation = make_conversation(self.host)
        self.abandoned = False
        self.refused_for_good = False

    @initialize(
        audio=st.sampled_from(["pcmu", "pcmu", "pcm24k"]),
        greeting=st.sampled_from(["", "Greet the caller."]),
        said_before=st.booleans(),
        opened=st.sampled_from([True, True, True, False]),
    )
    def begin(self, audio: str, greeting: str, said_before: bool, opened: bool) -> None:
        transcript = Transcript()
        if said_before:
            transcript.caller_said("hello")
            transcript.assistant_said("old", "good day")
        self.host.bytes_per_ms = 8 if audio == "pcmu" else 48
        # audio of a session before this one, still to be heard
        self.host.delivering = "resp_0"
        self.host.playout.play("old", bytes(4000), self.host.now)
        self.conversation = make_conversation(self.host, audio=audio, greeting=greeting, transcript=transcript)
        if opened:
            open_session(self.conversation, self.host)
            self.host.unseen = False

    @property
    def in_session(self) -> bool:
        return bool(self.host.ready) and not self.host.lost and not self.abandoned

    def receive(self, event: realtime.Event) -> None:
        self.conversation.receive(event, self.host.now)

    # --------------------------------------------------------------------------------------------- from the service

    @rule(event=st.sampled_from([realtime.SessionCreated("s"), realtime.SessionUpdated({}), realtime.Other("x.y")]))
    def set_up(self, event: realtime.Event) -> None:
        self.receive(event)

    @rule(response_id=RESPONSES)
    def response_created(self, response_id: str) -> None:
        if self.in_session:
            self.host.active, self.host.outstanding, self.host.unseen = response_id, [], False
        self.receive(realtime.ResponseCreated(response_id))

    @rule(
        response_id=RESPONSES,
        status=st.sampled_from(["completed", "completed", "completed", "cancelled", "incomplete", "failed"]),
        reason=st.sampled_from(["", "turn_detected", "server_error", "insufficient_quota"]),
        of_active=st.booleans(),
    )
    def response_done(self, response_id: str, status: str, reason: str, of_active: bool) -> None:
        done_id = self.host.active if of_active and self.host.active else response_id
        self.host.delivering = done_id
        if done_id == self.host.active:
            self.host.active = ""
        self.receive(realtime.ResponseDone(done_id, status, reason, ""))

    @rule(response_id=RESPONSES, of_active=st.booleans(), item_id=ITEMS, n_bytes=st.integers(0, 12000))
    def audio_delta(self, response_id: str, of_active: bool, item_id: str, n_bytes: int) -> None:
        response_id = self.host.active if of_active and self.host.active else response_id
        self.host.delivering = response_id
        if self.in_session:
            self.host.item_bytes[item_id] = self.host.item_bytes.get(item_id, 0) + n_bytes
        self.receive(realtime.AudioDelta(response_id, item_id, 0, b"\x05" * n_bytes))

    @rule(response_id=RESPONSES, item_id=ITEMS)
    def audio_done(self, response_id: str, item_id: str) -> None:
        self.host.delivering = ""
        self.receive(realtime.AudioDone(response_id, item_id))

    @rule()
    def speech_started(self) -> None:
        if self.in_session:
            self.host.speaking = True
            self.host.interrupted |= {self.host.active} - {""}
        self.receive(realtime.SpeechStarted(0, "user_1"))
        if self.in_session:
            assert not self.host.playout.is_playing(self.host.now)

    @rule()
    def speech_stopped(self) -> None:
        self.host.speaking = False
        self.receive(realtime.SpeechStopped(0, "user_1"))

    @rule(call_id=CALLS, arguments=TEXTS, response_id=RESPONSES)
    def function_called(self, call_id: str, arguments: str, response_id: str) -> None:
        self.receive(realtime.FunctionCalled(response_id, call_id, "lookup", arguments))

    @rule(item_id=ITEMS, text=TEXTS, caller=st.booleans())
    def transcribed(self, item_id: str, text: str, caller: bool) -> None:
        self.receive(realtime.CallerTranscribed(item_id, text) if caller else realtime.TranscriptDone(item_id, text))

    @rule(
        code=st.sampled_from(CODES), whose=st.sampled_from(["ours", "ours", "", "create-1", "truncate-1", "nonsense"])
    )
    def error(self, code: str, whose: str) -> None:
        outstanding = self.host.outstanding
        event_id = (outstanding[0] if outstanding else "") if whose == "ours" else whose
        if outstanding and (event_id == outstanding[0] or (not event_id and code == ALREADY_ACTIVE)):
            self.host.outstanding = []
            self.refused_for_good |= code != ALREADY_ACTIVE
        self.host.delivering = ""
        self.receive(realtime.ErrorReported(code, "invalid_request_error", "…", event_id))

    # ------------------------------------------------------------------------------------------------ from the call

    @rule(n_bytes=st.integers(1, 30000))
    def hear(self, n_bytes: int) -> None:
        appended = len(self.host.sent_of_type("input_audio_buffer.append"))
        self.conversation.hear("/" * n_bytes, b"\xff" * n_bytes)
        if not self.in_session:
            assert len(self.host.sent_of_type("input_audio_buffer.append")) == appended

    @rule(digits=st.text("0123456789*#", min_size=1, max_size=5))
    def keys_pressed(self, digits: str) -> None:
        self.conversation.keys_pressed(digits, self.host.now)

    @rule(call_id=CALLS, output=TEXTS)
    def tool_finished(self, call_id: str, output: str) -> None:
        self.conversation.tool_finished(call_id, output, self.host.now)

    @rule(ms=st.integers(1, 3000))
    def pass_time(self, ms: int) -> None:
        self.advance_clock(self.host.now + ms / 1000)

    def advance_clock(self, end: float) -> None:
        while (due_at := self.conversation.due_at()) is not None and due_at <= end:
            self.host.pass_time(max(0.0, due_at - self.host.now))
            self.conversation.advance(self.host.now)
        self.host.pass_time(max(0.0, end - self.host.now))
        self.conversation.advance(self.host.now)

    @rule(really=st.sampled_from([False] * 15 + [True]))
    def abandon(self, really: bool) -> None:
        if really:
            self.host.delivering = ""
            self.conversation.abandon()
            self.abandoned = self.host.is_over = True

    # -------------------------------------------------------------------------------------------------- what holds

    @invariant()
    def nothing_is_overdue(self) -> None:
        due_at = self.conversation.due_at()
        assert due_at is None or (isfinite(due_at) and due_at > self.host.now)

    def teardown(self) -> None:
        """Everything that was asked for is answered once nothing is in the way."""
        if not self.in_session:
            return
        self.host.delivering = ""
        for call in self.host.tools:
            self.conversation.tool_finished(call.call_id, "{}", self.host.now)
        assert self.host.answered == {call.call_id for call in self.host.tools}
        self.speech_stopped()
        if self.host.active:
            active, self.host.active = self.host.active, ""
            self.receive(realtime.ResponseDone(active, "completed", "", ""))
        self.advance_clock(self.host.now + 5)
        if self.host.unseen and not self.refused_for_good:
            assert len(self.host.outstanding) == 1


Conversation.TestCase.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestConversation = Conversation.TestCase
