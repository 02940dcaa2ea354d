"""What was said in a call, as text: enough to go on when a provider's session is lost.

Owns a bounded list of lines. What the assistant said is cut at the word that the caller heard last, as far as the
share of its audio tells.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Literal

from engine.wire import realtime

# The last lines are what the next sentence depends on.
LINE_LIMIT: Final = 40
_HEARD_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance."""

    speaker: Literal["assistant", "caller"]
    text: str


class Transcript:
    """The lines of one call, over all its provider sessions."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=LINE_LIMIT)
        # the share that was heard of items cut off; their transcript may come before or after
        self._shares: OrderedDict[str, float] = OrderedDict()
        self._last_item = ""
        self._last_whole = ""

    def caller_said(self, text: str) -> None:
        """Adds what the caller said."""
        if text.strip():
            self.lines.append(Line("caller", text.strip()))

    def assistant_said(self, item_id: str, text: str) -> None:
        """Adds what the assistant said in an item, as far as the caller heard it."""
        self._last_item, self._last_whole = item_id, text
        heard = _cut(text, self._shares.pop(item_id, 1.0))
        if heard:
            self.lines.append(Line("assistant", heard))

    def assistant_heard(self, item_id: str, heard_ms: int, held_ms: int) -> None:
        """Says how much of an item that was cut off reached the caller."""
        share = heard_ms / held_ms if held_ms else 0.0
        if item_id == self._last_item and self.lines and self.lines[-1].speaker == "assistant":
            self.lines.pop()
            self._shares[item_id] = share
            self.assistant_said(item_id, self._last_whole)
            return
        self._shares[item_id] = share
        if len(self._shares) > _HEARD_LIMIT:
            self._shares.popitem(last=False)

    def replay(self) -> list[bytes]:
        """Writes the events that tell a new session what was said."""
        write = {"assistant": realtime.assistant_message, "caller": realtime.user_message}
        return [write[line.speaker](line.text) for line in self.lines]


def _cut(text: str, share: float) -> str:
    words = text.split()
    return " ".join(words[: round(len(words) * min(1.0, share))])
