"""The model's side of a session: responses, from being asked for to being done.

Owns the responses under way and the script's place, and makes response resources and their items. Refuses a second response on
the conversation, an unknown one to cancel, and another voice once audio is there (protocols.md B.3, B.4).
"""

from __future__ import annotations

import random
from typing import Any

from engine.simulator.openai.answer import OUTPUT_MS_PER_TOKEN, Answer, CancelReason, Pace
from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.conversation import Conversation
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.formats import AudioFormat, format_named
from engine.simulator.openai.outlet import Outlet
from engine.simulator.openai.output_items import CalledItem, Event, OutputItem, SpokenItem, WrittenItem
from engine.simulator.openai.script import CallTool, Step
from engine.simulator.openai.speech import SpeechLibrary
from engine.simulator.openai.turns import Turns


class Responding:
    """The responses of one session.

    Args:
        config: Pace and quirks.
        turns: The script's place.
        conversation: Where responses are added.
        outlet: Where events go.
        library: The sound of what is said.
        draw: Source of every random length.
    """

    def __init__(
        self,
        config: PeerConfig,
        turns: Turns,
        *,
        conversation: Conversation,
        outlet: Outlet,
        library: SpeechLibrary,
        draw: random.Random,
    ) -> None:
        self._config = config
        self._turns = turns
        self._conversation = conversation
        self._outlet = outlet
        self._library = library
        self._draw = draw
        # Responses under way, by id; at most one of them writes to the conversation.
        self._answers: dict[str, Answer] = {}
        # The last response that wrote to the conversation and ended: when its first item began, when it ended, its audio in ms.
        self.last_ended: tuple[float, float, float] | None = None
        self._first_due_s: dict[str, float] = {}

    @property
    def active(self) -> Answer | None:
        """The response that writes to the conversation."""
        return next((answer for answer in self._answers.values() if answer.in_conversation), None)

    @property
    def next_due_s(self) -> float | None:
        """When the next event of any response is due."""
        return min((due for answer in self._answers.values() if (due := answer.next_due_s) is not None), default=None)

    def advance(self, now: float) -> None:
        """Send what is due."""
        for answer in list(self._answers.values()):
            answer.advance(now)
            self._settle(answer, now)

    def start(self, session: dict[str, Any], wanted: dict[str, Any], now: float) -> None:
        """Begin a response.

        Args:
            session: The effective session.
            wanted: The `response` of a `response.create`, empty for an automatic one.
            now: The time.

        Raises:
            EventRefused: The conversation has a response under way, or the voice differs from the one heard.
        """
        inside = wanted.get("conversation", "auto") != "none"
        self._check_start(session, wanted, inside=inside)
        response = self._resource(session, wanted, inside=inside)
        output = response["audio"]["output"]
        audio_format = format_named(output["format"]["type"])
        items = self._items(response, self._steps(session, wanted), audio_format)
        self._outlet.note_format(response["id"], audio_format)
        pace = Pace(
            starts_at_s=now + self._config.first_audio_ms / 1000,
            speedup=self._config.speedup,
            late_deltas=self._config.late_deltas,
        )
        self._first_due_s[response["id"]] = pace.starts_at_s
        conversation = self._conversation if inside else None
        answer = Answer(response, items, conversation=conversation, pace=pace, send=self._outlet.send)
        self._answers[response["id"]] = answer

    def cancel(self, response_id: str | None, reason: CancelReason, now: float) -> None:
        """Cancel a response, the conversation's if no id is given.

        Raises:
            EventRefused: There is no such response under way.
        """
        answer = self.active if response_id is None else self._answers.get(response_id)
        if answer is None:
            message = "Cancellation failed: no active response found"
            raise EventRefused(message, code="response_cancel_not_active")
        if answer.has_unfinished_call:
            self._turns.take_back()
        answer.cancel(reason)
        self._settle(answer, now)

    def _settle(self, answer: Answer, now: float) -> None:
        if not answer.done:
            return
        response_id = answer.response["id"]
        del self._answers[response_id]
        self._outlet.note_format(response_id, None)
        began_s = self._first_due_s.pop(response_id)
        if answer.in_conversation:
            self.last_ended = (began_s, now, 0.0 if answer.response["status"] == "cancelled" else answer.audio_ms)
        self._outlet.send({"type": "rate_limits.updated", "rate_limits": _rate_limits(answer.response["usage"])})

    def _check_start(self, session: dict[str, Any], wanted: dict[str, Any], *, inside: bool) -> None:
        active = self.active
        if inside and active is not None:
            message = (
                f"Conversation already has an active response in progress: {active.response['id']}. "
                "Wait until the response is finished before creating a new one."
            )
            raise EventRefused(message, code="conversation_already_has_active_response")
        voice = wanted.get("audio", {}).get("output", {}).get("voice")
        if voice not in (None, session["audio"]["output"]["voice"]) and self._conversation.has_assistant_audio:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise EventRefused(message, code="cannot_update_voice", param="response.audio.output.voice")
        for index, item in enumerate(wanted.get("input", [])):
            if item["type"] == "item_reference" and self._conversation.find(item["id"]) is None:
                message = f"Item with item_id not found: '{item['id']}'."
                raise EventRefused(message, code="invalid_value", param=f"response.input[{index}].id")

    def _resource(self, session: dict[str, Any], wanted: dict[str, Any], *, inside: bool) -> dict[str, Any]:
        output = {**session["audio"]["output"], **wanted.get("audio", {}).get("output", {})}
        return {
            "object": "realtime.response",
            "id": self._outlet.new_id("resp"),
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation.conversation_id if inside else None,
            "output_modalities": wanted.get("output_modalities", session["output_modalities"]),
            "max_output_tokens": wanted.get("max_output_tokens", session["max_output_tokens"]),
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": None,
            "metadata": wanted.get("metadata"),
        }

    def _steps(self, session: dict[str, Any], wanted: dict[str, Any]) -> tuple[Step, ...]:
        offered = {tool["name"] for tool in wanted.get("tools", session["tools"])}
        if wanted.get("tool_choice", session["tool_choice"]) == "none":
            offered = set()
        return self._turns.next_steps(offered=offered, awaiting_output=bool(self._conversation.awaited_calls))

    def _items(self, response: dict[str, Any], steps: tuple[Step, ...], audio_format: AudioFormat) -> list[OutputItem]:
        limit = response["max_output_tokens"]
        most_ms = None if limit == "inf" else float(limit * OUTPUT_MS_PER_TOKEN)
        items: list[OutputItem] = []
        for index, step in enumerate(steps):
            place: Event = {
                "response_id": response["id"],
                "item_id": self._outlet.new_id("item"),
                "output_index": index,
            }
            if isinstance(step, CallTool):
                items.append(CalledItem(place, step, self._outlet.new_id("call")))
                continue
            speech = self._library.speech(step, audio_format)
            if response["output_modalities"] == ["text"]:
                items.append(WrittenItem(place, speech.words))
            else:
                delta_ms = self._config.delta_ms
                items.append(SpokenItem(place, speech, self._draw, delta_ms=delta_ms, most_ms=most_ms))
        return items


def _rate_limits(usage: dict[str, Any]) -> list[dict[str, Any]]:
    limit = 40_000
    remaining = max(0, limit - usage["total_tokens"])
    reset_s = round((limit - remaining) / limit * 60, 3)
    return [{"name": "tokens", "limit": limit, "remaining": remaining, "reset_seconds": reset_s}]
