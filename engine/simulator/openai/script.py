"""What the simulated model says, turn by turn, and what goes wrong.

Owns the vocabulary of a scripted conversation: replies (`Speak`, `CallTool`), faults, and `Script`, which strings them
together. A script is plain data, knows no time and no socket, and can be shared by any number of sessions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from engine.simulator.voices import RECORDINGS

Since: TypeAlias = Literal["connected", "first_delta"]
"""What a fault's `at_s` counts from: the session's start, or the first audio delta sent in it."""


@dataclass(frozen=True)
class Speak:
    """Say something: a recording, or speech-like sound of a given length.

    Attributes:
        recording: A name of `engine.simulator.voices.RECORDINGS`.
        seconds: Length of synthetic speech, when no recording is named.
        words: The transcript, when it is not the recording's.

    Raises:
        ValueError: Neither or both of recording and seconds are given, the recording is unknown, or seconds is not in
            (0, 3600].
    """

    recording: str | None = None
    seconds: float | None = field(default=None, kw_only=True)
    words: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.recording is None) == (self.seconds is None):
            raise ValueError("Speak needs a recording or a number of seconds")
        if self.recording is not None and self.recording not in RECORDINGS:
            raise ValueError(f"no recording is named {self.recording!r}")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise ValueError("seconds must be more than 0 and at most 3600")


@dataclass(frozen=True)
class CallTool:
    """Call one of the session's functions.

    A model cannot call what the session does not offer: such a step is passed over and counted in the log.

    Attributes:
        name: The function's name.
        arguments: Its arguments, sent as JSON.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    def arguments_json(self) -> str:
        """Write the arguments as the service sends them: a JSON text."""
        return json.dumps(self.arguments)


Step: TypeAlias = Speak | CallTool
Reply: TypeAlias = Step | tuple[Step, ...]
"""One response: a single item, or several in this order."""


@dataclass(frozen=True, kw_only=True)
class RefuseHandshake:
    """Answer the upgrade request with an HTTP status instead of 101."""

    status: int = 503
    message: str = "The server is overloaded."


@dataclass(frozen=True, kw_only=True)
class Die:
    """Drop the connection without a close frame (a TCP reset)."""

    at_s: float
    since: Since = "connected"


@dataclass(frozen=True, kw_only=True)
class ReportError:
    """Send an `error` event, and close the socket if `close_code` is given."""

    at_s: float
    code: str
    message: str = "The server had an error while processing your request."
    type: str = "server_error"
    close_code: int | None = None
    since: Since = "connected"


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Stop reading, sending, or both for a while; what was held goes out together afterwards."""

    at_s: float
    for_s: float
    reading: bool = True
    sending: bool = True
    since: Since = "connected"


@dataclass(frozen=True, kw_only=True)
class SendText:
    """Send a text as it stands: malformed JSON, an unknown event, anything."""

    at_s: float
    text: str
    since: Since = "connected"


Fault: TypeAlias = RefuseHandshake | Die | ReportError | Stall | SendText
TimedFault: TypeAlias = Die | ReportError | Stall | SendText

NOT_JSON = '{"type": "response.output_audio.delta", "delta": '
UNKNOWN_EVENT = '{"type": "response.tomorrow.delta", "event_id": "event_unknown", "novelty": {"level": 1}}'


def expire_session(at_s: float) -> ReportError:
    """Make the fault that ends a session before its hour (`session_expired`, protocols.md B.3)."""
    message = "Your session hit the maximum duration of 60 minutes."
    return ReportError(
        at_s=at_s, code="session_expired", message=message, type="invalid_request_error", close_code=1001
    )


@dataclass(frozen=True, kw_only=True)
class Script:
    """A conversation from the model's side.

    Each response takes the next reply. A tool call that was cancelled is tried again by the next response. A response asked
    for while a called tool's output is missing gets `while_waiting`, and the script does not move on.

    Attributes:
        replies: The responses, in order.
        while_waiting: Said while a tool's output is awaited.
        afterwards: Said when the replies are used up, each time.
        heard: Transcripts of the caller's turns, in order; turns beyond them are transcribed as empty.
        faults: What goes wrong.
    """

    replies: tuple[Reply, ...] = (Speak("agent_greeting"), Speak("agent_order"), Speak("agent_sorry"))
    while_waiting: Reply = Speak("agent_tool_wait")
    afterwards: Reply = Speak("agent_goodbye")
    heard: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    def refusal(self) -> RefuseHandshake | None:
        """Give the fault that refuses the handshake, if there is one."""
        return next((fault for fault in self.faults if isinstance(fault, RefuseHandshake)), None)

    def timed_faults(self) -> tuple[TimedFault, ...]:
        """Give the faults that strike within a session."""
        return tuple(fault for fault in self.faults if not isinstance(fault, RefuseHandshake))
