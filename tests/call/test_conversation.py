"""The conversation in the situations of a telephone call, one by one."""

from __future__ import annotations

import pytest
from conversation_host import RecordingHost, make_conversation, open_session

from engine.call.conversation import EARLY_LIMIT_BYTES, FAILURE_LIMIT, RealtimeConversation
from engine.call.ledger import HeardItem
from engine.call.transcript import Transcript
from engine.errors import ProviderError, ProviderFatalError
from engine.wire import realtime
from engine.wire.realtime import (
    AudioDelta,
    AudioDone,
    ErrorReported,
    FunctionCalled,
    ResponseCreated,
    ResponseDone,
    SpeechStarted,
    SpeechStopped,
    TranscriptDone,
)

ALREADY_ACTIVE = "conversation_already_has_active_response"


class Session:
    """A conversation that is ready, and its host."""

    def __init__(self, *, audio: str = "pcmu", greeting: str = "") -> None:
        self.host = RecordingHost()
        self.transcript = Transcript()
        self.conversation: RealtimeConversation = make_conversation(
            self.host, audio=audio, greeting=greeting, transcript=self.transcript
        )
        open_session(self.conversation, self.host)

    def receive(self, *events: realtime.Event) -> None:
        for event in events:
            self.conversation.receive(event, self.host.now)

    def speak(self, response_id: str, item_id: str, ms: int) -> None:
        self.receive(AudioDelta(response_id, item_id, 0, b"\x05" * (ms * 8)))

    def finish_tool(self, call_id: str) -> None:
        self.conversation.tool_finished(call_id, "{}", self.host.now)


def done(response_id: str, status: str = "completed", reason: str = "") -> ResponseDone:
    return ResponseDone(response_id, status, reason, "")


def call(call_id: str, response_id: str = "r1") -> FunctionCalled:
    return FunctionCalled(response_id, call_id, "lookup", "{}")


# ------------------------------------------------------------------------------------------------------- setting up


def test_the_session_is_configured_once_it_was_created() -> None:
    host = RecordingHost()
    conversation = make_conversation(host)
    assert host.sent == []
    conversation.receive(realtime.SessionCreated("s"), host.now)
    assert [message["type"] for message in host.sent] == ["session.update"]
    assert not host.ready
    conversation.receive(realtime.SessionUpdated({}), host.now)
    assert host.ready == 1


def test_no_audio_is_appended_before_the_session_has_our_format() -> None:
    host = RecordingHost()
    conversation = make_conversation(host)
    conversation.hear("//8=", b"\xff\xff")
    conversation.receive(realtime.SessionCreated("s"), host.now)
    conversation.hear("fn4=", b"\x7e\x7e")
    assert host.sent_of_type("input_audio_buffer.append") == []
    conversation.receive(realtime.SessionUpdated({}), host.now)
    appended = host.sent_of_type("input_audio_buffer.append")
    assert [message["audio"] for message in appended] == ["//8=", "fn4="]


def test_of_what_was_said_too_early_the_newest_is_kept() -> None:
    host = RecordingHost()
    conversation = make_conversation(host)
    for n in range(200):
        conversation.hear("", bytes([n]) * 160)
    open_session(conversation, host)
    kept = len(host.sent_of_type("input_audio_buffer.append"))
    assert kept == EARLY_LIMIT_BYTES // 160
    assert conversation.counts.early_dropped_bytes == (200 - kept) * 160
    assert host.sent_of_type("input_audio_buffer.append")[-1]["audio"].startswith("x8fH")


def test_only_audio_may_be_dropped_when_the_provider_stops_reading() -> None:
    session = Session(greeting="Greet.")
    session.conversation.hear("//8=", b"\xff\xff")
    assert [m["type"] for m, droppable in zip(session.host.sent, session.host.droppable, strict=True) if droppable] == [
        "input_audio_buffer.append"
    ]


def test_the_greeting_is_asked_for_once() -> None:
    session = Session(greeting="Say hello.")
    (create,) = session.host.creates()
    assert create["response"]["instructions"] == "Say hello."
    session.receive(ResponseCreated("r1"), done("r1"))
    session.conversation.keys_pressed("1", session.host.now)
    assert "response" not in session.host.creates()[1]


def test_keys_pressed_while_the_greeting_is_asked_for_wait_for_it() -> None:
    session = Session(greeting="Say hello.")
    session.conversation.keys_pressed("1", session.host.now)
    assert len(session.host.creates()) == 1


