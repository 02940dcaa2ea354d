"""The conversation with an OpenAI Realtime session: what each event means for the call.

Owns the session's life (created, configured, answering), what each item holds and how much of it was heard, the
function calls, and the sorting of the service's errors. Does no I/O: events come in parsed, orders go out through the
:class:`Host`. Always holds: no audio is appended before the session has our format; an item is truncated at most
once, and never beyond what it holds; a function is run at most once; nothing waits for a tool; once the session is
lost, events change nothing.
"""

from __future__ import annotations

import binascii
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from engine.call.ledger import HeardItem
from engine.call.pacer import Audio
from engine.call.transcript import Transcript
from engine.call.turns import ResponseTurns
from engine.call.voice import Voice, make_voice
from engine.errors import ProviderError, ProviderFatalError
from engine.wire import realtime
from engine.wire.realtime import SessionConfig, Severity

# The caller's audio kept while the session is being set up; more than a slow connect takes.
EARLY_LIMIT_BYTES: Final = 3 * 8000
# Keys kept meanwhile.
EARLY_KEYS_LIMIT: Final = 64
# Items whose length is remembered. Those that can still be cut off are in Twilio's buffer or our queue: a handful.
ITEM_MEMORY: Final = 64
# Responses that may fail one after the other before the provider is taken for lost.
FAILURE_LIMIT: Final = 3

_RESUMED: Final = "The line was interrupted for a moment. Say so in a few words and go on where you were."


class Host(Protocol):
    """What the conversation needs from the call it belongs to. No method waits."""

    def send_event(self, event: bytes, *, audio: bool = False) -> None:
        """Sends a client event; ``audio`` says that it may be dropped when the provider stops reading."""
        ...

    def play(self, item_id: str, ulaw: Audio) -> None:
        """Queues audio for the caller: mu-law, 8000 Hz, mono."""
        ...

    def complete(self) -> None:
        """Says that the last item played is whole."""
        ...

    def interrupt(self) -> tuple[HeardItem, ...]:
        """Silences the call at once and says what was heard of each item that was cut off."""
        ...

    def run_tool(self, call: realtime.FunctionCalled) -> None:
        """Starts a function; :meth:`RealtimeConversation.tool_finished` gets the result."""
        ...

    def session_ready(self) -> None:
        """The session has our configuration: from now on audio may be appended without asking the conversation."""
        ...

    def warn(self, text: str) -> None:
        """Something went wrong that the operator should know; the call goes on."""
        ...

    def session_lost(self, error: ProviderError) -> None:
        """The session cannot go on; a :class:`ProviderFatalError` says that another one could not either."""
        ...


class _State(Enum):
    OPENING = "waiting for session.created"
    CONFIGURING = "waiting for session.updated"
    READY = "in conversation"
    LOST = "given up"


@dataclass(slots=True)
class ConversationCounts:
    """What happened since the session began."""

    deltas: int = 0
    interruptions: int = 0
    truncations: int = 0
    # audio that came for a response already interrupted
    unwanted_bytes: int = 0
    # the caller's audio that came too early to be kept
    early_dropped_bytes: int = 0
    errors: int = 0
    tools: int = 0


