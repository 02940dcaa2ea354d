"""One call seen from both ends: joins the carrier's side to the provider's, interrupts, and compares what both saw."""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from random import Random

from .carrier import Carrier
from .figures import Figures
from .network import Network
from .provider import ProviderSession
from .sockets import Loop
from .speech import FRAME_SAMPLES, SAMPLES_PER_MS, Follower, Tape
from .transcoded import HELD_BACK_SAMPLES, CountedUp, Stretch
from .voice import Item, Voice

# An engine that has not answered a barge-in by then never will.
_ANSWER_S = 1.0
# Audio the provider sent this shortly before the buffer ran dry may still be under way.
_UNDER_WAY_S = 0.010
# An item heard to within this of its end may be taken for heard.
_NEARLY_HEARD_MS = 20.0
# The playout buffer's depth is compared from here on, after the first burst of a run.
_SETTLED_S = 0.1
# Caller audio sent this shortly before the hang-up need not have arrived.
_TAIL_S = 0.1
_BARGE_IN_SPREAD = (0.7, 1.3)
_SPEECH_S = (0.15, 0.3)
_LANE_RETRY_S = 0.25
_THINKING_S = (0.05, 0.4)
_AGAIN_SHARE = 0.25
_AGAIN_AFTER_S = 0.05


@dataclass
class BargeIn:
    """One interruption: what it should cut, and what the engine did."""

    at: float
    # Where the previous barge-in cut, and where this one cuts: positions in the downward audio.
    floor: int
    boundary: int
    cleared_at: float | None = None
    heard_to: int = 0
    truncates: list[tuple[str, int]] = field(default_factory=list)


