"""A call as a conversation sees it, with a real playout behind it, that writes down and checks all it is asked to do."""

from __future__ import annotations

import json
from typing import Any

from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter
from twilio_ear import TwilioEar

from engine.call.conversation import RealtimeConversation
from engine.call.ledger import HeardItem
from engine.call.playout import Playout, SendMedia
from engine.call.transcript import Transcript
from engine.errors import ProviderError
from engine.wire import realtime
from engine.wire.realtime import FunctionCalled, SessionConfig

_CLIENT_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)


class RecordingHost:
    """Implements the conversation's Host. ``now`` is moved by the test."""

    def __init__(self) -> None:
        self.now = 50.0
        self.playout = Playout(frame_ms=20, lead_ms=200)
        self.ear = TwilioEar()
        self.sent: list[dict[str, Any]] = []
        self.droppable: list[bool] = []
        self.played: list[tuple[str, bytes]] = []
        self.completed = 0
        self.cuts: list[tuple[HeardItem, ...]] = []
        self.tools: list[FunctionCalled] = []
        self.ready = 0
        self.warnings: list[str] = []
        self.lost: list[ProviderError] = []

    def send_event(self, event: bytes, *, audio: bool = False) -> None:
        message = json.loads(event)
        _CLIENT_EVENT.validate_json(event)
        self.sent.append(message)
        self.droppable.append(audio)

    def play(self, item_id: str, ulaw: bytes) -> None:
        self.played.append((item_id, ulaw))
        self.playout.play(item_id, ulaw, self.now)
        self._serve()

    def complete(self) -> None:
        self.completed += 1
        self.playout.complete(self.now)
        self._serve()

    def interrupt(self) -> tuple[HeardItem, ...]:
        cut = self.playout.interrupt(self.now)
        if cut.clear:
            self.ear.clear(self.now)
        self.cuts.append(cut.items)
        return cut.items

    def run_tool(self, call: FunctionCalled) -> None:
        self.tools.append(call)

    def session_ready(self) -> None:
        self.ready += 1

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def session_lost(self, error: ProviderError) -> None:
        self.lost.append(error)

    def pass_time(self, seconds: float) -> None:
        """Frames leave when they are due, and marks come back when they have played."""
        end = self.now + seconds
        while self.now < end:
            moments = (end, self.playout.due_at(), self.ear.next_returned_at())
            self.now = max(self.now, min(moment for moment in moments if moment is not None))
            self._serve()

    def _serve(self) -> None:
        self.ear.advance(self.now)
        for name in self.ear.take_returned(self.now):
            self.playout.mark_returned(name, self.now)
        for order in self.playout.advance(self.now):
            if isinstance(order, SendMedia):
                self.ear.media(self.now, order.ulaw)
            else:
                self.ear.mark(self.now, order.name)
        self.ear.advance(self.now)

    def sent_of_type(self, event_type: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == event_type]

    def creates(self) -> list[dict[str, Any]]:
        return self.sent_of_type("response.create")

    def truncations(self) -> list[tuple[str, int]]:
        return [(m["item_id"], m["audio_end_ms"]) for m in self.sent_of_type("conversation.item.truncate")]

    def audio_of(self, item_id: str) -> bytes:
        return b"".join(ulaw for played_id, ulaw in self.played if played_id == item_id)


def make_conversation(
    host: RecordingHost, *, audio: str = "pcmu", greeting: str = "", transcript: Transcript | None = None
) -> RealtimeConversation:
    tools = [("lookup", "Looks something up.", {"type": "object", "properties": {}})]
    config = SessionConfig(instructions="Be brief.", voice="marin", audio=audio, tools=tools)
    return RealtimeConversation(host, config, greeting, transcript or Transcript())


def open_session(conversation: RealtimeConversation, host: RecordingHost) -> None:
    conversation.receive(realtime.SessionCreated("sess_1"), host.now)
    conversation.receive(realtime.SessionUpdated({}), host.now)
