"""The figures of a demonstrated call, measured from outside the engine.

Every number comes from what the two simulators saw on their ends of the sockets, on one clock, so that it includes the
loopback network and both simulators' own scheduling: an upper bound of what the engine adds. Pure: an `Account` in,
numbers out. A figure that could not be measured is None, never zero.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from engine.demo.account import Account, ProviderAccount, Reply, Truncation
from engine.demo.hearing import Hearing, trace_replies
from engine.simulator.record import CallEvent, CallRecord, Chunk

# A reply starts on a line at rest when Twilio got nothing for this long: before that, its first frame queues behind others.
_REST_S = 0.1
# Media messages further apart than this belong to different spurts of speech; a schedule holds within one spurt.
_SPURT_GAP_S = 0.25
# A spurt begins with a burst that fills the lead; the schedule starts once a frame is this close to the earliest one.
_SCHEDULED_WITHIN_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Some measurements of one thing, in milliseconds."""

    count: int
    median_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True, kw_only=True)
class BargeIn:
    """The caller interrupts the agent.

    Attributes:
        hearing: What was heard of the interrupted reply.
        noticed_at_s: When the provider sent `speech_started`.
        cleared_at_s: When Twilio received `clear`.
        reported_ms: What the engine told the provider was heard.
    """

    hearing: Hearing
    noticed_at_s: float
    cleared_at_s: float
    reported_ms: int

    @property
    def error_ms(self) -> float:
        """Reported minus truly heard."""
        return self.reported_ms - self.hearing.heard_ms

    @property
    def clear_ms(self) -> float:
        """From the provider's `speech_started` to Twilio's `clear`."""
        return (self.cleared_at_s - self.noticed_at_s) * 1000


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures of one call; see `engine.demo.table` for how they read.

    Attributes:
        thinking_ms: What the provider itself took of `first_audio_ms`: from its session's opening to the first delta.
    """

    connected_ms: float | None
    first_audio_ms: float | None
    thinking_ms: float | None
    up: Spread | None
    down: Spread | None
    lateness: Spread | None
    lead_ms: float
    depth: Spread | None
    barge_in: BargeIn | None
    hearings: tuple[Hearing, ...]
    underruns: int
    violations: int


def measure(account: Account) -> Figures:
    """Measures one call."""
    record, provider = account.record, account.provider
    cleared_at_s = [event.at_s for event in record.events if event.kind == "clear"]
    hearings = trace_replies(record.played, provider.replies, cleared_at_s)
    return Figures(
        connected_ms=record.setup_ms,
        first_audio_ms=(record.received[0][0] - record.dialed_at_s) * 1000 if record.received else None,
        thinking_ms=(provider.replies[0].sent_at_s - provider.opened_at_s) * 1000 if provider.replies else None,
        up=spread_of(up_latencies_ms(record.caller, provider.appended)),
        down=spread_of(down_latencies_ms(provider.replies, [at_s for at_s, _ in record.received])),
        lateness=spread_of(lateness_ms(record.received)),
        lead_ms=account.lead_ms,
        depth=spread_of(depths_ms(record)),
        barge_in=maybe_barge_in(provider, record.events, hearings),
        hearings=hearings,
        underruns=len(record.underruns),
        violations=len(record.violations),
    )


def spread_of(values_ms: Sequence[float]) -> Spread | None:
    """Sums measurements up; None if there are none."""
    if not values_ms:
        return None
    median, p99 = np.percentile(np.asarray(values_ms, dtype=np.float64), [50, 99])
    return Spread(count=len(values_ms), median_ms=float(median), p99_ms=float(p99), worst_ms=max(values_ms))


def up_latencies_ms(caller: Sequence[Chunk], appended: Sequence[tuple[float, bytes]]) -> list[float]:
    """From the telephone sending a frame to its last byte reaching the provider.

    Only frames that occur once in the call are followed (speech; silence looks always the same).
    """
    arrived = b"".join(ulaw for _, ulaw in appended)
    ends = list(accumulate(len(ulaw) for _, ulaw in appended))
    occurrences = Counter(chunk.ulaw for chunk in caller)
    latencies, position = [], 0
    for chunk in caller:
        found = arrived.find(chunk.ulaw, position) if occurrences[chunk.ulaw] == 1 else -1
        if found >= 0:
            position = found + len(chunk.ulaw)
            latencies.append((appended[bisect_right(ends, position - 1)][0] - chunk.at_s) * 1000)
    return latencies


def down_latencies_ms(replies: Sequence[Reply], media_at_s: Sequence[float]) -> list[float]:
    """From the provider sending a reply's first delta to Twilio receiving its first frame, for replies on a line at rest."""
    latencies = []
    for reply in replies:
        index = bisect_right(media_at_s, reply.sent_at_s)
        at_rest = index == 0 or reply.sent_at_s - media_at_s[index - 1] >= _REST_S
        if at_rest and index < len(media_at_s):
            latencies.append((media_at_s[index] - reply.sent_at_s) * 1000)
    return latencies


def lateness_ms(received: Sequence[tuple[float, int]]) -> list[float]:
    """How late each frame reached Twilio against the schedule of its spurt.

    The schedule is the spurt's own: one byte each 1/8000 s, its origin given by the frame that came earliest.
    """
    late: list[float] = []
    for spurt in _spurts(received):
        positions_s = [0.0, *(total / 8000 for total in accumulate(size for _, size in spurt))]
        offsets = [at_s - position for (at_s, _), position in zip(spurt, positions_s, strict=False)]
        origin = min(offsets)
        begin = next(index for index, offset in enumerate(offsets) if offset - origin <= _SCHEDULED_WITHIN_S)
        late.extend((offset - origin) * 1000 for offset in offsets[begin:])
    return late


def _spurts(received: Sequence[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    """The media messages, cut wherever none came for a while."""
    spurts = [list(received[:1])] if received else []
    for (before_s, _), message in pairwise(received):
        if message[0] - before_s > _SPURT_GAP_S:
            spurts.append([])
        spurts[-1].append(message)
    return spurts


def depths_ms(record: CallRecord) -> list[float]:
    """How much audio Twilio held right after each media message (while speech arrives, not while it drains)."""
    times = [at_s for at_s, _ in record.depth]
    depths = []
    for at_s, _ in record.received:
        index = bisect_right(times, at_s) - 1
        if index >= 0:
            depths.append(record.depth[index][1])
    return depths


def maybe_barge_in(
    provider: ProviderAccount, events: Sequence[CallEvent], hearings: Sequence[Hearing]
) -> BargeIn | None:
    """The first barge-in: a truncation, the `speech_started` that led to it, and the `clear` that Twilio got for it."""
    for truncation in provider.truncations:
        hearing = next((one for one in hearings if one.reply.item_id == truncation.item_id), None)
        noticed_at_s = max((at_s for at_s in provider.speech_started_at_s if at_s <= truncation.at_s), default=None)
        if hearing is not None and noticed_at_s is not None:
            cleared_at_s = _first_clear(events, noticed_at_s)
            if cleared_at_s is not None:
                return _barge_in(hearing, noticed_at_s, cleared_at_s, truncation)
    return None


def _first_clear(events: Sequence[CallEvent], since_s: float) -> float | None:
    return next((event.at_s for event in events if event.kind == "clear" and event.at_s >= since_s), None)


def _barge_in(hearing: Hearing, noticed_at_s: float, cleared_at_s: float, truncation: Truncation) -> BargeIn:
    return BargeIn(
        hearing=hearing,
        noticed_at_s=noticed_at_s,
        cleared_at_s=cleared_at_s,
        reported_ms=truncation.audio_end_ms,
    )
