"""The call as it happens, one line of text per event.

Owns what is told and in which words; the lines go wherever `tell` takes them. Follows the telephone's live events and looks
at the provider's log now and then; it changes nothing and may miss the end without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from engine.demo.testimony import replies_sent, tool_uses
from engine.simulator.openai import RealtimePeer, SessionLog
from engine.simulator.twilio import CallEvent, SimulatedCall

Tell = Callable[[str], None]
_LOOK_EVERY_S = 0.05


class Narrator:
    """Tells one call.

    Args:
        tell: Takes each line.
        words: The caller's lines, in order.
        began_s: What times are counted from.
    """

    def __init__(self, tell: Tell, words: Sequence[str], began_s: float) -> None:
        self._tell = tell
        self._words = list(words)
        self._began_s = began_s
        # Entries of the provider's log already told.
        self._replies = self._calls = self._answers = self._truncations = 0

    async def follow(self, call: SimulatedCall, peer: RealtimePeer) -> None:
        """Tells the call until it ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_at_provider, peer)
            async for event in call.live:
                self._on_telephone(event)
            nursery.cancel_scope.cancel()

    def line(self, at_s: float, what: str, detail: str = "") -> None:
        """Tells one thing."""
        self._tell(f"  {at_s - self._began_s:6.2f} s  {what:<16} {detail}".rstrip())

    def _on_telephone(self, event: CallEvent) -> None:
        match event.kind:
            case "dial":
                self.line(event.at_s, "dialling", f"POST {event.detail}, signed")
            case "answered":
                self.line(event.at_s, "answered", "the TwiML connects a media stream")
            case "start":
                self.line(event.at_s, "stream started")
            case "first_media":
                self.line(event.at_s, "first audio", "the agent's first frame reached the telephone")
            case "speech_began":
                self.line(event.at_s, "caller speaks", self._words.pop(0) if self._words else "")
            case "clear":
                self.line(event.at_s, "barge-in", f"Twilio's buffer cleared, {event.detail}")
            case "stop":
                self.line(event.at_s, "caller hangs up")
            case "underrun" | "violation" | "error" | "warning" | "cue_missed" | "callback_failed":
                self.line(event.at_s, event.kind.replace("_", " ").upper(), event.detail)
            case _:
                pass

    async def _look_at_provider(self, peer: RealtimePeer) -> None:
        log = await peer.session()
        self.line(log.opened_at_s, "provider joined", f"session opened for {log.model}")
        while True:
            self._on_provider(log)
            await trio.sleep(_LOOK_EVERY_S)

    def _on_provider(self, log: SessionLog) -> None:
        replies = [reply for reply in replies_sent(log) if reply.text]
        for reply in replies[self._replies :]:
            self.line(reply.sent_at_s, "agent speaks", reply.text)
        self._replies = max(self._replies, len(replies))
        self._tell_tools(log)
        for truncation in list(log.truncations)[self._truncations :]:
            self.line(truncation.at_s, "truncated", f"the engine says {truncation.audio_end_ms} ms were heard")
            self._truncations += 1

    def _tell_tools(self, log: SessionLog) -> None:
        uses = tool_uses(log)
        for use in uses[self._calls :]:
            self.line(use.called_at_s, "tool call", f"{use.name}({use.arguments})")
        self._calls = len(uses)
        answered = [use for use in uses if use.answered_at_s is not None]
        for use in answered[self._answers :]:
            assert use.answered_at_s is not None
            self.line(use.answered_at_s, "tool answered", use.output or "")
        self._answers = len(answered)