def test_a_greeting_that_failed_is_asked_for_again_with_its_words() -> None:
    session = Session(greeting="Say hello.")
    session.receive(ResponseCreated("r1"), done("r1", "failed", "server_error"))
    assert len(session.host.creates()) == 1
    due_at = session.conversation.due_at()
    assert due_at is not None
    session.conversation.advance(due_at)
    assert [create["response"]["instructions"] for create in session.host.creates()] == ["Say hello."] * 2


def test_a_new_session_is_told_what_was_said_and_goes_on() -> None:
    host, transcript = RecordingHost(), Transcript()
    transcript.caller_said("hello")
    transcript.assistant_said("a", "good day")
    open_session(make_conversation(host, greeting="Greet.", transcript=transcript), host)
    items = [message["item"] for message in host.sent_of_type("conversation.item.create")]
    assert [item["role"] for item in items] == ["user", "assistant"]
    assert "interrupted" in host.creates()[0]["response"]["instructions"]


def test_a_refused_configuration_is_fatal() -> None:
    host = RecordingHost()
    conversation = make_conversation(host)
    conversation.receive(realtime.SessionCreated("s"), host.now)
    conversation.receive(ErrorReported("invalid_value", "invalid_request_error", "voice", "session"), host.now)
    assert [type(error) for error in host.lost] == [ProviderFatalError]


# ------------------------------------------------------------------------------------------------------- barge-in


def test_an_interrupted_item_is_truncated_at_what_was_heard() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 5000)
    session.host.pass_time(1.234)
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == [("a", 1234)]


def test_late_audio_of_an_interrupted_response_is_never_played() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 500)
    session.receive(SpeechStarted(0, "u"))
    heard = session.host.audio_of("a")
    session.speak("r1", "a", 500)
    session.receive(AudioDone("r1", "a"), done("r1", "cancelled", "turn_detected"))
    session.speak("r1", "b", 500)
    assert session.host.audio_of("a") == heard
    assert session.host.audio_of("b") == b""
    assert session.conversation.counts.unwanted_bytes == 8000
    assert session.host.playout.due_at() is None


def test_late_audio_that_continues_what_was_heard_is_truncated_away() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 400)
    session.host.pass_time(1)
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == []
    session.speak("r1", "a", 300)
    session.speak("r1", "a", 300)
    session.speak("r1", "b", 300)
    assert session.host.truncations() == [("a", 400), ("b", 0)]


def test_audio_that_comes_for_a_truncated_item_is_not_played() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 5000)
    session.receive(AudioDone("r1", "a"), done("r1"), SpeechStarted(0, "u"))
    before = session.host.audio_of("a")
    session.speak("r1", "a", 100)
    session.receive(SpeechStarted(0, "u"))
    assert session.host.audio_of("a") == before
    assert len(session.host.truncations()) == 1


def test_a_second_interruption_at_once_truncates_nothing_more() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 1000)
    session.host.pass_time(0.3)
    session.receive(SpeechStarted(0, "u"), SpeechStarted(0, "u"))
    assert session.host.truncations() == [("a", 300)]
    assert session.conversation.counts.interruptions == 1


def test_items_still_waiting_are_truncated_too() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 500)
    session.receive(AudioDone("r1", "a"))
    session.speak("r1", "b", 500)
    session.host.pass_time(0.2)
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == [("a", 200), ("b", 0)]


def test_the_next_response_is_played_after_an_interruption() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 500)
    session.receive(SpeechStarted(0, "u"), done("r1", "cancelled"), SpeechStopped(0, "u"), ResponseCreated("r2"))
    session.speak("r2", "b", 500)
    assert len(session.host.audio_of("b")) == 4000


def test_items_of_an_earlier_session_are_not_truncated_in_this_one() -> None:
    session = Session()
    session.host.play("of the lost session", bytes(8000))
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == []


def test_the_transcript_ends_where_the_caller_interrupted() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 1000)
    session.receive(TranscriptDone("a", "one two three four five six seven eight nine ten"))
    session.host.pass_time(0.3)
    session.receive(SpeechStarted(0, "u"))
    assert [line.text for line in session.transcript.lines] == ["one two three"]