class RealtimeConversation:
    """One Realtime session of a call.

    Args:
        host: The call.
        config: What the session is to be.
        greeting: Instructions for a response before the caller speaks; empty for none.
        transcript: What was said so far; not empty when an earlier session of the same call was lost.
    """

    def __init__(self, host: Host, config: SessionConfig, greeting: str, transcript: Transcript) -> None:
        self._host = host
        self._config = config
        self._greeting = greeting
        self._transcript = transcript
        self._voice: Voice = make_voice(config.audio)
        self._turns = ResponseTurns()
        self._state = _State.OPENING
        # instructions for the session's first response, until one has gone well
        self._opening = ""
        # bytes of audio that each item holds, in the provider's format
        self._items: OrderedDict[str, int] = OrderedDict()
        # items cut off: nothing more of them is played
        self._truncated: OrderedDict[str, None] = OrderedDict()
        # the item whose audio came last, empty once it is complete
        self._playing_item = ""
        self._early: deque[bytes] = deque()
        self._early_bytes = 0
        # keys pressed before the session was ready
        self._early_keys = ""
        self._failures = 0
        self._creates = 0
        self._errors_told: set[str] = set()
        self.counts = ConversationCounts()

    # ----------------------------------------------------------------------------------------------- from the caller

    @property
    def voice(self) -> Voice:
        """The conversion between the provider's audio and the telephone's."""
        return self._voice

    def hear(self, payload: str, ulaw: bytes) -> None:
        """Takes the caller's audio: base64 and the same as mu-law, 8000 Hz, mono."""
        if self._state is _State.READY:
            event = self._voice.append(payload, ulaw)
            if event:
                self._host.send_event(event, audio=True)
        else:
            self._keep(ulaw)

    def _keep(self, ulaw: bytes) -> None:
        """Keeps audio until the session is ready; the newest, if it takes long."""
        self._early.append(ulaw)
        self._early_bytes += len(ulaw)
        while self._early_bytes > EARLY_LIMIT_BYTES:
            dropped = len(self._early.popleft())
            self._early_bytes -= dropped
            self.counts.early_dropped_bytes += dropped

    def keys_pressed(self, digits: str, now: float) -> None:
        """Tells the model which keys the caller pressed, and wants an answer."""
        if self._state is _State.READY:
            self._host.send_event(realtime.user_message(f"[The caller pressed {' '.join(digits)} on the keypad.]"))
            self._turns.ask()
            self.advance(now)
        elif self._state is not _State.LOST:
            self._early_keys = (self._early_keys + digits)[-EARLY_KEYS_LIMIT:]

    def tool_finished(self, call_id: str, output: str, now: float) -> None:
        """Returns a function's output, JSON text, to the model."""
        if self._state is _State.READY and self._turns.tool_finished(call_id):
            self._host.send_event(realtime.function_output(call_id, output))
            self.advance(now)

    # ------------------------------------------------------------------------------------------------- from the clock

    def due_at(self) -> float | None:
        """When :meth:`advance` wants to be called without an event, in seconds."""
        return self._turns.due_at() if self._state is _State.READY else None

    def advance(self, now: float) -> None:
        """Asks for a response if one is wanted and nothing is in the way."""
        if self._state is _State.READY and self._turns.take_create(now):
            self._creates += 1
            self._host.send_event(realtime.create_response(self._create_id(), self._opening or None))

    def _create_id(self) -> str:
        return f"create-{self._creates}"

    # ---------------------------------------------------------------------------------------------- from the provider

    def receive(self, event: realtime.Event, now: float) -> None:
        """Takes one server event."""
        match event:
            case realtime.ErrorReported():
                self._error(event, now)
            case realtime.SessionCreated() if self._state is _State.OPENING:
                self._state = _State.CONFIGURING
                self._host.send_event(realtime.update_session(self._config))
            case realtime.SessionUpdated() if self._state is _State.CONFIGURING:
                self._ready(now)
            case _ if self._state is _State.READY:
                self._converse(event, now)
            case _:
                return
        self.advance(now)

    def _converse(self, event: realtime.Event, now: float) -> None:
        match event:
            case realtime.AudioDelta():
                self._audio_delta(event)
            case realtime.SpeechStarted():
                self._speech_started()
            case realtime.SpeechStopped():
                self._turns.speech_stopped(now)
            case realtime.AudioDone():
                self._audio_done(event)
            case realtime.ResponseCreated():
                self._turns.response_created(event.response_id)
            case realtime.ResponseDone():
                self._response_done(event, now)
            case realtime.FunctionCalled():
                self._function_called(event)
            case realtime.TranscriptDone():
                self._transcript.assistant_said(event.item_id, event.transcript)
            case realtime.CallerTranscribed():
                self._transcript.caller_said(event.transcript)
            case _:
                pass

    def _ready(self, now: float) -> None:
        self._state = _State.READY
        self._host.session_ready()
        for message in self._transcript.replay():
            self._host.send_event(message)
        self._opening = _RESUMED if self._transcript.lines else self._greeting
        if self._opening:
            self._turns.ask()
            self.advance(now)
        while self._early:
            ulaw = self._early.popleft()
            self.hear(binascii.b2a_base64(ulaw, newline=False).decode(), ulaw)
        self._early_bytes = 0
        if self._early_keys:
            self.keys_pressed(self._early_keys, now)

    def _audio_delta(self, delta: realtime.AudioDelta) -> None:
        self.counts.deltas += 1
        if delta.item_id in self._truncated or not self._turns.wants(delta.response_id):
            self._drop(delta)
            return
        if delta.item_id != self._playing_item:
            self._finish_item()
            self._playing_item = delta.item_id
        self._items[delta.item_id] = self._items.get(delta.item_id, 0) + len(delta.audio)
        if len(self._items) > ITEM_MEMORY:
            self._items.popitem(last=False)
        self._host.play(delta.item_id, self._voice.hear(delta.item_id, delta.audio))

    def _drop(self, delta: realtime.AudioDelta) -> None:
        """Leaves late audio unplayed, and tells the service so unless it knows."""
        self.counts.unwanted_bytes += len(delta.audio)
        if delta.item_id not in self._truncated:
            # of an item that was not cut off, all that came in time was heard
            in_time_bytes = self._items.get(delta.item_id, 0)
            self._items[delta.item_id] = in_time_bytes + len(delta.audio)
            self._truncate(delta.item_id, self._voice.length_ms(in_time_bytes))

    def _audio_done(self, event: realtime.AudioDone) -> None:
        if event.item_id == self._playing_item:
            self._finish_item()
            self._host.complete()

    def _finish_item(self) -> None:
        """Plays what conversion still holds of the item, unless it was cut off."""
        if self._playing_item:
            tail = self._voice.finish(self._playing_item)
            if tail:
                self._host.play(self._playing_item, tail)
            self._playing_item = ""

    def _speech_started(self) -> None:
        self._turns.speech_started()
        if self._playing_item:
            self._voice.forget(self._playing_item)
            self._playing_item = ""
        cut = self._host.interrupt()
        self.counts.interruptions += bool(cut)
        for item_id, heard_ms in cut:
            self._truncate(item_id, heard_ms)

    def _truncate(self, item_id: str, heard_ms: int) -> None:
        held_bytes = self._items.pop(item_id, None)
        if held_bytes is None:
            return  # of an earlier session: this one does not know it
        held_ms = self._voice.length_ms(held_bytes)
        self._truncated[item_id] = None
        if len(self._truncated) > ITEM_MEMORY:
            self._truncated.popitem(last=False)
        self.counts.truncations += 1
        self._transcript.assistant_heard(item_id, heard_ms, held_ms)
        # what left us includes fillers and a filter's rounding; the service refuses more than the item holds (B.4)
        event_id = f"truncate-{self.counts.truncations}"
        self._host.send_event(realtime.truncate_item(item_id, min(heard_ms, held_ms), event_id))

    def _function_called(self, call: realtime.FunctionCalled) -> None:
        if self._turns.tool_called(call.call_id):
            self.counts.tools += 1
            self._host.run_tool(call)

    def _response_done(self, done: realtime.ResponseDone, now: float) -> None:
        self._turns.response_done(done.response_id)
        if self._turns.wants(done.response_id):
            self._end_speech()
        if done.status != "failed":
            self._failures = 0
            self._opening = ""
            return
        self._failures += 1
        self._host.warn(f"response failed: {done.reason} {done.message}")
        if done.reason in realtime.FATAL_CODES:
            self._lose(ProviderFatalError(f"{done.reason}: {done.message}"))
        elif self._failures >= FAILURE_LIMIT:
            self._lose(ProviderError(f"{self._failures} responses failed one after the other: {done.reason}"))
        else:
            self._turns.retry(now)

    # ---------------------------------------------------------------------------------------------------------- errors

    def _error(self, error: realtime.ErrorReported, now: float) -> None:
        if self._state is _State.LOST:
            return
        self.counts.errors += 1
        text = f"{error.code or error.kind}: {error.message}"
        met_another = error.code == "conversation_already_has_active_response"
        # a refusal of an earlier one is old news: what it asked for, the latest asked for too
        if error.event_id == self._create_id() or (met_another and not error.event_id and self._turns.is_asking):
            self._turns.create_refused(now, again=met_another)
        match realtime.severity(error):
            case Severity.FATAL:
                self._lose(ProviderFatalError(text))
            case Severity.RECOVERABLE if error.code in realtime.SESSION_OVER_CODES:
                self._lose(ProviderError(text))
            case Severity.RECOVERABLE if self._state is not _State.READY:
                # our configuration was refused: it would be refused again
                self._lose(ProviderFatalError(f"the session could not be set up: {text}"))
            case Severity.RECOVERABLE:
                self._warn_once(error.code or error.kind, text)
            case Severity.BENIGN:
                pass

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._errors_told and len(self._errors_told) < ITEM_MEMORY:
            self._errors_told.add(key)
            self._host.warn(f"the provider reports an error, the call goes on: {text}")

    def abandon(self) -> None:
        """Says that the connection is gone: results of functions still running have nowhere to go."""
        if self._state is not _State.LOST:
            self._state = _State.LOST
            self._end_speech()

    def _end_speech(self) -> None:
        """Lets the caller hear all there is of an item that will have no more."""
        if self._playing_item:
            self._finish_item()
            self._host.complete()

    def _lose(self, error: ProviderError) -> None:
        if self._state is not _State.LOST:
            self._state = _State.LOST
            self._end_speech()
            self._host.session_lost(error)
