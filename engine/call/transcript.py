"""What was said in a call, as text: enough to go on when a provider's session is lost.

Owns a bounded list of lines. What the assistant said is cut at the word that the caller heard last, as far as the
share of its audio tells.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from engine.wire import realtime

# The last lines are what the next sentence depends on.
LINE_LIMIT: Final = 40
# Items that are queued, playing, or just cut off: a handful.
_ITEM_LIMIT: Final = 64

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance."""

    speaker: Literal["assistant", "caller"]
    text: str


class Transcript:
    """The lines of one call, over all its provider sessions."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=LINE_LIMIT)
        # the share that was heard of items cut off whose transcript has not come yet
        self._shares: OrderedDict[str, float] = OrderedDict()
        # what was said in items that may still be cut off, and the line that stands for it
        self._said: OrderedDict[str, Line] = OrderedDict()

    def caller_said(self, text: str) -> None:
        """Adds what the caller said."""
        if text.strip():
            self.lines.append(Line("caller", text.strip()))

    def assistant_said(self, item_id: str, text: str) -> None:
        """Adds what the assistant said in an item, as far as the caller heard it."""
        share = self._shares.pop(item_id, None)
        line = Line("assistant", _cut(text, 1.0 if share is None else share))
        if line.text:
            self.lines.append(line)
            if share is None:
                _remember(self._said, item_id, line)

    def assistant_heard(self, item_id: str, heard_ms: int, held_ms: int) -> None:
        """Says how much of an item that was cut off reached the caller."""
        share = heard_ms / held_ms if held_ms else 0.0
        line = self._said.pop(item_id, None)
        if line is None:
            _remember(self._shares, item_id, share)
        else:
            self._shorten(line, _cut(line.text, share))

    def _shorten(self, said: Line, heard: str) -> None:
        """Puts what was heard in place of what was said; other lines may have come behind it."""
        for index, line in enumerate(self.lines):
            if line is said:
                if heard:
                    self.lines[index] = Line("assistant", heard)
                else:
                    del self.lines[index]
                return

    def replay(self) -> list[bytes]:
        """Writes the events that tell a new session what was said."""
        write = {"assistant": realtime.assistant_message, "caller": realtime.user_message}
        return [write[line.speaker](line.text) for line in self.lines]


def _cut(text: str, share: float) -> str:
    words = text.split()
    return " ".join(words[: round(len(words) * min(1.0, share))])


def _remember(memory: OrderedDict[str, _Value], item_id: str, value: _Value) -> None:
    memory[item_id] = value
    if len(memory) > _ITEM_LIMIT:
        memory.popitem(last=False)