def test_pcm_is_truncated_within_what_the_item_holds() -> None:
    session = Session(audio="pcm24k")
    session.receive(ResponseCreated("r1"), AudioDelta("r1", "a", 0, bytes(48 * 1000)), AudioDone("r1", "a"))
    assert len(session.host.audio_of("a")) == 8000
    session.host.pass_time(0.6)
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == [("a", 600)]


def test_pcm_items_end_to_the_sample_when_the_next_begins_without_a_word() -> None:
    session = Session(audio="pcm24k")
    session.receive(
        ResponseCreated("r1"), AudioDelta("r1", "a", 0, bytes(4801)), AudioDelta("r1", "b", 0, bytes(6000)), done("r1")
    )
    assert len(session.host.audio_of("a")) == 800
    assert len(session.host.audio_of("b")) == 1000
    assert [item_id for item_id, _ in session.host.played] == sorted(item_id for item_id, _ in session.host.played)


def test_interrupted_pcm_leaves_nothing_for_the_next_item() -> None:
    session = Session(audio="pcm24k")
    session.receive(ResponseCreated("r1"), AudioDelta("r1", "a", 0, b"\x00\x40" * 2400))
    before = session.host.audio_of("a")
    session.receive(SpeechStarted(0, "u"), done("r1", "cancelled"), ResponseCreated("r2"))
    session.receive(AudioDelta("r2", "b", 0, bytes(4800)), AudioDone("r2", "b"))
    assert session.host.audio_of("a") == before
    assert session.host.audio_of("b") == b"\xff" * 800


# ---------------------------------------------------------------------------------------------------------- tools


def test_one_response_is_asked_for_after_all_results_and_the_responses_end() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), call("c2"))
    session.finish_tool("c1")
    session.finish_tool("c2")
    assert session.host.creates() == []
    session.receive(done("r1"))
    assert len(session.host.creates()) == 1
    session.receive(ResponseCreated("r2"), done("r2"))
    assert len(session.host.creates()) == 1


def test_a_slow_tool_is_waited_for() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), call("c2"), done("r1"))
    session.finish_tool("c2")
    assert session.host.creates() == []
    session.finish_tool("c1")
    assert len(session.host.creates()) == 1


def test_a_function_is_run_once_and_its_result_is_sent_once() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), call("c1"), done("r1"))
    assert [tool.call_id for tool in session.host.tools] == ["c1"]
    for call_id in ("c1", "c1", "never called"):
        session.finish_tool(call_id)
    assert len(session.host.sent_of_type("conversation.item.create")) == 1
    session.receive(ResponseCreated("r2"), call("c2"), done("r2"))
    session.finish_tool("c2")
    assert len(session.host.creates()) == 2


def test_results_that_come_while_the_caller_speaks_are_answered_by_the_service_itself() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), done("r1"), SpeechStarted(0, "u"))
    session.finish_tool("c1")
    session.receive(SpeechStopped(0, "u"), ResponseCreated("r2"), done("r2"))
    session.conversation.advance(session.host.now + 10)
    assert session.host.creates() == []


def test_a_service_that_does_not_answer_the_caller_is_asked_after_all() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), done("r1"), SpeechStarted(0, "u"))
    session.finish_tool("c1")
    session.receive(SpeechStopped(0, "u"))
    due_at = session.conversation.due_at()
    assert due_at is not None
    session.conversation.advance(due_at - 0.001)
    assert session.host.creates() == []
    session.conversation.advance(due_at)
    assert len(session.host.creates()) == 1


@pytest.mark.parametrize("announced_first", [True, False])
def test_a_create_that_met_another_response_is_sent_again_after_it(announced_first: bool) -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), call("c1"), done("r1"))
    session.finish_tool("c1")
    refusal = ErrorReported(ALREADY_ACTIVE, "invalid_request_error", "", session.host.creates()[0]["event_id"])
    if announced_first:
        session.receive(ResponseCreated("r2"), refusal)
    else:
        session.receive(refusal)
    assert len(session.host.creates()) == 1
    session.receive(done("r2"))
    session.conversation.advance(session.host.now + 2)
    assert len(session.host.creates()) == 2


def test_the_refusal_of_an_earlier_create_does_not_repeat_the_latest() -> None:
    session = Session()
    session.conversation.keys_pressed("1", session.host.now)
    session.receive(ResponseCreated("r1"), done("r1"))
    session.conversation.keys_pressed("2", session.host.now)
    session.receive(ErrorReported(ALREADY_ACTIVE, "", "", "create-1"))
    session.conversation.advance(session.host.now + 5)
    assert len(session.host.creates()) == 2


