"""A whole conversation against the vendor's published JSON schemas, where a copy of them stands beside the repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from realtime_driver import TOOL, Driver, question, silence, tone

from engine.simulator.openai import CallTool, Script, Speak

SCHEMAS = Path(__file__).parents[4] / "shared" / "conformance" / "openai_realtime_schemas.json"


@pytest.fixture(scope="module")
def check() -> Callable[[dict[str, Any]], None]:
    if not SCHEMAS.exists():
        pytest.skip(f"no copy of the published schemas at {SCHEMAS.name}")
    document = json.loads(SCHEMAS.read_text())
    names = {}
    for name, schema in document["components"]["schemas"].items():
        if name.startswith("RealtimeServerEvent") and "type" in schema.get("properties", {}):
            kind = schema["properties"]["type"]
            names[(kind.get("enum") or [kind.get("const")])[0]] = name

    def validate(event: dict[str, Any]) -> None:
        schema = {**document, "$ref": f"#/components/schemas/{names[event['type']]}"}
        jsonschema.Draft202012Validator(schema).validate(without_nulls(event))

    return validate


def without_nulls(value: Any) -> Any:
    """Leave out null fields: the schemas forbid many that the service's own examples show."""
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    if isinstance(value, dict):
        return {name: without_nulls(element) for name, element in value.items() if element is not None}
    return value


def conversation() -> list[dict[str, Any]]:
    """Hold a conversation in which every kind of event occurs."""
    replies = (Speak("agent_greeting"), CallTool("lookup_order", {"order": "4711"}), Speak("agent_order"))
    driver = Driver(Script(replies=replies, heard=("Where is it?", "Stop.")))
    driver.detect_turns(idle_timeout_ms=5000, silence_duration_ms=500)
    driver.update(tools=[TOOL], audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    driver.send("response.create")
    driver.run_for(5)
    driver.hear(question())
    driver.run_for(2)
    call_id = driver.of_type("response.function_call_arguments.done")[0]["call_id"]
    output = {"type": "function_call_output", "call_id": call_id, "output": "{}"}
    driver.send("conversation.item.create", item=output)
    driver.send("response.create")
    driver.run_for(0.8)
    driver.hear(tone(300))
    item_id = driver.session.log.deltas[-1].item_id
    driver.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
    driver.send("conversation.item.retrieve", item_id=item_id)
    driver.send("conversation.item.delete", item_id=item_id)
    driver.send("input_audio_buffer.clear")
    driver.send("response.create", response={"output_modalities": ["text"]})
    driver.run_for(20)
    driver.hear(silence(9000))
    return driver.events


def test_every_event_of_a_conversation_conforms_to_the_published_schemas(
    check: Callable[[dict[str, Any]], None],
) -> None:
    events = conversation()
    for event in events:
        check(event)


def test_the_conversation_holds_every_kind_of_event_that_a_bridge_meets() -> None:
    assert {event["type"] for event in conversation()} == {
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.deleted",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "input_audio_buffer.cleared",
        "input_audio_buffer.committed",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.timeout_triggered",
        "response.created",
        "response.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "rate_limits.updated",
    }


def test_the_check_refuses_what_does_not_conform(check: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check({"type": "conversation.item.truncated", "event_id": "event_1", "item_id": "item_1"})
