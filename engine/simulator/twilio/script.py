"""What a simulated caller does, as data: steps, each with the cue that begins it.

A script is a sequence of steps done one after the other; a call takes any number of scripts and runs them side by side
(say something in one, press keys in another). A cue that waits for the agent gives up after `within_ms`, and the step
is then done all the same and counted as missed: no script can hang.

Example: a caller who listens to the greeting, asks, interrupts the answer after 800 ms, and hangs up::

    [
        Say(question, when=AgentSilent(ms=700)),
        Say(stop_it, when=AgentSpeaking(ms=800)),
        HangUp(when=AgentSilent(ms=1500)),
    ]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.simulator.twilio.sound import CallerAudio


@dataclass(frozen=True, kw_only=True)
class After:
    """`ms` after the previous step was over (after the stream's start, for the first)."""

    ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class At:
    """`ms` after the stream's start."""

    ms: float


@dataclass(frozen=True, kw_only=True)
class AgentSilent:
    """The agent has been heard since the previous step was over, and has now been silent for `ms`."""

    ms: float = 700.0
    within_ms: float = 30_000.0


@dataclass(frozen=True, kw_only=True)
class AgentSpeaking:
    """The agent is being heard, and its talk spurt began `ms` ago or earlier."""

    ms: float = 0.0
    within_ms: float = 30_000.0


Cue = After | At | AgentSilent | AgentSpeaking

_AT_ONCE = After()


@dataclass(frozen=True)
class Say:
    """Say a sound; the step is over when the sound is."""

    audio: CallerAudio
    when: Cue = field(default=_AT_ONCE, kw_only=True)


@dataclass(frozen=True)
class Wait:
    """Do nothing but wait for the cue."""

    when: Cue


@dataclass(frozen=True)
class Dtmf:
    """Press keys: digits, `*`, `#`, and `A` to `D`, `gap_ms` apart."""

    digits: str
    when: Cue = field(default=_AT_ONCE, kw_only=True)
    gap_ms: float = field(default=200.0, kw_only=True)

    def __post_init__(self) -> None:
        """Checks the digits.

        Raises:
            ValueError: There is no digit, or one that no telephone has.
        """
        if not self.digits or set(self.digits) - set("0123456789*#ABCD"):
            raise ValueError(f"{self.digits!r} are not keys of a telephone")


@dataclass(frozen=True)
class HangUp:
    """Hang up: Twilio sends `stop` and closes the socket properly."""

    when: Cue = field(default=_AT_ONCE, kw_only=True)


@dataclass(frozen=True)
class Drop:
    """Vanish: the TCP connection is closed without `stop` and without a closing handshake."""

    when: Cue = field(default=_AT_ONCE, kw_only=True)


@dataclass(frozen=True)
class SendRaw:
    """Send a message of the test's own making (text or binary) to see what the server makes of it."""

    message: str | bytes
    when: Cue = field(default=_AT_ONCE, kw_only=True)


Step = Say | Wait | Dtmf | HangUp | Drop | SendRaw
Script = Sequence[Step]
