"""The caller's turns: speech is found on the audio's own time base, answered, and interrupts (protocols.md B.2, B.3)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realtime_driver import PCMU_BOTH, Driver, question, silence, tone, types_of

from engine.audio.g711 import ulaw_decode
from engine.simulator.openai import PeerConfig, Script, Speak
from engine.simulator.openai.detector import DetectorSettings, SpeechBegan, SpeechDetector, SpeechEnded
from engine.simulator.voices import load_ulaw

TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
]
CANCELLED = [
    "input_audio_buffer.speech_started",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
    "rate_limits.updated",
]


def listening(**fields: object) -> Driver:
    driver = Driver(Script(replies=(Speak("agent_order"), Speak("agent_sorry")), heard=("Where is it?",)))
    driver.detect_turns(silence_duration_ms=500, **fields)
    return driver


def test_a_turn_of_the_caller_is_noticed_committed_and_answered() -> None:
    driver = listening()
    driver.hear(silence(1000) + question())
    turn = [event for event in driver.events if event["type"] in TURN][-6:]
    assert types_of(turn) == TURN
    started, stopped, committed, added, done, _ = turn
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == added["item"]["id"] == done["item"]["id"]
    assert started["audio_start_ms"] == 1000 - 300
    speech_ms = len(load_ulaw("caller_question")) / 8
    assert 1000 + speech_ms + 500 - 100 <= stopped["audio_end_ms"] <= 1000 + speech_ms + 500 + 20
    assert added["item"]["role"] == "user"


def test_times_are_those_of_the_audio_not_of_the_clock() -> None:
    driver = listening()
    driver.hear(silence(400))
    driver.run_for(60)
    driver.hear(tone(200))
    (started,) = driver.of_type("input_audio_buffer.speech_started")
    assert started["audio_start_ms"] == 100
    assert driver.session.log.speech_started_s == [pytest.approx(100 + 0.4 + 60 + 0.04)]


def test_speech_is_noticed_within_60_ms_of_its_audio() -> None:
    driver = listening()
    assert types_of(driver.hear(tone(40))) == []
    assert types_of(driver.hear(tone(20))) == ["input_audio_buffer.speech_started"]


def test_padding_does_not_reach_before_the_audio_or_into_the_turn_before() -> None:
    driver = listening(create_response=False)
    driver.hear(tone(200) + silence(500) + tone(200))
    starts = [event["audio_start_ms"] for event in driver.of_type("input_audio_buffer.speech_started")]
    (stopped,) = driver.of_type("input_audio_buffer.speech_stopped")
    assert starts == [0, 700]
    assert stopped["audio_end_ms"] == 700


def test_a_click_and_a_murmur_are_no_speech() -> None:
    driver = listening()
    driver.hear((tone(40) + silence(60)) * 5 + tone(1000, -46.0))
    assert driver.of_type("input_audio_buffer.speech_started") == []


def test_a_lower_threshold_hears_the_murmur() -> None:
    driver = listening(threshold=0.2)
    driver.hear(tone(1000, -46.0))
    assert len(driver.of_type("input_audio_buffer.speech_started")) == 1


def test_a_pause_shorter_than_the_silence_does_not_end_the_turn() -> None:
    driver = listening()
    driver.hear(tone(300) + silence(480) + tone(300))
    assert driver.of_type("input_audio_buffer.speech_stopped") == []


def test_eagerness_decides_how_long_a_semantic_turn_waits() -> None:
    for eagerness, wait_ms in (("high", 500), ("auto", 1000), ("low", 2000)):
        driver = Driver()
        detection = {"type": "semantic_vad", "eagerness": eagerness}
        driver.update(audio={**PCMU_BOTH, "input": {**PCMU_BOTH["input"], "turn_detection": detection}})
        driver.hear(tone(200) + silence(2500))
        assert driver.of_type("input_audio_buffer.speech_stopped")[0]["audio_end_ms"] == 200 + wait_ms


def test_without_turn_detection_nothing_is_noticed() -> None:
    driver = Driver()
    driver.use_pcmu()
    driver.update(audio={"input": {"turn_detection": None}})
    assert driver.hear(question()) == []


def test_create_response_false_leaves_the_answer_to_the_client() -> None:
    driver = listening(create_response=False)
    driver.hear(question())
    assert len(driver.of_type("input_audio_buffer.committed")) == 1
    assert driver.of_type("response.created") == []


def test_speech_cancels_the_response_under_way_and_closes_all_that_is_open() -> None:
    driver = listening()
    driver.send("response.create")
    driver.run_for(0.6)
    fresh = driver.hear(tone(60))
    assert types_of(fresh)[-len(CANCELLED) :] == CANCELLED
    response = driver.of_type("response.done")[-1]["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert response["output"][0]["status"] == "incomplete"
    assert 0 < len(response["output"][0]["content"][0]["transcript"]) < 100
    assert driver.run_for(5) == []


def test_speech_before_the_first_audio_cancels_a_response_without_items() -> None:
    driver = listening()
    driver.send("response.create")
    driver.hear(tone(60))
    assert types_of(driver.events)[-3:] == ["input_audio_buffer.speech_started", "response.done", "rate_limits.updated"]
    assert driver.events[-2]["response"]["output"] == []


def test_speech_after_the_response_is_done_cancels_nothing() -> None:
    driver = listening()
    driver.send("response.create")
    driver.run_for(3)
    assert types_of(driver.hear(tone(60))) == ["input_audio_buffer.speech_started"]


def test_without_interruption_the_response_goes_on_and_the_turn_gets_none() -> None:
    driver = Driver(Script(replies=(Speak(seconds=30.0),)), PeerConfig(speedup=1.0))
    driver.detect_turns(interrupt_response=False)
    driver.send("response.create")
    driver.run_for(1)
    driver.hear(tone(300) + silence(300))
    assert len(driver.of_type("input_audio_buffer.committed")) == 1
    assert driver.last_error()["code"] == "conversation_already_has_active_response"
    assert driver.of_type("response.done") == []
    assert "response.output_audio.delta" in types_of(driver.run_for(0.5))


def test_a_transcript_follows_when_transcription_is_on() -> None:
    driver = listening()
    driver.update(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    driver.hear(question())
    driver.run_for(1)
    kind = "conversation.item.input_audio_transcription"
    (delta,), (completed,) = driver.of_type(f"{kind}.delta"), driver.of_type(f"{kind}.completed")
    assert delta["delta"] == completed["transcript"] == "Where is it?"
    assert completed["item_id"] == driver.of_type("input_audio_buffer.committed")[0]["item_id"]
    assert completed["usage"]["type"] == "duration"


def test_no_transcript_comes_when_transcription_is_off() -> None:
    driver = listening()
    driver.hear(question())
    driver.run_for(5)
    assert not any("transcription" in kind for kind in driver.types())


def test_a_commit_by_the_client_takes_the_turn_under_way() -> None:
    driver = listening()
    driver.hear(tone(300))
    (started,) = driver.of_type("input_audio_buffer.speech_started")
    committed, *_ = driver.send("input_audio_buffer.commit")
    assert committed["item_id"] == started["item_id"]
    driver.hear(silence(1000))
    assert driver.of_type("input_audio_buffer.speech_stopped") == []


def test_a_silent_caller_is_spoken_to_after_the_answer_was_played_and_the_timeout() -> None:
    driver = Driver(Script(replies=(Speak(seconds=4.0),)), PeerConfig(first_audio_ms=500, speedup=10))
    driver.detect_turns(idle_timeout_ms=5000)
    driver.send("response.create")
    driver.hear(silence(9400))
    assert driver.of_type("input_audio_buffer.timeout_triggered") == []
    driver.hear(silence(200))
    (timeout,) = driver.of_type("input_audio_buffer.timeout_triggered")
    assert timeout["audio_end_ms"] - timeout["audio_start_ms"] == pytest.approx(5000, abs=40)
    follow = types_of(driver.events[driver.events.index(timeout) :])
    assert follow[:5] == ["input_audio_buffer.timeout_triggered", *TURN[2:]]


def test_speech_disarms_the_timeout() -> None:
    driver = Driver(Script(replies=(Speak(seconds=1.0),)))
    driver.detect_turns(idle_timeout_ms=5000, create_response=False)
    driver.send("response.create")
    driver.run_for(2)
    driver.hear(tone(200) + silence(8000))
    assert driver.of_type("input_audio_buffer.timeout_triggered") == []


SOUND = np.frombuffer(ulaw_decode(silence(130) + tone(333) + silence(700) + tone(95) + silence(250)), dtype="<i2")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3000), max_size=30))
def test_turns_do_not_depend_on_how_the_audio_is_cut(sizes: list[int]) -> None:
    whole = SpeechDetector(DetectorSettings(), rate_hz=8000).feed(SOUND)
    detector, found, start = SpeechDetector(DetectorSettings(), rate_hz=8000), [], 0
    for size in [*sizes, len(SOUND)]:
        found += detector.feed(SOUND[start : start + size])
        start += size
    assert found == whole
    assert [type(detection) for detection in whole] == [SpeechBegan, SpeechEnded, SpeechBegan, SpeechEnded]
