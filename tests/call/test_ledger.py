"""The ledger and Playout in the situations that matter: what was heard when the caller interrupts."""

from __future__ import annotations

import pytest
from twilio_ear import TwilioEar

from engine.call.ledger import PENDING_LIMIT, HeardItem, PlaybackLedger
from engine.call.playout import Playout, SendMark, SendMedia


class Line:
    """A call whose clock rings on time, with Twilio some way off."""

    def __init__(self, *, there_s: float = 0.0, back_s: float = 0.0, start_s: float = 0.0, ping: bool = True) -> None:
        self.now = 100.0
        self.playout = Playout(frame_ms=20, lead_ms=200)
        self.ear = TwilioEar(there_s, back_s, start_s)
        if ping:
            self.playout.ledger.round_trip(there_s + back_s)

    def say(self, item_id: str, ms: int, *, complete: bool = True) -> None:
        self.playout.play(item_id, b"\x10" * (ms * 8), self.now)
        if complete:
            self.playout.complete(self.now)
        self.serve()

    def serve(self) -> None:
        for order in self.playout.advance(self.now):
            if isinstance(order, SendMedia):
                self.ear.media(self.now, order.ulaw)
            else:
                self.ear.mark(self.now, order.name)
        self.ear.advance(self.now)

    def wait(self, ms: float) -> None:
        """Serves every millisecond."""
        end = self.now + ms / 1000
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 0.001)
            self.ear.advance(self.now)
            for name in self.ear.take_returned(self.now):
                self.playout.mark_returned(name, self.now)
            self.serve()

    def interrupt(self) -> tuple[HeardItem, ...]:
        cut = self.playout.interrupt(self.now)
        if cut.clear:
            self.ear.clear(self.now)
        return cut.items

    def heard_ms(self) -> float:
        """What the caller will have heard when an order sent now takes effect."""
        snapshot: list[int] = []
        self.ear.look(self.now, lambda: snapshot.append(len(self.ear.heard)))
        self.ear.advance(self.now + self.ear.there_s)
        return snapshot[0] / 8


def test_heard_is_exact_when_twilio_is_near() -> None:
    line = Line()
    line.say("a", 5000)
    line.wait(1234)
    assert line.interrupt() == (HeardItem("a", 1234),)


def test_heard_is_right_when_all_audio_has_already_left() -> None:
    line = Line()
    line.say("a", 1000)
    line.wait(900)
    assert line.playout.pacer.queued_bytes == 0
    assert line.interrupt() == (HeardItem("a", 900),)


def test_items_are_told_apart_also_when_several_wait() -> None:
    line = Line()
    line.say("a", 300)
    line.say("b", 500)
    line.say("c", 700)
    line.wait(400)
    assert line.interrupt() == (HeardItem("b", 100), HeardItem("c", 0))


def test_an_item_that_was_heard_to_its_end_is_not_cut_off() -> None:
    line = Line()
    line.say("a", 1000)
    line.wait(1001)
    assert line.interrupt() == ()


def test_filling_silence_is_not_counted_as_heard_speech() -> None:
    line = Line()
    line.say("a", 105)
    line.say("b", 1000)
    line.wait(300)
    # "a" left with its last frame filled before "b" came
    assert line.interrupt() == (HeardItem("b", 300 - 120),)


def test_a_second_interruption_at_once_finds_nothing() -> None:
    line = Line()
    line.say("a", 1000)
    line.wait(500)
    assert line.playout.interrupt(line.now).clear
    second = line.playout.interrupt(line.now)
    assert not second.clear
    assert second.items == ()


def test_a_second_interruption_soon_after_counts_from_the_new_beginning() -> None:
    line = Line(there_s=0.03, back_s=0.03)
    line.say("a", 3000)
    line.wait(700)
    assert line.interrupt() == (HeardItem("a", 700),)
    line.say("b", 3000)
    line.wait(50)
    assert line.interrupt() == (HeardItem("b", 50),)


def test_marks_returned_after_a_clear_count_as_flushed() -> None:
    line = Line(there_s=0.02, back_s=0.02)
    line.say("a", 1000)
    line.wait(500)
    line.interrupt()
    flying = line.playout.ledger.counts.marks_sent - line.playout.ledger.counts.marks_played
    assert flying > 0
    line.say("b", 1000)
    line.wait(100)
    counts = line.playout.ledger.counts
    assert counts.marks_flushed == flying
    assert counts.marks_unknown == 0
    assert line.interrupt() == (HeardItem("b", 100),)


def test_marks_that_were_never_sent_change_nothing() -> None:
    line = Line()
    line.say("a", 1000)
    line.wait(100)
    for name in ("", "x", "0:99999", "0:", ":", "hello:5"):
        line.playout.mark_returned(name, line.now)
    assert line.playout.ledger.counts.marks_unknown >= 4
    assert line.interrupt() == (HeardItem("a", 100),)


def test_a_mark_returned_twice_counts_once() -> None:
    ledger = PlaybackLedger()
    ledger.queued("a", 160)
    ledger.sent(160, 0, 1.0, starts_spurt=True)
    name = ledger.maybe_mark(at_end=True)
    assert name is not None
    ledger.mark_returned(name, 1.02)
    ledger.mark_returned(name, 1.03)
    assert (ledger.counts.marks_played, ledger.counts.marks_unknown) == (1, 1)


