"""Responses: events in order, audio in bursts, tools, truncation and the accounts of it all (protocols.md B.3, B.4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realtime_driver import TOOL, Driver, silence, tone, types_of

from engine.audio.g711 import alaw_encode
from engine.simulator.openai import CallTool, PeerConfig, Script, Speak
from engine.simulator.openai.speech import SpeechLibrary, synthetic_speech
from engine.simulator.voices import RECORDINGS, load_pcm, load_ulaw

LIBRARY = SpeechLibrary()
SHORT = "agent_sorry"
OUTER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
    "rate_limits.updated",
]
LOOK_UP = CallTool("lookup_order", {"order": "4711"})


def speaking(*replies: Any, config: PeerConfig | None = None, **session: Any) -> Driver:
    driver = Driver(Script(replies=replies or (Speak(SHORT),)), config, library=LIBRARY)
    driver.use_pcmu(**session)
    return driver


def respond(driver: Driver, seconds: float = 30.0, **response: Any) -> list[dict[str, Any]]:
    start = len(driver.events)
    driver.send("response.create", **({"response": response} if response else {}))
    driver.run_for(seconds)
    return driver.events[start:]


def audio_of(events: list[dict[str, Any]]) -> bytes:
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    return b"".join(base64.b64decode(delta, validate=True) for delta in deltas)


def test_a_spoken_response_sends_its_events_in_the_services_order() -> None:
    events = respond(speaking())
    assert [kind for kind in types_of(events) if not kind.endswith(".delta")] == OUTER
    first, last = types_of(events).index("response.content_part.added"), types_of(events).index(OUTER[4])
    assert set(types_of(events[first + 1 : last])) == {
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
    }


def test_the_ids_of_a_response_agree() -> None:
    events = respond(speaking())
    response_ids = {event["response_id"] for event in events if "response_id" in event}
    item_ids = {
        event.get("item_id") or event["item"]["id"] for event in events if "item_id" in event or "item" in event
    }
    assert response_ids == {events[0]["response"]["id"]}
    assert len(item_ids) == 1
    assert len({event["event_id"] for event in events}) == len(events)


def test_the_deltas_add_up_to_the_recording_and_its_words() -> None:
    events = respond(speaking())
    assert audio_of(events) == load_ulaw(SHORT)
    words = "".join(e["delta"] for e in events if e["type"] == "response.output_audio_transcript.delta")
    (done,) = [event for event in events if event["type"] == "response.output_audio_transcript.done"]
    assert words == done["transcript"] == RECORDINGS[SHORT].transcript


def test_audio_comes_in_uneven_bursts_faster_than_real_time() -> None:
    driver = speaking(config=PeerConfig(first_audio_ms=300, speedup=8, delta_ms=(60, 200)))
    created_s = driver.now
    respond(driver)
    deltas = list(driver.session.log.deltas)
    assert deltas[0].at_s == pytest.approx(created_s + 0.3)
    heard_ms = sum(delta.duration_ms for delta in deltas)
    assert deltas[-1].at_s - deltas[0].at_s == pytest.approx((heard_ms - deltas[-1].duration_ms) / 8000, abs=1e-6)
    assert all(60 <= delta.duration_ms <= 200 for delta in deltas[:-1])
    assert any(len(delta.audio) % 160 for delta in deltas[:-1])


def test_the_same_seed_cuts_the_same_and_another_differently() -> None:
    def sizes(seed: int) -> list[int]:
        driver = speaking(config=PeerConfig(seed=seed))
        respond(driver)
        return [len(delta.audio) for delta in driver.session.log.deltas]

    assert sizes(1) == sizes(1) != sizes(2)


def test_a_law_and_24_khz_are_sent_when_asked_for() -> None:
    driver = speaking(Speak(SHORT), Speak(SHORT))
    assert audio_of(respond(driver, audio={"output": {"format": {"type": "audio/pcma"}}})) == alaw_encode(
        load_pcm(SHORT)
    )
    pcm = {"type": "audio/pcm", "rate": 24000}
    events = respond(driver, audio={"output": {"format": pcm}})
    assert len(audio_of(events)) == 3 * len(load_pcm(SHORT))
    assert events[0]["response"]["audio"]["output"]["format"] == pcm
    deltas = list(driver.session.log.deltas)
    assert driver.session.log.item_sent_ms(deltas[-1].item_id) == pytest.approx(len(load_ulaw(SHORT)) / 8)


def test_synthetic_speech_has_the_length_asked_for_and_keeps_a_turn_going() -> None:
    driver = speaking(Speak(seconds=20.5))
    audio = audio_of(respond(driver))
    assert len(audio) == 20.5 * 8000
    listener = Driver()
    listener.detect_turns()
    listener.hear(audio[: 8000 * 9])
    assert types_of(listener.of_type("input_audio_buffer.speech_started")) == ["input_audio_buffer.speech_started"]
    assert listener.of_type("input_audio_buffer.speech_stopped") == []
    assert len(synthetic_speech()) == 8 * 8000 * 2


def test_text_sessions_get_words_and_no_audio() -> None:
    events = respond(speaking(output_modalities=["text"]))
    assert audio_of(events) == b""
    (done,) = [event for event in events if event["type"] == "response.output_text.done"]
    assert done["text"] == RECORDINGS[SHORT].transcript
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == done["text"]
    assert events[-2]["response"]["output"][0]["content"] == [{"type": "output_text", "text": done["text"]}]


def test_usage_adds_up() -> None:
    driver = speaking()
    driver.hear(tone(1000) + silence(300))
    driver.run_for(5)
    usage = driver.of_type("response.done")[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_token_details"]["audio_tokens"] == round(len(load_ulaw(SHORT)) / 8 / 50)
    assert usage["input_token_details"]["audio_tokens"] > 0


def test_a_second_response_is_refused_while_one_is_active() -> None:
    driver = speaking()
    driver.send("response.create")
    driver.send("response.create")
    assert driver.last_error()["code"] == "conversation_already_has_active_response"
    driver.run_for(5)
    assert types_of(respond(driver))[0] == "response.created"


def test_a_response_outside_of_the_conversation_runs_beside_it() -> None:
    driver = speaking(Speak(SHORT), Speak(SHORT))
    driver.send("response.create")
    events = respond(driver, conversation="none", output_modalities=["text"], metadata={"topic": "summary"})
    done = [event["response"] for event in events if event["type"] == "response.done"]
    assert sorted((response["conversation_id"] is None, response["metadata"]) for response in done) == [
        (False, None),
        (True, {"topic": "summary"}),
    ]
    assert len([event for event in events if event["type"] == "conversation.item.added"]) == 1


def test_a_client_cancels_by_id_or_whatever_is_active() -> None:
    driver = speaking(Speak("agent_order"), Speak("agent_order"))
    for by_id in (True, False):
        (created,) = driver.send("response.create")
        driver.run_for(0.5)
        driver.send("response.cancel", **({"response_id": created["response"]["id"]} if by_id else {}))
        response = driver.of_type("response.done")[-1]["response"]
        assert (response["id"], response["status"]) == (created["response"]["id"], "cancelled")
        assert response["status_details"]["reason"] == "client_cancelled"
    driver.send("response.cancel")
    assert driver.last_error()["code"] == "response_cancel_not_active"


def test_the_token_limit_cuts_the_answer() -> None:
    events = respond(speaking(Speak("agent_order")), max_output_tokens=40)
    response = events[-2]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
    assert len(audio_of(events)) == 40 * 50 * 8
    assert response["output"][0]["status"] == "incomplete"


def test_several_items_come_in_one_response() -> None:
    events = respond(speaking((Speak(SHORT), LOOK_UP, Speak("agent_tool_wait")), tools=[TOOL]))
    output = events[-2]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    indexes = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert indexes == [0, 1, 2]
    assert audio_of(events) == load_ulaw(SHORT) + load_ulaw("agent_tool_wait")


def test_a_tool_is_called_and_its_output_answered() -> None:
    driver = speaking(LOOK_UP, Speak(SHORT), tools=[TOOL])
    events = respond(driver)
    (done,) = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert json.loads("".join(deltas)) == json.loads(done["arguments"]) == {"order": "4711"}
    (item,) = events[-2]["response"]["output"]
    assert (item["type"], item["status"], item["name"]) == ("function_call", "completed", "lookup_order")
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": '{"state": "on its way"}'}
    added, item_done = driver.send("conversation.item.create", item=output)
    assert added["item"]["call_id"] == item_done["item"]["call_id"] == item["call_id"]
    assert audio_of(respond(driver)) == load_ulaw(SHORT)
    (logged,) = driver.session.log.tool_outputs
    assert (logged.name, logged.output) == ("lookup_order", output["output"])


def test_without_the_tools_output_the_model_asks_for_patience() -> None:
    driver = speaking(LOOK_UP, Speak(SHORT), tools=[TOOL])
    respond(driver)
    assert audio_of(respond(driver)) == load_ulaw("agent_tool_wait")
    call_id = driver.of_type("response.function_call_arguments.done")[0]["call_id"]
    output = {"type": "function_call_output", "call_id": call_id, "output": ""}
    driver.send("conversation.item.create", item=output)
    assert audio_of(respond(driver)) == load_ulaw(SHORT)


def test_a_cancelled_tool_call_has_cut_arguments_and_is_tried_again() -> None:
    driver = speaking(LOOK_UP, Speak(SHORT), tools=[TOOL], config=PeerConfig(speedup=0.1))
    driver.send("response.create")
    driver.run_for(0.4)
    driver.send("response.cancel")
    (done,) = driver.of_type("response.function_call_arguments.done")
    with pytest.raises(ValueError, match=r"JSON|Unterminated|Expecting"):
        json.loads(done["arguments"])
    assert driver.of_type("response.output_item.done")[-1]["item"]["status"] == "incomplete"
    assert [item["type"] for item in respond(driver)[-2]["response"]["output"]] == ["function_call"]


@pytest.mark.parametrize("session", [{}, {"tools": [TOOL], "tool_choice": "none"}], ids=["no tools", "none chosen"])
def test_a_tool_that_is_not_offered_is_not_called(session: dict[str, Any]) -> None:
    driver = speaking(LOOK_UP, Speak(SHORT), **session)
    assert audio_of(respond(driver)) == load_ulaw(SHORT)
    assert driver.session.log.tools_not_offered == 1


def test_after_the_script_the_model_says_the_same_each_time() -> None:
    driver = speaking(Speak(SHORT))
    respond(driver)
    assert audio_of(respond(driver)) == audio_of(respond(driver)) == load_ulaw("agent_goodbye")


def truncate(driver: Driver, item_id: str, audio_end_ms: int, content_index: int = 0) -> dict[str, Any]:
    fields = {"item_id": item_id, "content_index": content_index, "audio_end_ms": audio_end_ms}
    (answer,) = driver.send("conversation.item.truncate", **fields)
    return answer


def test_truncation_within_the_items_audio_is_confirmed_and_takes_the_transcript() -> None:
    driver = speaking()
    respond(driver)
    item_id = driver.session.log.deltas[0].item_id
    answer = truncate(driver, item_id, 1480)
    assert {name: answer[name] for name in ("type", "item_id", "content_index", "audio_end_ms")} == {
        "type": "conversation.item.truncated",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": 1480,
    }
    (retrieved,) = driver.send("conversation.item.retrieve", item_id=item_id)
    assert "transcript" not in retrieved["item"]["content"][0]
    (logged,) = driver.session.log.truncations
    assert (logged.audio_end_ms, logged.accepted) == (1480, True)
    assert logged.item_ms == pytest.approx(len(load_ulaw(SHORT)) / 8)


def test_truncation_beyond_what_was_generated_is_refused() -> None:
    driver = speaking(Speak("agent_order"))
    driver.send("response.create")
    driver.run_for(0.5)
    driver.send("response.cancel")
    item_id = driver.session.log.deltas[0].item_id
    sent_ms = driver.session.log.item_sent_ms(item_id)
    assert truncate(driver, item_id, int(sent_ms) + 1)["error"]["param"] == "audio_end_ms"
    assert not driver.session.log.truncations[-1].accepted
    assert truncate(driver, item_id, int(sent_ms))["type"] == "conversation.item.truncated"
    assert truncate(driver, item_id, int(sent_ms) - 10)["type"] == "conversation.item.truncated"
    assert truncate(driver, item_id, int(sent_ms))["type"] == "error"


def test_only_the_first_content_of_an_assistants_spoken_message_can_be_truncated() -> None:
    driver = speaking((Speak(SHORT), LOOK_UP), tools=[TOOL])
    respond(driver)
    message, call = driver.of_type("response.done")[-1]["response"]["output"]
    assert truncate(driver, message["id"], 10, content_index=1)["error"]["param"] == "content_index"
    assert truncate(driver, call["id"], 0)["error"]["code"] == "invalid_item"
    mine = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    added, _ = driver.send("conversation.item.create", item=mine)
    assert truncate(driver, added["item"]["id"], 0)["error"]["code"] == "invalid_item"


def test_late_deltas_follow_a_cancelled_response_when_the_quirk_is_on() -> None:
    driver = speaking(Speak("agent_order"), config=PeerConfig(late_deltas=3))
    driver.send("response.create")
    driver.run_for(0.5)
    before = driver.session.log.deltas.count
    fresh = driver.send("response.cancel")
    after_done = types_of(fresh)[types_of(fresh).index("response.done") :]
    assert after_done.count("response.output_audio.delta") == 3
    assert driver.session.log.deltas.count == before + 3


def test_beta_names_are_used_for_the_deltas_alone_when_the_quirk_is_on() -> None:
    driver = Driver(config=PeerConfig(beta_delta_names=True), strict=False, library=LIBRARY)
    driver.send("response.create")
    driver.run_for(5)
    kinds = {json.loads(text)["type"] for text in driver.texts}
    assert {"response.audio.delta", "response.audio_transcript.delta"} < kinds
    assert "response.output_audio.done" in kinds
    assert "response.output_audio.delta" not in kinds
    assert driver.session.log.deltas.count > 0


ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0.001, 2.0)),
    st.tuples(st.just("speak"), st.integers(1, 40)),
    st.tuples(st.just("hush"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["response.create", "response.cancel", "input_audio_buffer.commit"]), st.none()),
    st.tuples(st.just("truncate"), st.integers(0, 3000)),
    st.tuples(st.just("output"), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_whatever_the_client_does_every_response_ends_once_and_one_at_a_time(actions: list[tuple[str, Any]]) -> None:
    driver = speaking(Speak(SHORT), LOOK_UP, (Speak(SHORT), LOOK_UP), Speak(SHORT), tools=[TOOL])
    for kind, value in actions:
        act(driver, kind, value)
    driver.run_for(60)
    assert not driver.session.closing
    open_id = None
    for event in driver.events:
        if event["type"] == "response.created":
            assert open_id is None
            open_id = event["response"]["id"]
        elif event["type"] == "response.done":
            assert event["response"]["id"] == open_id
            open_id = None
        elif event["type"] == "response.output_audio.delta":
            assert event["response_id"] == open_id
    assert open_id is None
    starts, stops = (driver.of_type(f"input_audio_buffer.speech_{edge}") for edge in ("started", "stopped"))
    assert {stop["item_id"] for stop in stops} <= {start["item_id"] for start in starts}


def act(driver: Driver, kind: str, value: Any) -> None:
    """Do one thing to a session."""
    if kind == "wait":
        driver.run_for(value)
    elif kind in ("speak", "hush"):
        driver.hear(tone(20 * value) if kind == "speak" else silence(20 * value))
    elif kind == "truncate" and driver.session.log.deltas.count:
        item_id = driver.session.log.deltas[-1].item_id
        answer = truncate(driver, item_id, value)
        held_ms = driver.session.log.item_sent_ms(item_id)
        assert value <= held_ms or answer["type"] == "error"
    elif kind == "output":
        for call in driver.of_type("response.function_call_arguments.done")[-1:]:
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": "{}"}
            driver.send("conversation.item.create", item=item)
    elif kind != "truncate":
        driver.send(kind)
