"""Playout against an independent account of Twilio's buffer, in any order of events."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twilio_ear import BYTES_PER_S, TwilioEar

from engine.call.playout import Interruption, Playout, SendMedia

FILLER = 0xFF
# audio that never looks like filler, and whose order shows
VOICE = bytes(random.Random(11).choices(range(255), k=1 << 20))
# what the model cannot see: a grid step at the start of a spurt, and another where a frame meets the end of the buffer
UNSEEN_MS = 1.2
# heard-ms of the engine are whole milliseconds, rounded down
QUANTUM_MS = 1.0


class CallCore(RuleBasedStateMachine):
    """A call: bursts of speech, frames, marks and interruptions, with Twilio some way off."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.playout = Playout()
        self.ear = TwilioEar()

    @initialize(
        frame_ms=st.sampled_from([10, 20, 20, 20, 30, 40, 60, 100, 200]),
        lead_ms=st.sampled_from([0, 20, 60, 100, 200, 200, 400]),
        there_ms=st.sampled_from([0, 0, 3, 25, 40]),
        back_ms=st.sampled_from([0, 0, 3, 25, 60]),
        start_ms=st.sampled_from([0, 0, 5, 20]),
        ping_known=st.booleans(),
        calm=st.booleans(),
        phase_us=st.integers(0, 999),
    )
    def begin(self, **given: Any) -> None:
        self.given = given
        self.frame_ms, self.lead_ms = given["frame_ms"], given["lead_ms"]
        self.start_ms = given["start_ms"]
        self.now += given["phase_us"] / 1e6
        self.playout = Playout(frame_ms=self.frame_ms, lead_ms=self.lead_ms)
        self.ear = TwilioEar(given["there_ms"] / 1000, given["back_ms"] / 1000, self.start_ms / 1000)
        if given["ping_known"]:
            self.playout.ledger.round_trip(self.ear.there_s + self.ear.back_s)
        # what the buffer holds when the next frame leaves, and the most it ever holds
        self.kept_ms = max(0, min(self.lead_ms, self.lead_ms + 38 - self.frame_ms))
        self.most_ms = self.kept_ms + self.frame_ms + UNSEEN_MS + self.start_ms
        # the most that anything was late so far: stalls of ours, marks held back
        self.trouble_ms = 0.0
        self.spoken = 0
        self.items = 0
        # since the last interruption: (item, bytes) in order, where pieces were complete, and where hearing began
        self.epoch: list[tuple[str, int]] = []
        self.epoch_start = 0
        self.ends: set[int] = set()
        self.heard_before = 0
        self.queued = 0

    # ------------------------------------------------------------------------------------------------------- steps

    @rule(ms=st.integers(0, 1500), odd=st.integers(0, 7), new_item=st.booleans(), complete=st.booleans())
    def speak(self, ms: int, odd: int, new_item: bool, complete: bool) -> None:
        self.items += new_item or not self.epoch
        item_id, audio = f"item-{self.items}", VOICE[self.spoken : self.spoken + ms * 8 + odd]
        self.playout.play(item_id, audio, self.now)
        self.serve()
        self.spoken += len(audio)
        self.queued += len(audio)
        self.epoch.append((item_id, len(audio)))
        if complete:
            self.complete()

    @rule()
    def complete(self) -> None:
        self.playout.complete(self.now)
        self.ends.add(self.spoken)
        self.serve()

    @rule(ms=st.integers(1, 900), us=st.integers(0, 999))
    def pass_time(self, ms: int, us: int) -> None:
        self.run_until(self.now + ms / 1000 + us / 1e6)

    @precondition(lambda self: not self.given["calm"])
    @rule(ms=st.integers(1, 900), marks_first=st.booleans())
    def stall(self, ms: int, marks_first: bool) -> None:
        self.trouble_ms = max(self.trouble_ms, ms)
        self.now += ms / 1000
        self.ear.advance(self.now)
        if marks_first:
            self.take_marks()
            self.serve()
        else:
            self.serve()
            self.take_marks()

    @precondition(lambda self: not self.given["calm"])
    @rule(ms=st.integers(1, 400))
    def hold_marks(self, ms: int) -> None:
        """Twilio's next marks come late."""
        self.trouble_ms = max(self.trouble_ms, ms)
        end = self.now + ms / 1000
        self.run_until(end, marks=False)
        self.take_marks()

    @rule(again=st.booleans())
    def interrupt(self, again: bool) -> None:
        cut = self.playout.interrupt(self.now)
        epoch, self.epoch = self.epoch, []
        start, self.epoch_start = self.epoch_start, self.spoken
        self.ear.look(self.now, lambda: self.judge(cut, epoch, start))
        if cut.clear:
            self.ear.clear(self.now)
        assert self.playout.due_at() is None
        assert not self.playout.is_playing(self.now)
        if again:
            assert self.playout.interrupt(self.now) == Interruption(clear=False, items=())
        self.ear.advance(self.now)

    # ----------------------------------------------------------------------------------------------------- the call

    def serve(self) -> None:
        for order in self.playout.advance(self.now):
            if isinstance(order, SendMedia):
                assert len(order.ulaw) == self.frame_ms * 8
                self.ear.media(self.now, order.ulaw)
            else:
                self.ear.mark(self.now, order.name)
        due_at = self.playout.due_at()
        if due_at is not None:
            assert due_at > self.now
            # more could leave, so the lead must be there
            self.ear.look(self.now, self.expect_lead)
        self.ear.advance(self.now)

    def expect_lead(self) -> None:
        assert self.ear.depth_ms() >= self.kept_ms - UNSEEN_MS

    def take_marks(self) -> None:
        for name in self.ear.take_returned(self.now):
            self.playout.mark_returned(name, self.now)

    def run_until(self, end: float, *, marks: bool = True) -> None:
        """Time passes, with a clock that rings when it should."""
        for _ in range(100_000):
            moments = [end, self.playout.due_at(), self.ear.next_arrival_at()]
            moments += [self.ear.next_returned_at()] if marks else []
            self.now = max(self.now, min(m for m in moments if m is not None))
            self.ear.advance(self.now)
            if marks:
                self.take_marks()
            self.serve()
            if self.now >= end:
                return
        raise AssertionError("time does not pass: something is due forever")

    def judge(self, cut: Interruption, epoch: list[tuple[str, int]], start: int) -> None:
        """Compares the account with what the caller really heard, at the moment the clear takes effect."""
        heard = self.check_heard(start)
        truth, left = {}, heard
        for item_id, length in epoch:
            part = min(length, left)
            left -= part
            truth[item_id] = truth.get(item_id, 0) + part
        told = {item.item_id: item.heard_ms for item in cut.items}
        assert len(told) == len(cut.items)
        assert set(told) <= set(truth)
        lengths: dict[str, int] = {}
        for item_id, length in epoch:
            lengths[item_id] = lengths.get(item_id, 0) + length
        told_ms = sum(min(told.get(item_id, length / 8), length / 8) for item_id, length in lengths.items())
        assert all(0 <= heard_ms <= lengths[item_id] / 8 for item_id, heard_ms in told.items())
        error_ms = told_ms - sum(truth.values()) / 8
        over_ms, under_ms = self.error_bounds_ms()
        assert -under_ms - len(told) * QUANTUM_MS <= error_ms <= over_ms, (error_ms, over_ms, under_ms)
        if not cut.clear:
            assert heard == sum(lengths.values())
        self.heard_before = len(self.ear.heard)

    def error_bounds_ms(self) -> tuple[float, float]:
        if not self.given["ping_known"]:
            # nothing tells how long Twilio's playout takes to start, and late marks may look like a halt
            return UNSEEN_MS + self.start_ms, UNSEEN_MS + (self.trouble_ms + 200 if self.trouble_ms else 0)
        if self.trouble_ms == 0:
            # speech that follows a pause shorter than the start of playout finds Twilio still playing, and starts sooner
            return UNSEEN_MS + self.start_ms, UNSEEN_MS + self.start_ms
        return UNSEEN_MS + self.start_ms, UNSEEN_MS + self.start_ms + self.trouble_ms + 200

    def check_heard(self, start: int) -> int:
        """Every byte once and in order, filler only where a piece was complete; returns how much audio was heard."""
        heard = bytes(self.ear.heard[self.heard_before :])
        audio = heard.replace(b"\xff", b"")
        assert audio == VOICE[start : start + len(audio)]
        if len(audio) != len(heard):
            position, run = start, 0
            for byte in heard:
                if byte == FILLER:
                    run += 1
                    assert position in self.ends
                    assert run < self.frame_ms * 8
                else:
                    position, run = position + 1, 0
        return len(audio)

    # --------------------------------------------------------------------------------------------------- what holds

    @invariant()
    def the_buffer_is_never_too_full(self) -> None:
        if hasattr(self, "most_ms"):
            assert self.ear.deepest_ms <= self.most_ms
            if self.start_ms == 0 and self.frame_ms <= self.lead_ms + 38:
                assert self.ear.deepest_ms <= self.lead_ms + 40

    @invariant()
    def the_account_adds_up(self) -> None:
        ledger, counts = self.playout.ledger, self.playout.ledger.counts
        assert counts.marks_unknown == 0
        assert counts.marks_played + counts.marks_flushed <= counts.marks_sent
        if hasattr(self, "queued"):
            assert counts.heard_bytes + counts.flushed_bytes <= self.queued
            assert ledger.heard_offset(self.now) >= 0

    def teardown(self) -> None:
        if not hasattr(self, "given"):
            return
        self.complete()
        self.run_until(self.now + self.spoken / BYTES_PER_S + 2.0)
        assert self.playout.due_at() is None
        assert self.check_heard(self.epoch_start) == self.spoken - self.epoch_start
        assert not self.playout.is_playing(self.now)
        counts = self.playout.ledger.counts
        assert counts.marks_played + counts.marks_flushed == counts.marks_sent
        assert self.playout.interrupt(self.now).items == ()
        assert counts.heard_bytes + counts.flushed_bytes == self.queued
        if self.given["calm"]:
            assert self.playout.pacer.counts.underruns == 0
            assert self.playout.pacer.counts.late_frames == 0


CallCore.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestCallCore = CallCore.TestCase
