"""The playback ledger: what was queued, sent, and heard, item by item.

Owns the account of one call's outgoing audio and the names of its marks. An *item* is one piece of the provider's
speech (for OpenAI a conversation item). Sent audio is a line of offsets in bytes; each talk spurt says at which time
its first offset began to play, so the offset heard at any time follows by interpolation. Returned marks correct it:
they show how far Twilio's playout lags behind the model, and they bound it from below; a mark that is long overdue
bounds it from above. A mark that comes back after a clear means flushed, not heard (protocols.md A.3): each clear
starts a new *epoch*, the epoch is part of the name, and older names are only counted. Always holds: heard <= sent <=
queued for every item, and what is heard never shrinks within an epoch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.call.pacer import BYTES_PER_MS

_BYTES_PER_S: Final = BYTES_PER_MS * 1000
# Enough to follow a lag within a sentence; each mark costs two messages of 100 bytes.
MARK_INTERVAL_BYTES: Final = 500 * BYTES_PER_MS
# Marks that tell the lag: enough that one or two which jitter or a stall of ours delayed do not count, few enough to
# notice within two seconds that the network's stall made Twilio's playout pause.
LAG_MARKS: Final = 4
# A mark this late shows that Twilio's playout stands still; less is the network's jitter.
OVERDUE_S: Final = 0.25
# Marks that may wait for their return. Twilio holds at most LEAD_MS of audio, so only a dead peer reaches this.
PENDING_LIMIT: Final = 256


class HeardItem(NamedTuple):
    """An item that was cut off: ``heard_ms`` of it reached the caller before the buffers were emptied."""

    item_id: str
    heard_ms: int


@dataclass(slots=True)
class _Item:
    item_id: str
    # queued and not sent
    waiting_bytes: int = 0
    # heard for certain: everything before the first span that is not over
    heard_bytes: int = 0
    # sent and not yet known to be heard
    flying_bytes: int = 0


class _Span(NamedTuple):
    """A run of one item's audio on the line of sent offsets."""

    item: _Item
    start: int
    end: int


class _Spurt(NamedTuple):
    """From ``offset`` on, Twilio plays without a break since ``plays_at``."""

    offset: int
    plays_at: float


class _Mark(NamedTuple):
    name: str
    offset: int
    plays_at: float


@dataclass(slots=True)
class LedgerCounts:
    """What happened since the call began."""

    marks_sent: int = 0
    marks_played: int = 0
    # returned after a clear: flushed, not heard
    marks_flushed: int = 0
    # names that were never sent, or already returned
    marks_unknown: int = 0
    heard_bytes: int = 0
    flushed_bytes: int = 0