# --------------------------------------------------------------------------------------------------- ends and errors


def test_a_lost_session_is_reported_once_and_then_silent() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), ErrorReported("session_expired", "", "", ""))
    n_sent, n_played = len(session.host.sent), len(session.host.played)
    session.speak("r1", "a", 100)
    session.receive(SpeechStarted(0, "u"), call("c1"), done("r1"), ErrorReported("invalid_api_key", "", "", ""))
    session.conversation.keys_pressed("1", session.host.now)
    session.conversation.hear("//8=", b"\xff\xff")
    assert [type(error) for error in session.host.lost] == [ProviderError]
    assert (len(session.host.sent), len(session.host.played)) == (n_sent, n_played)
    assert session.host.tools == []
    assert session.conversation.due_at() is None


@pytest.mark.parametrize("audio", ["pcmu", "pcm24k"])
def test_what_a_lost_session_had_said_is_heard_to_its_end(audio: str) -> None:
    session = Session(audio=audio)
    bytes_per_ms = 8 if audio == "pcmu" else 48
    session.receive(ResponseCreated("r1"), AudioDelta("r1", "a", 0, bytes(bytes_per_ms * 110)))
    session.conversation.abandon()
    session.conversation.abandon()
    assert len(session.host.audio_of("a")) == 880
    assert session.host.completed == 1
    session.host.pass_time(1)
    assert session.host.playout.pacer.queued_bytes == 0


def test_failed_responses_are_tried_again_and_then_the_session_is_given_up() -> None:
    session = Session()
    session.conversation.keys_pressed("1", session.host.now)
    for n in range(FAILURE_LIMIT):
        assert session.host.lost == []
        session.receive(ResponseCreated(f"r{n}"), done(f"r{n}", "failed", "server_error"))
        session.host.now += 2
        session.conversation.advance(session.host.now)
    assert [type(error) for error in session.host.lost] == [ProviderError]
    assert len(session.host.creates()) == FAILURE_LIMIT


def test_a_failure_that_no_attempt_can_mend_is_fatal() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"), done("r1", "failed", "insufficient_quota"))
    assert [type(error) for error in session.host.lost] == [ProviderFatalError]


def test_errors_that_the_call_survives_are_told_once_each() -> None:
    session = Session()
    for code in ("item_not_found", "item_not_found", "response_cancel_not_active", "other"):
        session.receive(ErrorReported(code, "invalid_request_error", "…", "x"))
    assert len(session.host.warnings) == 2
    assert session.host.lost == []
    assert session.conversation.counts.errors == 4


def test_the_end_of_speech_is_heard_also_when_the_service_ends_the_session() -> None:
    session = Session()
    session.receive(ResponseCreated("r1"))
    session.speak("r1", "a", 110)
    session.receive(ErrorReported("session_expired", "", "", ""))
    session.host.pass_time(1)
    assert session.host.playout.pacer.queued_bytes == 0


def test_a_refusal_of_nothing_we_asked_asks_for_nothing() -> None:
    session = Session()
    session.receive(ErrorReported(ALREADY_ACTIVE, "", "", ""))
    session.conversation.advance(session.host.now + 5)
    assert session.host.creates() == []


def test_a_filters_rounding_is_not_truncated_beyond_the_item() -> None:
    session = Session(audio="pcm24k")
    # 23 samples are less than a millisecond, and 8 samples on the telephone are a whole one
    session.receive(ResponseCreated("r1"), AudioDelta("r1", "a", 0, bytes(46)), AudioDone("r1", "a"))
    session.speak("r1", "b", 600)
    session.host.interrupt = lambda: (HeardItem("a", 1), HeardItem("b", 0))  # type: ignore[method-assign]
    session.receive(SpeechStarted(0, "u"))
    assert session.host.truncations() == [("a", 0), ("b", 0)]


def test_keys_pressed_before_the_session_is_ready_are_told_once_it_is() -> None:
    host = RecordingHost()
    conversation = make_conversation(host, greeting="")
    conversation.keys_pressed("1", host.now)
    conversation.keys_pressed("2", host.now)
    assert host.sent == []
    open_session(conversation, host)
    told = [event["item"]["content"][0]["text"] for event in host.sent if event["type"] == "conversation.item.create"]
    assert told == ["[The caller pressed 1 2 on the keypad.]"]