class Call:
    """One call; `carrier` and, once the engine has connected, `session` are its ends."""

    def __init__(
        self,
        *,
        number: int,
        loop: Loop,
        figures: Figures,
        tape: Tape,
        audio: str,
        parameters: dict[str, str],
        lead_ms: int,
        frame_ms: int,
        barge_in_every_s: float,
        keep: bool,
        seed: int,
        network: Network | None = None,
        strict: bool = False,
    ) -> None:
        self._loop, self._figures, self._tape = loop, figures, tape
        self._random = Random(f"{seed}/{number}")
        self._settled_depth_ms = lead_ms - frame_ms
        self._under_way_s = _UNDER_WAY_S + (network.worst_s if network else 0.0)
        self._tail_s = _TAIL_S + (network.worst_s if network else 0.0)
        self._barge_in_every_s = barge_in_every_s
        self._transcoded = audio == "pcm24k"
        self.carrier = Carrier(
            number=number,
            loop=loop,
            figures=figures,
            tape=tape,
            parameters=parameters,
            network=network,
            strict=strict,
        )
        self.down_origin = tape.origin(2 * number + 1)
        self.voice = Voice(name=f"{number}", tape=tape, origin=self.down_origin, audio=audio, random=self._random)
        self.session: ProviderSession | None = None
        self.ready_at: float | None = None
        self.up = Follower(tape, self.carrier.origin)
        self.up_counted = CountedUp(tape, self.carrier.origin, keep=keep)
        self.down = Follower(tape, self.down_origin)
        self.down.position = 0
        # Downward audio of a transcoded call, kept for correlation.
        self.stretches: list[Stretch] = []
        self._keep = keep
        self._pending: deque[BargeIn] = deque()
        self._barge_ins = 0
        # Where the last barge-in cut the downward audio.
        self._boundary = 0
        # Where speech after silence begins and when its first delta went out, until the caller hears of it.
        self._awaited: tuple[int, float] | None = None
        self._run_began_at = 0.0
        self._run_top_ms = 0.0
        self._up_in_lane = self._down_in_lane = False
        self.carrier.on_media, self.carrier.on_played, self.carrier.on_clear = self._media, self._played, self._cleared

    def attach(self, session: ProviderSession) -> None:
        """Take the provider session that the engine opened for this call."""
        self.session = session
        session.voice = self.voice
        session.on_ready, session.on_audio, session.on_truncate = self._ready, self._caller_audio, self._truncated
        session.on_first_delta, session.on_closed = self._first_delta, self._provider_closed

    def _ready(self, now: float) -> None:
        self.ready_at = now
        if self._loop.lanes is not None:
            self._loop.call_at(now + _LANE_RETRY_S, self._enter_lanes)
        if self._barge_in_every_s:
            first_s = 1.0 + self._random.random() * self._barge_in_every_s
            self._loop.call_at(now + first_s, lambda later: self._barge_in(later, regular=True))

    # Upwards: caller to provider.

    def _caller_audio(self, now: float, audio: bytes) -> None:
        sent_at = self.carrier.sent_at
        sent = len(sent_at) * FRAME_SAMPLES
        if self._transcoded:
            before = self.up_counted.position
            self.up_counted.take(audio, sent)
            after = self.up_counted.position
            held_back = HELD_BACK_SAMPLES
        else:
            before = self.up.position
            self.up.take(audio, sent)
            after, held_back = self.up.position, 0
        if before is not None and after is not None:
            self._arrived(now, before + held_back, after + held_back)

    def _arrived(self, now: float, before: int, after: int) -> None:
        """Caller audio between two positions has arrived: time the frames completed by it."""
        if self._figures.measuring:
            sent_at = self.carrier.sent_at
            for frame in range(before // FRAME_SAMPLES, min(after // FRAME_SAMPLES, len(sent_at))):
                self._figures.up_ms.append((now - sent_at[frame]) * 1000)

    # The short way of both directions.

    def _enter_lanes(self, now: float) -> None:
        """Put both sockets on lanes; tries again while a frame is half received."""
        lanes, session = self._loop.lanes, self.session
        if lanes is None or session is None or session.closed or self.carrier.hung_up_at is not None:
            return
        if not self._up_in_lane:
            self._up_in_lane = session.maybe_enter_lane(lanes, self.carrier.origin, self.up, self._up_counted)
        if not self._down_in_lane:
            lane = self.carrier.maybe_enter_lane(
                lanes, self.down_origin, self.down, self._down_counted, limit=self.voice.produced
            )
            if lane is not None:
                self._down_in_lane = True
                session.on_spoken = lane.limit
        if not (self._up_in_lane and self._down_in_lane):
            self._loop.call_at(now + _LANE_RETRY_S, self._enter_lanes)

    def _up_counted(self, now: float, position: int, samples: int, _frame_bytes: int) -> None:
        self.up.position = after = position + samples
        self.up.foreign += max(0, after - len(self.carrier.sent_at) * FRAME_SAMPLES)
        self._arrived(now, position, after)

    def _down_counted(self, now: float, position: int, samples: int, frame_bytes: int) -> None:
        self.down.position = position + samples
        if self._figures.measuring:
            self._figures.carrier_messages += 1
            self._figures.carrier_bytes += frame_bytes
        if self.carrier.hung_up_at is None:
            self._played(now, position, samples, self.carrier.playout.add(now, position, samples))

    # Downwards: provider to caller.

    def _first_delta(self, now: float) -> None:
        self._awaited = (self.voice.produced, now)

    def _media(self, now: float, ulaw: bytes) -> int:
        if not self._transcoded:
            return self.down.take(ulaw, self.voice.produced)
        position = self.down.position or 0
        self.down.position = position + len(ulaw)
        self.down.foreign += max(0, self.down.position - max(position, self.voice.produced + HELD_BACK_SAMPLES))
        if self._keep:
            if not self.stretches:
                self.stretches.append(Stretch(position, bytearray()))
            self.stretches[-1].audio += ulaw
        return position

    def _played(self, now: float, position: int, samples: int, dry_s: float) -> None:
        figures = self._figures
        if dry_s and self._was_owed(position, now, dry_s):
            figures.counts["underruns"] += 1
            figures.counts["underrun ms"] += round(dry_s * 1000)
            figures.gap_ms.append(dry_s * 1000)
        if self._awaited is not None and position + samples > self._awaited[0]:
            if figures.measuring:
                figures.first_audio_ms.append((now - self._awaited[1]) * 1000)
            self._awaited = None
            self._run_began_at, self._run_top_ms = now, 0.0
        depth_ms = self.carrier.playout.depth_ms(now)
        figures.depth_max_ms = max(figures.depth_max_ms, depth_ms)
        if now - self._run_began_at > _SETTLED_S:
            if depth_ms > self._run_top_ms and depth_ms >= self._settled_depth_ms:
                self._run_top_ms = depth_ms
            if self._run_top_ms and figures.measuring:
                figures.frame_late_ms.append(self._run_top_ms - depth_ms)

    def _was_owed(self, position: int, now: float, dry_s: float) -> bool:
        """Whether the engine had the audio at `position` while the caller's buffer was dry."""
        delta = bisect_right(self.voice.delta_ends, position)
        if delta >= len(self.voice.delta_times):
            return False
        owed_since = self.voice.delta_times[delta] + self._under_way_s
        return now > max(owed_since, now - dry_s)

    # Barge-in.

    def _barge_in(self, now: float, *, regular: bool) -> None:
        session = self.session
        if session is None or session.closed or self.carrier.hung_up_at is not None:
            return
        if regular:
            gap_s = self._barge_in_every_s * self._random.uniform(*_BARGE_IN_SPREAD)
            self._loop.call_at(now + gap_s, lambda later: self._barge_in(later, regular=True))
        if not self.voice.speaking:
            return
        self._barge_ins += 1
        self._figures.counts["barge-ins"] += 1
        item_id = f"item_caller_{self._barge_ins}"
        heard_ms = len(self.carrier.sent_at) * 20
        session.interrupt(heard_ms, item_id)
        barge_in = BargeIn(now, self._boundary, self.voice.produced)
        self._boundary = self.voice.produced
        self._awaited = None
        self._pending.append(barge_in)
        self._loop.call_at(now + _ANSWER_S, lambda later: self._settle(barge_in))
        stops_at = now + self._random.uniform(*_SPEECH_S)
        self._loop.call_at(stops_at, lambda later: session.end_speech(heard_ms + 200, item_id))
        self._loop.call_at(stops_at + self._random.uniform(*_THINKING_S), self._reply)

    def _reply(self, now: float) -> None:
        if self.session is None or self.session.closed or self.voice.speaking:
            return
        self.session.begin(now)
        if self._random.random() < _AGAIN_SHARE:
            self._loop.call_at(now + _AGAIN_AFTER_S, lambda later: self._barge_in(later, regular=False))

    def _cleared(self, now: float) -> None:
        barge_in = next((pending for pending in self._pending if pending.cleared_at is None), None)
        if barge_in is None:
            self._figures.notices["clear without a barge-in"] += 1
            return
        barge_in.cleared_at = now
        barge_in.heard_to = max(barge_in.floor, self.carrier.playout.heard_to(now))
        if self._figures.measuring:
            left_over_ms = self.carrier.playout.depth_ms(now)
            late_ms = (now - barge_in.at) * 1000
            self._figures.clear_ms.append(late_ms)
            self._figures.left_over_ms.append(left_over_ms)
            self._figures.talk_over_ms.append(late_ms if left_over_ms else min(late_ms, self._heard_since(barge_in)))
        self.down.jump(barge_in.boundary)
        if self._keep:
            self.stretches.append(Stretch(self.down.position or 0, bytearray()))

    def _heard_since(self, barge_in: BargeIn) -> float:
        """Audio heard since a barge-in whose clear met an empty buffer, in ms: until the buffer ran dry."""
        return max(0.0, (self.carrier.playout.ends_at - barge_in.at) * 1000)

    def _truncated(self, now: float, item_id: str, end_ms: int) -> None:
        if self._pending:
            self._pending[-1].truncates.append((item_id, end_ms))
        else:
            self._figures.notices["truncate without a barge-in"] += 1

    def _settle(self, barge_in: BargeIn) -> None:
        """Compare the engine's answer to a barge-in with what the caller's buffer did."""
        self._pending.remove(barge_in)
        if self.carrier.hung_up_at is not None:
            return
        if barge_in.cleared_at is None:
            self._figures.counts["barge-ins without clear"] += 1
            return
        truncated = dict(barge_in.truncates)
        if len(truncated) < len(barge_in.truncates):
            self._figures.notices["items truncated twice"] += 1
        for item in self._recent_items(barge_in):
            self._judge(item, truncated.get(item.item_id), barge_in)

    def _recent_items(self, barge_in: BargeIn) -> list[Item]:
        """Items cut by the barge-in, and those truncated without having been cut."""
        named = {item_id for item_id, _ in barge_in.truncates}
        items = [item for item in self.voice.items if barge_in.floor <= item.start < barge_in.boundary]
        return [item for item in items if item.end > barge_in.heard_to or item.item_id in named]

    def _judge(self, item: Item, end_ms: int | None, barge_in: BargeIn) -> None:
        length_ms = (item.end - item.start) / SAMPLES_PER_MS
        heard_ms = min(max(0.0, (barge_in.heard_to - item.start) / SAMPLES_PER_MS), length_ms)
        if end_ms is None:
            if heard_ms == 0:
                self._figures.notices["unheard items not truncated"] += 1
            elif length_ms - heard_ms > _NEARLY_HEARD_MS:
                self._figures.counts["barge-ins without truncate"] += 1
        elif heard_ms or end_ms:
            self._figures.heard_error_ms.append(end_ms - heard_ms)

    # The end.

    def hang_up(self, now: float) -> None:
        """Hang up at the carrier's side, and settle both directions."""
        up = self.up_counted.position if self._transcoded else self.up.position
        due = sum(1 for sent in self.carrier.sent_at[-200:] if sent < now - self._tail_s) + max(
            0, len(self.carrier.sent_at) - 200
        )
        held_back = HELD_BACK_SAMPLES if self._transcoded else 0
        self.up.lost += max(0, due * FRAME_SAMPLES - held_back - (up or 0))
        if self._transcoded and up is not None:
            self.up.foreign += max(0, up - len(self.carrier.sent_at) * FRAME_SAMPLES)
        playout = self.carrier.playout
        if (
            playout.running
            and now > playout.ends_at
            and self._was_owed(self.down.position or 0, now, now - playout.ends_at)
        ):
            self._figures.counts["underruns"] += 1
        self.carrier.hang_up(now)

    def release(self) -> None:
        """Close both sockets, whatever their state."""
        self.carrier.release()
        if self.session is not None:
            self.session.connection.close()

    def _provider_closed(self, now: float) -> None:
        hung_up_at = self.carrier.hung_up_at
        if hung_up_at is None:
            self._figures.counts["provider sockets closed during the call"] += 1
        else:
            self._figures.hangup_ms.append((now - hung_up_at) * 1000)
