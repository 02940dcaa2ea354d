"""One response on its way out: which events, in which order, and when.

Owns a response from `response.created` to `response.done` (protocols.md B.3) and the pace at which its items leave, faster than
real time. Reads no clock. Nothing is sent after the end, but for the late deltas that a quirk asks for; the end comes once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from engine.simulator.openai.conversation import Conversation, Entry
from engine.simulator.openai.output_items import Ending, Event, OutputItem

Send: TypeAlias = Callable[[Event], None]
Status: TypeAlias = Literal["completed", "cancelled", "incomplete"]
CancelReason: TypeAlias = Literal["turn_detected", "client_cancelled"]

INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a response leaves.

    Attributes:
        starts_at_s: When its first item begins.
        speedup: How many times faster than real time.
        late_deltas: Pieces still sent after a cancelled response is done.
    """

    starts_at_s: float
    speedup: float
    late_deltas: int = 0


class Answer:
    """One response.

    Args:
        response: The response resource, `in_progress`; becomes the one of `response.done`.
        items: Its items, in order.
        conversation: Where they are added; None for a response outside of the conversation.
        pace: When they leave.
        send: Takes each event.
    """

    def __init__(
        self,
        response: dict[str, Any],
        items: Sequence[OutputItem],
        *,
        conversation: Conversation | None,
        pace: Pace,
        send: Send,
    ) -> None:
        self.response = response
        self._items = list(items)
        self._conversation = conversation
        self._pace = pace
        self._send = send
        # Which item is next or under way, whether it is open, and when it began.
        self._index = 0
        self._open = False
        self._began_s = pace.starts_at_s
        # The item under way as the conversation holds it.
        self._entry: Entry | None = None
        self._usage = _input_usage(conversation)
        send({"type": "response.created", "response": response})

    @property
    def in_conversation(self) -> bool:
        """The response writes to the conversation."""
        return self._conversation is not None

    @property
    def done(self) -> bool:
        """The response has ended."""
        return bool(self.response["status"] != "in_progress")

    @property
    def next_due_s(self) -> float | None:
        """When the next event is due; None when the response has ended."""
        if self.done:
            return None
        if not self._open:
            return self._began_s
        return self._began_s + self._items[self._index].offset_ms / 1000 / self._pace.speedup

    @property
    def audio_ms(self) -> float:
        """Audio sent so far."""
        return sum(item.sent_ms for item in self._items)

    @property
    def has_unfinished_call(self) -> bool:
        """A function call of this response is not completed."""
        calls = (item.item for item in self._items if item.item["type"] == "function_call")
        return any(call["status"] != "completed" for call in calls)

    def advance(self, now: float) -> None:
        """Send what is due."""
        while (due_s := self.next_due_s) is not None and due_s <= now:
            self._step(due_s)

    def cancel(self, reason: CancelReason) -> None:
        """End now: close what is open, report `cancelled`, then the late deltas if there are to be any."""
        if self.done:
            return
        cut = self._items[self._index] if self._open else None
        if cut is not None:
            self._close_item("incomplete")
        self._finish("cancelled", {"type": "cancelled", "reason": reason})
        for _ in range(self._pace.late_deltas):
            if cut is not None and not cut.finished:
                self._send_piece(cut)

    def _step(self, due_s: float) -> None:
        if self._index >= len(self._items):
            self._finish("completed", None)
            return
        item = self._items[self._index]
        if not self._open:
            self._open_item(item)
        elif not item.finished:
            self._send_piece(item)
        else:
            self._end_item(item, due_s)

    def _open_item(self, item: OutputItem) -> None:
        self._open = True
        shared = {"response_id": self.response["id"], "output_index": self._index}
        self._send({"type": "response.output_item.added", **shared, "item": item.item})
        if self._conversation is not None:
            before = self._conversation.append(item.item)
            self._entry = self._conversation.find(item.item["id"])
            self._send({"type": "conversation.item.added", "previous_item_id": before, "item": item.item})
        for event in item.opening():
            self._send(event)

    def _send_piece(self, item: OutputItem) -> None:
        events = item.piece()
        if self._entry is not None:
            self._entry.audio_ms = item.sent_ms
        for event in events:
            self._send(event)

    def _end_item(self, item: OutputItem, due_s: float) -> None:
        self._close_item("incomplete" if item.cut_short else "completed")
        if item.cut_short:
            self._finish("incomplete", {"type": "incomplete", "reason": "max_output_tokens"})
            return
        self._index += 1
        self._began_s = due_s
        if self._index >= len(self._items):
            self._finish("completed", None)

    def _close_item(self, ending: Ending) -> None:
        item = self._items[self._index]
        for event in item.closing(ending):
            self._send(event)
        shared = {"response_id": self.response["id"], "output_index": self._index}
        self._send({"type": "response.output_item.done", **shared, "item": item.item})
        self.response["output"].append(item.item)
        if self._conversation is not None:
            if item.item["type"] == "function_call" and ending == "completed":
                self._conversation.awaited_calls[item.item["call_id"]] = item.item["name"]
            self._send({"type": "conversation.item.done", "item": item.item})
        self._open = False

    def _finish(self, status: Status, details: dict[str, Any] | None) -> None:
        self.response["status"] = status
        self.response["status_details"] = details
        self.response["usage"] = self._total_usage()
        self._send({"type": "response.done", "response": self.response})

    def _total_usage(self) -> dict[str, Any]:
        audio = round(self.audio_ms / OUTPUT_MS_PER_TOKEN)
        text = sum(_text_tokens(item) for item in self.response["output"])
        spent = self._usage["text_tokens"] + self._usage["audio_tokens"]
        return {
            "total_tokens": spent + audio + text,
            "input_tokens": spent,
            "output_tokens": audio + text,
            "input_token_details": {**self._usage, "image_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }


def _input_usage(conversation: Conversation | None) -> dict[str, int]:
    if conversation is None:
        return {"text_tokens": 0, "audio_tokens": 0}
    entries = conversation.entries()
    heard_ms = sum(entry.audio_ms if entry.truncated_ms is None else entry.truncated_ms for entry in entries)
    return {
        "text_tokens": sum(_text_tokens(entry.item) for entry in entries),
        "audio_tokens": round(heard_ms / INPUT_MS_PER_TOKEN),
    }


def _text_tokens(item: dict[str, Any]) -> int:
    """Estimate an item's text tokens: a token is about four characters."""
    texts = [item.get("arguments", ""), item.get("output", "")]
    texts += [part.get("text") or part.get("transcript") or "" for part in item.get("content", [])]
    return -(-sum(len(text) for text in texts) // 4)
