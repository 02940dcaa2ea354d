"""The items of a response, cut into the pieces in which they are sent.

Owns how a spoken message, a written message and a function call unfold: opening, pieces, closing, in the events and the order
of protocols.md B.3. Each item knows how far it has come and what it would show now; when pieces are sent is the response's
concern. The `.done` events come at every end, also when the item is cut short.
"""

from __future__ import annotations

import base64
import random
from typing import Any, Literal, Protocol, TypeAlias

from engine.simulator.openai.script import CallTool
from engine.simulator.openai.speech import Speech

Event: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["completed", "incomplete"]

_WORD_MS = 80
_ARGUMENT_MS = 20
_ARGUMENT_CHARACTERS = 12


class OutputItem(Protocol):
    """What a response needs of its items."""

    @property
    def item(self) -> dict[str, Any]:
        """The item as the service shows it; changes as the item grows."""

    @property
    def offset_ms(self) -> float:
        """When the next piece belongs, in ms of real time since the item began."""

    @property
    def finished(self) -> bool:
        """Every piece has been taken."""

    @property
    def cut_short(self) -> bool:
        """The token limit ends this item early."""

    @property
    def sent_ms(self) -> float:
        """Audio taken so far."""

    def opening(self) -> list[Event]:
        """Events between `output_item.added` and the first piece."""

    def piece(self) -> list[Event]:
        """Take the next piece."""

    def closing(self, ending: Ending) -> list[Event]:
        """Events before `output_item.done`; fixes the item's status."""


