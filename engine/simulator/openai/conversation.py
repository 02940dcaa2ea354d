"""The conversation: its items in order, and what each item really holds.

Owns the items, their neighbours, the length of their audio and the function calls that wait for outputs. Refuses what the
service refuses: unknown ids, doubled ids, outputs of calls never made, and truncation beyond an item's audio. An item's
position never changes once it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.simulator.openai.fields import EventRefused


@dataclass(kw_only=True)
class Entry:
    """One item of the conversation.

    Attributes:
        item: As the service shows it, without audio.
        audio_ms: Audio it holds: generated so far, or spoken by the caller.
        truncated_ms: Where the client cut it, if it did.
    """

    item: dict[str, Any]
    audio_ms: float = 0.0
    truncated_ms: int | None = None


class Conversation:
    """The items of one session.

    Args:
        conversation_id: Its id.
    """

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        self._entries: list[Entry] = []
        # Names of called functions, by call id, whose outputs are not there yet.
        self.awaited_calls: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last_id(self) -> str | None:
        """Id of the last item, None while there is none."""
        return self._entries[-1].item["id"] if self._entries else None

    @property
    def has_assistant_audio(self) -> bool:
        """The model has been heard: its voice is fixed from now on."""
        return any(entry.item.get("role") == "assistant" and entry.audio_ms > 0 for entry in self._entries)

    def entries(self) -> tuple[Entry, ...]:
        """Give every item, in order."""
        return tuple(self._entries)

    def find(self, item_id: str) -> Entry | None:
        """Find an item by its id."""
        return next((entry for entry in self._entries if entry.item["id"] == item_id), None)

    def append(self, item: dict[str, Any], audio_ms: float = 0.0) -> str | None:
        """Put an item at the end.

        Returns:
            The id of the item before it.
        """
        before = self.last_id
        self._entries.append(Entry(item=item, audio_ms=audio_ms))
        return before

    def insert(self, item: dict[str, Any], previous_item_id: str | None, audio_ms: float = 0.0) -> str | None:
        """Put a client's item where it asks: None is the end, `root` the front.

        Returns:
            The id of the item before it.

        Raises:
            EventRefused: The id is taken, the neighbour unknown, or an output's call was never made.
        """
        if self.find(item["id"]) is not None:
            message = f"Item with ID '{item['id']}' already exists in the conversation."
            raise EventRefused(message, code="item_create_duplicate_item_id", param="item.id")
        position = self._position_after(previous_item_id)
        if item["type"] == "function_call_output":
            self._check_call(item["call_id"])
            self.awaited_calls.pop(item["call_id"], None)
        self._entries.insert(position, Entry(item=item, audio_ms=audio_ms))
        return self._entries[position - 1].item["id"] if position else None

    def delete(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            EventRefused: There is no such item.
        """
        self._entries.remove(self._known(item_id, "item_delete_invalid_item_id"))

    def retrieve(self, item_id: str) -> dict[str, Any]:
        """Show an item.

        Raises:
            EventRefused: There is no such item.
        """
        return self._known(item_id, "item_retrieve_invalid_item_id").item

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an assistant message to what was heard; its transcript goes too (protocols.md B.4).

        Raises:
            EventRefused: No such item, not an assistant's spoken message, another content than the first, or more audio than
                the item holds.
        """
        entry = self._known(item_id, "item_truncate_invalid_item_id")
        parts = entry.item.get("content", [])
        if entry.item.get("role") != "assistant" or any(part["type"] != "output_audio" for part in parts):
            message = "Only model output audio messages can be truncated."
            raise EventRefused(message, code="invalid_item", param="item_id")
        if content_index != 0:
            message = f"Invalid content_index {content_index}: only 0 can be truncated."
            raise EventRefused(message, code="invalid_value", param="content_index")
        held_ms = entry.audio_ms if entry.truncated_ms is None else entry.truncated_ms
        if audio_end_ms > held_ms:
            message = f"Audio content of {int(held_ms)}ms is already shorter than {audio_end_ms}ms"
            raise EventRefused(message, code="invalid_value", param="audio_end_ms")
        entry.truncated_ms = audio_end_ms
        for part in parts:
            part.pop("transcript", None)

    def _known(self, item_id: str, code: str) -> Entry:
        entry = self.find(item_id)
        if entry is None:
            message = f"Item with item_id not found: '{item_id}'."
            raise EventRefused(message, code=code, param="item_id")
        return entry

    def _position_after(self, previous_item_id: str | None) -> int:
        if previous_item_id is None:
            return len(self._entries)
        if previous_item_id == "root":
            return 0
        for position, entry in enumerate(self._entries, start=1):
            if entry.item["id"] == previous_item_id:
                return position
        message = f"Previous item with ID '{previous_item_id}' not found in the conversation."
        raise EventRefused(message, code="item_create_invalid_previous_item_id", param="previous_item_id")

    def _check_call(self, call_id: str) -> None:
        calls = {entry.item.get("call_id") for entry in self._entries if entry.item["type"] == "function_call"}
        if call_id not in calls:
            message = f"Tool call ID '{call_id}' not found in conversation."
            raise EventRefused(message, code="invalid_tool_call_id", param="item.call_id")