class PlaybackLedger:
    """The account of one call."""

    def __init__(self) -> None:
        # items with audio that is not known to be heard, in the order they play
        self._items: deque[_Item] = deque()
        self._spans: deque[_Span] = deque()
        self._spurts: deque[_Spurt] = deque()
        self._marks: deque[_Mark] = deque()
        self._epoch = 0
        # the end of the line: all bytes ever sent, fillers included
        self._sent = 0
        # the lowest offset the caller must have heard: the last mark returned in this epoch, or the spurts that are over
        self._floor = 0
        self._marked = 0
        # how far Twilio's playout lagged behind the model, round trip included, by the last marks
        self._lags_s: deque[float] = deque(maxlen=LAG_MARKS)
        # the shortest round trip seen, by pings
        self._round_trip_s = 0.0
        self._round_trip_known = False
        self.counts = LedgerCounts()

    @property
    def epoch(self) -> int:
        """How many clears there were."""
        return self._epoch

    def queued(self, item_id: str, n_bytes: int) -> None:
        """Accounts for audio that was queued; it plays behind everything queued before."""
        if not n_bytes:
            return
        if not self._items or self._items[-1].item_id != item_id:
            self._items.append(_Item(item_id))
        self._items[-1].waiting_bytes += n_bytes

    def sent(self, audio_bytes: int, filler_bytes: int, plays_at: float, *, starts_spurt: bool) -> None:
        """Accounts for a frame that left.

        Args:
            audio_bytes: How much of it is queued audio.
            filler_bytes: How much silence fills it.
            plays_at: When it will begin to play, in seconds.
            starts_spurt: Whether playout was empty before it.
        """
        if starts_spurt or not self._spurts:
            self._spurts.append(_Spurt(self._sent, plays_at))
        for item in self._items:
            if not audio_bytes:
                break
            taken = min(item.waiting_bytes, audio_bytes)
            if taken:
                self._extend(item, taken)
                audio_bytes -= taken
        self._sent += filler_bytes

    def _extend(self, item: _Item, n_bytes: int) -> None:
        item.waiting_bytes -= n_bytes
        item.flying_bytes += n_bytes
        last = self._spans[-1] if self._spans else None
        if last is not None and last.item is item and last.end == self._sent:
            self._spans[-1] = last._replace(end=last.end + n_bytes)
        else:
            self._spans.append(_Span(item, self._sent, self._sent + n_bytes))
        self._sent += n_bytes

    def maybe_mark(self, *, at_end: bool) -> str | None:
        """Returns the name of a mark to send now, or None.

        A mark is due behind the first frame of a spurt, then every half second, and at the end of what was to be said.

        Args:
            at_end: Whether nothing follows the frame that just left.
        """
        fresh = self._sent - self._marked
        first = bool(self._spurts) and self._marked <= self._spurts[-1].offset
        if not fresh or not (first or at_end or fresh >= MARK_INTERVAL_BYTES) or len(self._marks) >= PENDING_LIMIT:
            return None
        self._marked = self._sent
        name = f"{self._epoch}:{self._sent}"
        self._marks.append(_Mark(name, self._sent, self._plays_at(self._sent)))
        self.counts.marks_sent += 1
        return name

    def _plays_at(self, offset: int) -> float:
        spurt = self._spurts[-1]
        return spurt.plays_at + (offset - spurt.offset) / _BYTES_PER_S

    def mark_returned(self, name: str, now: float) -> None:
        """Accounts for a mark that came back."""
        if not any(mark.name == name for mark in self._marks):
            flushed = name.split(":", 1)[0] != str(self._epoch) and name.replace(":", "").isdigit()
            self.counts.marks_flushed += flushed
            self.counts.marks_unknown += not flushed
            return
        while self._marks:
            mark = self._marks.popleft()
            self.counts.marks_played += 1
            self._floor = max(self._floor, mark.offset)
            if mark.name == name:
                self._lags_s.append(now - mark.plays_at)
                break
        self._settle(now)

    def round_trip(self, seconds: float) -> None:
        """Tells the round-trip time of a ping to Twilio; the shortest one counts."""
        self._round_trip_s = min(self._round_trip_s, seconds) if self._round_trip_known else seconds
        self._round_trip_known = True

    def _lag_s(self) -> float:
        """How long after the model's time Twilio plays, as seen by an order that takes the same way as the audio.

        A mark's return shows the way there, the playout's own delay, and the way back. A clear sent now takes the way
        there too, so what it will cut off is told by the playout's own delay alone. The least of several is closest to
        the truth: jitter and late wake-ups only ever add.
        """
        if not self._lags_s or not self._round_trip_known:
            return 0.0
        return max(0.0, min(self._lags_s) - self._round_trip_s)

    def heard_offset(self, now: float) -> int:
        """How far on the line of sent bytes the caller has heard, if playout were cut off by an order sent now."""
        lag_s = self._lag_s()
        offset = self._floor
        for index, spurt in enumerate(self._spurts):
            end = self._spurts[index + 1].offset if index + 1 < len(self._spurts) else self._sent
            played = spurt.offset + round((now - lag_s - spurt.plays_at) * _BYTES_PER_S)
            if played > spurt.offset:
                offset = max(offset, min(played, end))
        if self._marks and now - self._marks[0].plays_at > lag_s + self._round_trip_s + OVERDUE_S:
            offset = max(self._floor, min(offset, self._marks[0].offset))
        return offset

    def _settle(self, now: float) -> None:
        """Retires the spans that are over."""
        offset = self.heard_offset(now)
        while self._spans and self._spans[0].end <= offset:
            span = self._spans.popleft()
            length = span.end - span.start
            span.item.heard_bytes += length
            span.item.flying_bytes -= length
            self.counts.heard_bytes += length
        while self._items and not self._items[0].waiting_bytes and not self._items[0].flying_bytes:
            if len(self._items) == 1:
                break  # more of it may come
            self._items.popleft()
        while len(self._spurts) > 1 and self._spurts[1].offset <= offset:
            self._spurts.popleft()
            # with the spurt goes what told that it was heard
            self._floor = max(self._floor, self._spurts[0].offset)

    def is_playing(self, now: float) -> bool:
        """Whether the caller has yet to hear something that was queued or sent."""
        return bool(self._marks) or self.heard_offset(now) < self._sent or any(i.waiting_bytes for i in self._items)

    def interrupt(self, now: float) -> tuple[HeardItem, ...]:
        """Closes the account of everything queued and sent, as a clear at this moment does.

        Returns:
            The items that the caller has not heard to their end, in playing order, with what was heard of each.
        """
        self._settle(now)
        offset = self.heard_offset(now)
        if self._spans and self._spans[0].start < offset:
            span = self._spans[0]
            span.item.heard_bytes += offset - span.start
            self.counts.heard_bytes += offset - span.start
            span.item.flying_bytes -= offset - span.start
        cut = tuple(
            HeardItem(item.item_id, item.heard_bytes // BYTES_PER_MS)
            for item in self._items
            if item.waiting_bytes or item.flying_bytes
        )
        self.counts.flushed_bytes += sum(item.waiting_bytes + item.flying_bytes for item in self._items)
        self._forget()
        return cut

    def _forget(self) -> None:
        self._items.clear()
        self._spans.clear()
        self._spurts.clear()
        self._marks.clear()
        self._epoch += 1
        self._floor = self._marked = self._sent
