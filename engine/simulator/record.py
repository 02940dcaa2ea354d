"""The record of one simulated call: everything that was said, heard and decided, with exact times.

Owns plain data and sums over it; the simulated Twilio fills it in while the call lives. It refuses nothing and reads no
clock: every time in it is an absolute second of one clock, `trio.current_time()` of the run that placed the call.
What always holds: `played` is ordered, its chunks never overlap, and audio that `clear` threw away is not in it.
Memory is bounded by the call's time limit (about 40 kB per second of conversation).
"""

from __future__ import annotations

from dataclasses import dataclass, field

ULAW_BYTES_PER_S = 8000

# The ways a call may end that say nothing bad about the server. `server_closed` is one of them: Twilio logs 31921 for
# it, but it is the only way for a server to give the call back to its TwiML (protocols.md A.1).
GOOD_ENDINGS = frozenset({"caller_hung_up", "caller_dropped", "twiml_ended", "hangup_verb", "dialed", "server_closed"})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of sound.

    Attributes:
        at_s: When its first sample was sent (caller) or began to play (agent).
        ulaw: G.711 mu-law, 8000 Hz, mono, one byte per sample.
    """

    at_s: float
    ulaw: bytes

    @property
    def end_s(self) -> float:
        """When its last sample was over."""
        return self.at_s + len(self.ulaw) / ULAW_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Something that happened in the call; the kinds are listed in `engine.simulator.twilio`."""

    at_s: float
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The playout buffer ran dry and then got audio again within a second.

    Attributes:
        at_s: When it ran dry.
        gap_ms: How long nothing played.
        after_mark: The last thing played before the gap was a mark. A server that marks the ends of its items pauses
            there on purpose, so only gaps without a mark are underruns; one that marks in between too may have some of
            its underruns here.
    """

    at_s: float
    gap_ms: float
    after_mark: bool


@dataclass(frozen=True, slots=True)
class Violation:
    """A message of the server that breaks the protocol (protocols.md A.3, A.4).

    Attributes:
        at_s: When it arrived.
        code: Twilio's code: 31950 (binary frame), 31951 (wrong message), 31924 (broken WebSocket framing).
        reason: What is wrong with it.
    """

    at_s: float
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallError:
    """An error or warning that Twilio's debugger would show for the call.

    Attributes:
        at_s: When it was raised.
        code: Twilio's code, such as 31920 or 11200.
        message: One sentence that names the cause.
    """

    at_s: float
    code: int
    message: str


@dataclass
class CallRecord:
    """What one simulated call did and heard.

    Attributes:
        call_sid: The call, `CA` and 32 hexadecimal digits.
        stream_sid: The (last) media stream, `MZ…`; empty until one has started.
        dialed_at_s: When the call was placed.
        started_at_s: When `start` was sent; equal to `ended_at_s` if no stream ever started.
        ended_at_s: When the call was over.
        ended_by: Why; see `GOOD_ENDINGS`, the others name a failure.
        caller: What the caller said, silence included, at the time each frame was sent.
        played: What the caller heard, by true playout time.
        received: Arrival time and mu-law bytes of each media message of the server.
        depth: Time and milliseconds in the playout buffer, around each change.
        events: Everything in order.
        gaps: Every time playout paused for less than a second.
        violations: Messages of the server that break the protocol.
        errors: What Twilio's debugger would list.
        frames_sent: Media messages sent.
        frames_lost: Frames lost on purpose (faults).
        frames_congested: Frames dropped because the server read too slowly (31930).
        frames_late: Frames that left more than 5 ms after their time, and not by a fault.
        late_max_ms: The worst of them: how well this simulator kept its own schedule.
        marks_received: Marks that the server sent.
        marks_returned: Marks sent back.
        clears: `clear` messages of the server.
        surplus_bytes: Audio refused because the playout buffer was at its limit.
        events_dropped: Live events that a slow observer of an open call missed (they are in `events` all the same).
        cues_missed: Steps of the script whose cue did not come in time.
    """

    call_sid: str
    stream_sid: str = ""
    dialed_at_s: float = 0.0
    started_at_s: float = 0.0
    ended_at_s: float = 0.0
    ended_by: str = ""
    caller: list[Chunk] = field(default_factory=list)
    played: list[Chunk] = field(default_factory=list)
    received: list[tuple[float, int]] = field(default_factory=list)
    depth: list[tuple[float, float]] = field(default_factory=list)
    events: list[CallEvent] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    errors: list[CallError] = field(default_factory=list)
    frames_sent: int = 0
    frames_lost: int = 0
    frames_congested: int = 0
    frames_late: int = 0
    late_max_ms: float = 0.0
    marks_received: int = 0
    marks_returned: int = 0
    clears: int = 0
    surplus_bytes: int = 0
    events_dropped: int = 0
    cues_missed: int = 0

    @property
    def underruns(self) -> list[Gap]:
        """The gaps in the middle of a talk spurt."""
        return [gap for gap in self.gaps if not gap.after_mark]

    @property
    def went_well(self) -> bool:
        """Whether nothing broke: a good ending, no violation, no dropped audio, no error but 31921.

        31921 says that the server closed the stream, as it may.
        """
        faults = [error for error in self.errors if error.code != 31921]
        return not (faults or self.violations or self.frames_congested) and self.ended_by in GOOD_ENDINGS

    @property
    def setup_ms(self) -> float | None:
        """From dialing to `start`, in milliseconds; None if no stream started."""
        return (self.started_at_s - self.dialed_at_s) * 1000 if self.stream_sid else None

    @property
    def first_audio_ms(self) -> float | None:
        """From `start` to the first media message of the server, in milliseconds; None if none came."""
        return (self.received[0][0] - self.started_at_s) * 1000 if self.received else None

    @property
    def depth_max_ms(self) -> float:
        """The fullest that the playout buffer ever was, in milliseconds."""
        return max((depth_ms for _, depth_ms in self.depth), default=0.0)

    def heard_ms(self, since_s: float, at_s: float) -> float:
        """Says how much of the server's audio really played between two times.

        Args:
            since_s: The beginning of the interval.
            at_s: The end of the interval.

        Returns:
            Milliseconds of `played` audio inside the interval; pauses between chunks do not count.
        """
        overlaps = (min(chunk.end_s, at_s) - max(chunk.at_s, since_s) for chunk in self.played)
        return sum(overlap for overlap in overlaps if overlap > 0) * 1000

    def count(self, kind: str) -> int:
        """Says how many events of a kind there are."""
        return sum(event.kind == kind for event in self.events)