@pytest.mark.parametrize(("there_ms", "back_ms"), [(0, 0), (10, 40), (80, 5), (150, 150)])
@pytest.mark.parametrize("start_ms", [0, 20, 60])
def test_the_ways_there_and_back_and_twilios_own_delay_do_not_count(there_ms: int, back_ms: int, start_ms: int) -> None:
    line = Line(there_s=there_ms / 1000, back_s=back_ms / 1000, start_s=start_ms / 1000)
    line.say("a", 9000)
    line.wait(4321)
    ((_, heard_ms),) = line.playout.ledger.interrupt(line.now)
    assert heard_ms == pytest.approx(line.heard_ms(), abs=1.5)


def test_without_a_ping_the_model_alone_tells() -> None:
    line = Line(there_s=0.05, back_s=0.05, ping=False)
    line.say("a", 3000)
    line.wait(1000)
    assert line.interrupt() == (HeardItem("a", 1000),)


def test_one_mark_held_up_on_its_way_does_not_mislead() -> None:
    line = Line(there_s=0.01, back_s=0.01)
    line.say("a", 9000)
    line.wait(1400)
    line.ear.back_s = 0.2
    line.wait(550)  # the mark behind 1520 ms came back late, and none after it
    truth_ms = line.heard_ms()
    ((_, heard_ms),) = line.interrupt()
    assert heard_ms == pytest.approx(truth_ms, abs=1.5)


def test_a_short_pause_between_two_items_is_not_counted_as_heard() -> None:
    line = Line(ping=False)
    line.say("a", 100)
    line.wait(115)
    line.say("b", 1000)
    line.wait(300)
    assert line.interrupt() == (HeardItem("b", 300),)


def test_a_stall_of_the_network_is_noticed_within_a_few_marks() -> None:
    line = Line(there_s=0.01, back_s=0.01)
    line.say("a", 20_000)
    line.wait(3000)
    # 600 ms in which nothing gets through: Twilio runs dry, plays on later, and we see nothing of it
    line.ear.there_s = 0.61
    line.wait(20)
    line.ear.there_s = 0.59
    line.wait(20)
    for there_ms in range(570, 0, -20):
        line.ear.there_s = max(0.01, there_ms / 1000)
        line.wait(20)
    line.wait(3000)
    truth_ms = line.heard_ms()
    ((_, heard_ms),) = line.interrupt()
    assert truth_ms < 6600
    assert heard_ms == pytest.approx(truth_ms, abs=2)


def test_what_was_heard_never_shrinks_when_a_new_spurt_begins() -> None:
    line = Line()
    line.say("a", 20, complete=False)
    line.wait(100)
    line.say("a", 20)
    assert line.interrupt() == (HeardItem("a", 20),)


def test_a_twilio_that_stands_still_is_not_believed_to_play() -> None:
    line = Line()
    line.say("a", 5000)
    line.wait(100)
    heard_at_last_mark = 20
    for _ in range(1000):  # a second in which frames leave and no mark returns
        line.now += 0.001
        line.serve()
    ((_, heard_ms),) = line.interrupt()
    assert heard_at_last_mark <= heard_ms <= 520


def test_marks_that_never_return_are_bounded() -> None:
    ledger = PlaybackLedger()
    names = []
    for n in range(PENDING_LIMIT + 50):
        ledger.queued("a", 160)
        ledger.sent(160, 0, float(n), starts_spurt=True)
        names.append(ledger.maybe_mark(at_end=True))
    assert sum(name is not None for name in names) == PENDING_LIMIT


def test_marks_follow_the_first_frame_every_half_second_and_the_end() -> None:
    playout = Playout(frame_ms=20, lead_ms=200)
    playout.play("a", bytes(8 * 1500), 0.0)
    playout.complete(0.0)
    orders, now = playout.advance(0.0), 0.0
    while (due_at := playout.due_at()) is not None:
        now = due_at
        orders += playout.advance(now)
    names = [order.name for order in orders if isinstance(order, SendMark)]
    assert names == ["0:160", "0:4160", "0:8160", "0:12000"]
    assert isinstance(orders[1], SendMark)
    assert isinstance(orders[-1], SendMark)


def test_an_interruption_before_anything_was_said_does_nothing() -> None:
    interruption = Playout().interrupt(1.0)
    assert not interruption.clear
    assert interruption.items == ()


def test_what_was_queued_and_not_sent_is_cut_off_unheard() -> None:
    playout = Playout()
    playout.play("a", bytes(100), 1.0)
    assert playout.advance(1.0) == []
    assert playout.interrupt(1.0).items == (HeardItem("a", 0),)


def test_the_call_plays_until_the_last_mark_is_back() -> None:
    line = Line(there_s=0.02, back_s=0.02)
    line.say("a", 400)
    line.wait(410)
    assert line.playout.is_playing(line.now)
    line.wait(40)
    assert not line.playout.is_playing(line.now)
    counts = line.playout.ledger.counts
    assert counts.marks_played == counts.marks_sent
