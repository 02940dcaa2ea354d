"""The simulated caller: what it says in each 20 ms frame, and what it does between, following its scripts.

Owns cues and their timing; sans-IO: it is told what the caller heard and asked for the next frame, with `now` in
seconds. A caller has one mouth: when two scripts want to speak, the second waits. Between words it sends silence
(0xFF), never nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.simulator.record import Chunk
from engine.simulator.twilio.script import (
    After,
    AgentSilent,
    AgentSpeaking,
    At,
    Cue,
    Drop,
    Dtmf,
    HangUp,
    Say,
    Script,
    SendRaw,
    Step,
)
from engine.simulator.twilio.sound import SILENT_FRAME, is_audible

# Pauses inside a sentence are shorter than this.
SPURT_JOIN_S = 0.4


@dataclass(frozen=True, slots=True)
class PressKey:
    """Send a dtmf message."""

    digit: str


@dataclass(frozen=True, slots=True)
class EndCall:
    """Hang up."""


@dataclass(frozen=True, slots=True)
class DropSocket:
    """Close the TCP connection without a word."""


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send a raw message."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class CueMissed:
    """A step was begun without its cue, which did not come in time."""

    step: str


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The caller begins to say a sound."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The caller has said it."""


Action = PressKey | EndCall | DropSocket | SendMessage | CueMissed | SpeechBegan | SpeechEnded


class AgentEar:
    """What the caller notices of the agent's voice, from the chunks that were really played."""

    def __init__(self) -> None:
        # The talk spurt heard last: when it began and when its last audible sound was over.
        self.began_s: float | None = None
        self.ended_s: float | None = None

    def hear(self, chunks: Iterable[Chunk]) -> None:
        """Takes what has played."""
        for chunk in chunks:
            if not is_audible(chunk.ulaw):
                continue
            if self.ended_s is None or chunk.at_s - self.ended_s > SPURT_JOIN_S:
                self.began_s = chunk.at_s
            self.ended_s = chunk.end_s


class _Track:
    """One script's place: which step is next, and since when it waits."""

    def __init__(self, script: Script, now: float) -> None:
        self.steps: deque[Step] = deque(script)
        # When the previous step was over.
        self.since_s = now
        # Keys still to be pressed of the step being done, and when.
        self.keys: deque[tuple[float, str]] = deque()
        self.speaking = False


class Caller:
    """One caller in one stream."""

    def __init__(self, scripts: Sequence[Script], now: float) -> None:
        """Begins the scripts at `now`, the start of the stream."""
        self._began_s = now
        self._tracks = [_Track(script, now) for script in scripts]
        self._ear = AgentEar()
        self._voice: Iterator[bytes] | None = None
        self._speaker: _Track | None = None

    def hear(self, chunks: Iterable[Chunk]) -> None:
        """Takes what has been played to the caller."""
        self._ear.hear(chunks)

    def perform(self, step: Step, now: float) -> None:
        """Adds a step beside the scripts; `After` cues count from `now`."""
        self._tracks = [track for track in self._tracks if track.steps or track.keys or track.speaking]
        self._tracks.append(_Track([step], now))

    def next_frame(self, now: float) -> tuple[bytes, list[Action]]:
        """Makes the frame that leaves at `now`.

        Returns:
            160 bytes of mu-law, and what to do before the frame is sent, in order.
        """
        actions: list[Action] = []
        frame = self._speak(now, actions)
        for track in self._tracks:
            self._follow(track, now, actions)
        if frame is None:
            frame = self._speak(now, actions)
        return frame or SILENT_FRAME, actions

    def _speak(self, now: float, actions: list[Action]) -> bytes | None:
        if self._voice is None:
            return None
        frame = next(self._voice, None)
        if frame is None:
            assert self._speaker is not None
            self._speaker.since_s = now
            self._speaker.speaking = False
            self._voice = self._speaker = None
            actions.append(SpeechEnded())
        return frame

    def _follow(self, track: _Track, now: float, actions: list[Action]) -> None:
        while True:
            while track.keys and track.keys[0][0] <= now:
                actions.append(PressKey(track.keys.popleft()[1]))
                track.since_s = now
            if track.keys or track.speaking or not track.steps or not self._may_begin(track, now, actions):
                return
            self._begin(track, track.steps.popleft(), now, actions)

    def _may_begin(self, track: _Track, now: float, actions: list[Action]) -> bool:
        step = track.steps[0]
        if isinstance(step, Say) and self._voice is not None:
            return False
        if self._has_come(step.when, track.since_s, now):
            return True
        waited_ms = (now - track.since_s) * 1000
        if isinstance(step.when, AgentSilent | AgentSpeaking) and waited_ms >= step.when.within_ms:
            actions.append(CueMissed(type(step).__name__))
            return True
        return False

    def _has_come(self, cue: Cue, since_s: float, now: float) -> bool:
        # Half a millisecond of grace: a cue for the time of a frame must not wait for the next frame through rounding.
        grace_s = now + 0.0005
        match cue:
            case After(ms=ms):
                return grace_s >= since_s + ms / 1000
            case At(ms=ms):
                return grace_s >= self._began_s + ms / 1000
            case AgentSilent(ms=ms):
                ended_s = self._ear.ended_s
                return ended_s is not None and ended_s > since_s and grace_s >= ended_s + ms / 1000
            case AgentSpeaking(ms=ms):
                began_s, ended_s = self._ear.began_s, self._ear.ended_s
                if began_s is None or ended_s is None or now - ended_s > SPURT_JOIN_S:
                    return False
                return ended_s > since_s and grace_s >= began_s + ms / 1000

    def _begin(self, track: _Track, step: Step, now: float, actions: list[Action]) -> None:
        track.since_s = now
        match step:
            case Say(audio=audio):
                self._voice, self._speaker, track.speaking = audio.frames(), track, True
                actions.append(SpeechBegan())
            case Dtmf(digits=digits, gap_ms=gap_ms):
                track.keys.extend((now + n * gap_ms / 1000, digit) for n, digit in enumerate(digits))
            case HangUp():
                actions.append(EndCall())
            case Drop():
                actions.append(DropSocket())
            case SendRaw(message=message):
                actions.append(SendMessage(message))
            case _:  # Wait
                pass