class SpokenItem:
    """An assistant message as audio with its transcript.

    Args:
        place: `response_id`, `item_id` and `output_index`.
        speech: What to say.
        draw: Source of the deltas' lengths.
        delta_ms: Least and greatest length of a delta.
        most_ms: Length at which the token limit cuts the speech; None for no limit.
    """

    def __init__(
        self, place: Event, speech: Speech, draw: random.Random, *, delta_ms: tuple[int, int], most_ms: float | None
    ) -> None:
        self._place = {**place, "content_index": 0}
        self._speech = speech
        self._draw = draw
        self._delta_ms = delta_ms
        self.cut_short = most_ms is not None and most_ms < speech.duration_ms
        # Bytes that will be sent, bytes and words that have been.
        self._size_bytes = int(most_ms or 0) * speech.format.bytes_per_ms if self.cut_short else speech.size_bytes
        self._sent_bytes = 0
        self._sent_words = 0
        self.item = _message(place["item_id"])

    @property
    def offset_ms(self) -> float:
        """Where the next piece belongs in the speech."""
        return self.sent_ms

    @property
    def sent_ms(self) -> float:
        """Audio taken so far."""
        return self._speech.format.duration_ms(self._sent_bytes)

    @property
    def finished(self) -> bool:
        """Every piece has been taken."""
        return self._sent_bytes >= self._size_bytes

    def opening(self) -> list[Event]:
        """Announce the content part."""
        part = {"type": "audio", "transcript": ""}
        self.item["content"] = [{"type": "output_audio", "transcript": ""}]
        return [{"type": "response.content_part.added", **self._place, "part": part}]

    def piece(self) -> list[Event]:
        """Take some words, then the audio that carries them."""
        audio_format = self._speech.format
        samples = self._draw.randint(*(ms * audio_format.rate_hz // 1000 for ms in self._delta_ms))
        end_bytes = min(self._sent_bytes + samples * audio_format.sample_bytes, self._size_bytes)
        audio = self._speech.cut(self._sent_bytes, end_bytes)
        self._sent_bytes = end_bytes
        payload = base64.b64encode(audio).decode("ascii")
        return [*self._words_due(), {"type": "response.output_audio.delta", **self._place, "delta": payload}]

    def closing(self, ending: Ending) -> list[Event]:
        """End audio, transcript and part with what has been sent of them."""
        transcript = self._transcript()
        self.item["status"] = ending
        part = {"type": "audio", "transcript": transcript}
        return [
            {"type": "response.output_audio.done", **self._place},
            {"type": "response.output_audio_transcript.done", **self._place, "transcript": transcript},
            {"type": "response.content_part.done", **self._place, "part": part},
        ]

    def _transcript(self) -> str:
        return " ".join(self._speech.words[: self._sent_words])

    def _words_due(self) -> list[Event]:
        words = self._speech.words
        due = -(-len(words) * self._sent_bytes // max(self._speech.size_bytes, 1))
        fresh = words[self._sent_words : due]
        if not fresh:
            return []
        delta = ("" if self._sent_words == 0 else " ") + " ".join(fresh)
        self._sent_words = due
        self.item["content"][0]["transcript"] = self._transcript()
        return [{"type": "response.output_audio_transcript.delta", **self._place, "delta": delta}]


class WrittenItem:
    """An assistant message as text, word by word.

    Args:
        place: `response_id`, `item_id` and `output_index`.
        words: The text.
    """

    cut_short = False
    sent_ms = 0.0

    def __init__(self, place: Event, words: tuple[str, ...]) -> None:
        self._place = {**place, "content_index": 0}
        self._words = words
        self._sent_words = 0
        self.item = _message(place["item_id"])

    @property
    def offset_ms(self) -> float:
        """When the next word belongs."""
        return self._sent_words * float(_WORD_MS)

    @property
    def finished(self) -> bool:
        """Every word has been taken."""
        return self._sent_words >= len(self._words)

    def opening(self) -> list[Event]:
        """Announce the content part."""
        self.item["content"] = [{"type": "output_text", "text": ""}]
        return [{"type": "response.content_part.added", **self._place, "part": {"type": "text", "text": ""}}]

    def piece(self) -> list[Event]:
        """Take a word."""
        delta = ("" if self._sent_words == 0 else " ") + self._words[self._sent_words]
        self._sent_words += 1
        self.item["content"][0]["text"] += delta
        return [{"type": "response.output_text.delta", **self._place, "delta": delta}]

    def closing(self, ending: Ending) -> list[Event]:
        """End text and part with what has been sent of them."""
        self.item["status"] = ending
        text = self.item["content"][0]["text"]
        return [
            {"type": "response.output_text.done", **self._place, "text": text},
            {"type": "response.content_part.done", **self._place, "part": {"type": "text", "text": text}},
        ]


class CalledItem:
    """A function call, its arguments in pieces.

    Args:
        place: `response_id`, `item_id` and `output_index`.
        call: The scripted call.
        call_id: Its id.
    """

    cut_short = False
    sent_ms = 0.0

    def __init__(self, place: Event, call: CallTool, call_id: str) -> None:
        self._place = {**place, "call_id": call_id}
        self._arguments = call.arguments_json()
        self._sent_characters = 0
        self.item: dict[str, Any] = {
            "id": place["item_id"],
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": call.name,
            "call_id": call_id,
            "arguments": "",
        }

    @property
    def offset_ms(self) -> float:
        """When the next piece of the arguments belongs."""
        return self._sent_characters / _ARGUMENT_CHARACTERS * _ARGUMENT_MS

    @property
    def finished(self) -> bool:
        """All arguments have been taken."""
        return self._sent_characters >= len(self._arguments)

    def opening(self) -> list[Event]:
        """Nothing stands between a call and its arguments."""
        return []

    def piece(self) -> list[Event]:
        """Take the next characters of the arguments."""
        delta = self._arguments[self._sent_characters : self._sent_characters + _ARGUMENT_CHARACTERS]
        self._sent_characters += len(delta)
        self.item["arguments"] += delta
        return [{"type": "response.function_call_arguments.delta", **self._place, "delta": delta}]

    def closing(self, ending: Ending) -> list[Event]:
        """End the arguments; cut short, they are not whole JSON."""
        self.item["status"] = ending
        done = {"name": self.item["name"], "arguments": self.item["arguments"]}
        return [{"type": "response.function_call_arguments.done", **self._place, **done}]


def _message(item_id: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
