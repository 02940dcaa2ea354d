"""The provider's voice: speaks without end, in bursts faster than real time, in items and responses as the service does.

Produces the events of a response (protocols.md B.3) as JSON text; owns which stretch of the tape each item holds.
Sans-IO: it says what to send and when to call it again.
"""

import base64
import json
from dataclasses import dataclass
from random import Random

from .speech import SAMPLES_PER_MS, Tape

_BURST_GAP_S = (0.02, 0.06)
_DELTA_MS = (200, 400)
_AHEAD_S = (2.0, 4.0)
_ITEM_MS = (3000, 9000)
_SHORT_ITEM_MS = (350, 1500)
# Share of responses that bring several short items, queued behind one another.
_SEVERAL_ITEMS = 0.3


@dataclass
class Item:
    """A message item and the stretch of the downward audio it holds, in samples; `end` grows while it is spoken."""

    item_id: str
    start: int
    end: int


_JSON = json.JSONEncoder(separators=(",", ":"))


def _event(kind: str, **fields: object) -> bytes:
    return _JSON.encode({"type": kind, "event_id": "event_load", **fields}).encode()


class Voice:
    """What one session says."""

    def __init__(self, *, name: str, tape: Tape, origin: int, audio: str, random: Random) -> None:
        self._name, self._tape, self._origin, self._random = name, tape, origin, random
        self._pcm = audio == "pcm24k"
        # Samples said since the session began; the position at which the next delta starts.
        self.produced = 0
        self.items: list[Item] = []
        # When each delta went out and where it ended.
        self.delta_times: list[float] = []
        self.delta_ends: list[int] = []
        self.speaking = False
        self._responses = 0
        self._items_left = 0
        self._item_samples_left = 0
        self._run_started_at, self._run_origin = 0.0, 0
        self._ahead_s = _AHEAD_S[0]
        # What all deltas of the present item begin with, and a delta of its transcript.
        self._delta_head = self._words = b""

    def begin(self, now: float) -> list[bytes]:
        """Start speaking after silence; the first delta comes with the next `speak`."""
        self._run_started_at, self._run_origin = now, self.produced
        self.speaking = True
        return self._begin_response()

    def _begin_response(self) -> list[bytes]:
        self._responses += 1
        self._items_left = self._random.randint(2, 3) if self._random.random() < _SEVERAL_ITEMS else 1
        self._item_range_ms = _SHORT_ITEM_MS if self._items_left > 1 else _ITEM_MS
        self._ahead_s = self._random.uniform(*_AHEAD_S)
        self._output_index = -1
        return [_event("response.created", response=self._response("in_progress")), *self._begin_item()]

    def _response(self, status: str, details: dict[str, str] | None = None) -> dict[str, object]:
        return {
            "object": "realtime.response",
            "id": self._response_id,
            "status": status,
            "status_details": details,
            "output": [],
            "output_modalities": ["audio"],
            "usage": None,
        }

    @property
    def _response_id(self) -> str:
        return f"resp_{self._name}_{self._responses}"

    def _begin_item(self) -> list[bytes]:
        self._output_index += 1
        self._items_left -= 1
        # To the sample, not to the frame: items end in the middle of a 20 ms frame.
        low_ms, high_ms = self._item_range_ms
        self._item_samples_left = self._random.randint(low_ms * SAMPLES_PER_MS, high_ms * SAMPLES_PER_MS)
        item = Item(f"item_{self._name}_{len(self.items) + 1}", self.produced, self.produced)
        self.items.append(item)
        shape = self._item_shape("in_progress")
        self._delta_head = _event("response.output_audio.delta", **self._content())[:-1] + b',"delta":"'
        self._words = _event("response.output_audio_transcript.delta", **self._content(), delta="words ")
        return [
            _event("response.output_item.added", **self._place(), item=shape),
            _event("conversation.item.added", previous_item_id=None, item=shape),
            _event("response.content_part.added", **self._content(), part={"type": "audio", "transcript": ""}),
        ]

    def _item_shape(self, status: str) -> dict[str, object]:
        content = [] if status == "in_progress" else [{"type": "output_audio", "transcript": "words"}]
        return {
            "id": self.items[-1].item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _place(self) -> dict[str, object]:
        return {"response_id": self._response_id, "output_index": self._output_index}

    def _content(self) -> dict[str, object]:
        return {**self._place(), "item_id": self.items[-1].item_id, "content_index": 0}

    def _end_item(self, status: str) -> list[bytes]:
        shape = self._item_shape(status)
        return [
            _event("response.output_audio.done", **self._content()),
            _event("response.output_audio_transcript.done", **self._content(), transcript="words"),
            _event("response.content_part.done", **self._content(), part={"type": "audio", "transcript": "words"}),
            _event("conversation.item.done", previous_item_id=None, item=shape),
            _event("response.output_item.done", **self._place(), item=shape),
        ]

    def speak(self, now: float) -> tuple[list[bytes], float]:
        """The next delta, with what ends and begins after it; and when to be called again."""
        samples = self._random.randint(_DELTA_MS[0] * SAMPLES_PER_MS, _DELTA_MS[1] * SAMPLES_PER_MS)
        samples = min(samples, self._item_samples_left)
        read = self._tape.pcm24k if self._pcm else self._tape.ulaw
        delta = base64.b64encode(read(self._origin, self.produced, samples))
        self.produced += samples
        self._item_samples_left -= samples
        self.items[-1].end = self.produced
        self.delta_times.append(now)
        self.delta_ends.append(self.produced)
        # Base64 needs no escaping: put in as it is, sparing the encoder the longest string of all.
        events = [self._delta_head + delta + b'"}', self._words]
        if not self._item_samples_left:
            events += self._end_item("completed")
            if self._items_left:
                events += self._begin_item()
            else:
                events.append(_event("response.done", response=self._response("completed")))
                events += self._begin_response()
        return events, self._next_at(now)

    def _next_at(self, now: float) -> float:
        ahead_s = (self.produced - self._run_origin) / 8000 - (now - self._run_started_at)
        gap_s = self._random.uniform(*_BURST_GAP_S)
        return now + gap_s if ahead_s < self._ahead_s else now + (ahead_s - self._ahead_s) + gap_s + 0.1

    def interrupt(self) -> list[bytes]:
        """What the service sends for a response it cancels because the caller speaks."""
        self.speaking = False
        details = {"type": "cancelled", "reason": "turn_detected"}
        return [*self._end_item("incomplete"), _event("response.done", response=self._response("cancelled", details))]
