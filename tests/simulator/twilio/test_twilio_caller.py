"""The caller's schedule, cues, sounds and faults, without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audio.g711 import ulaw_decode
from engine.simulator.record import Chunk
from engine.simulator.twilio.caller import Action, Caller, CueMissed, EndCall, PressKey, SpeechBegan, SpeechEnded
from engine.simulator.twilio.faults import Faults, FaultyLine
from engine.simulator.twilio.schedule import FrameSchedule
from engine.simulator.twilio.script import After, AgentSilent, AgentSpeaking, At, Dtmf, HangUp, Say, Script, Wait
from engine.simulator.twilio.sound import (
    SILENT_FRAME,
    RecordedAudio,
    RepeatedAudio,
    is_audible,
    silence,
    sound_from_pcm,
    tone,
)

WORD = RecordedAudio(bytes(range(1, 161)) * 2)
LOUD = tone(440, 20).ulaw


def run(
    caller: Caller, frames: int, *, began_s: float = 100.0, first: int = 0
) -> list[tuple[int, bytes, list[Action]]]:
    """Asks for frames 20 ms apart; gives (ms, frame, actions) of each."""
    return [(n * 20, *caller.next_frame(began_s + n * 0.020)) for n in range(first, first + frames)]


def when(frames: list[tuple[int, bytes, list[Action]]], action: Action) -> list[int]:
    return [at_ms for at_ms, _, actions in frames for found in actions if found == action]


def test_a_caller_without_a_script_sends_silence() -> None:
    assert [frame for _, frame, _ in run(Caller([], 100.0), 5)] == [SILENT_FRAME] * 5


def test_a_word_is_said_whole_and_followed_by_silence() -> None:
    frames = run(Caller([[Say(WORD, when=After(ms=40))]], 100.0), 6)
    assert b"".join(frame for _, frame, _ in frames) == SILENT_FRAME * 2 + WORD.ulaw + SILENT_FRAME * 2
    assert (when(frames, SpeechBegan()), when(frames, SpeechEnded())) == ([40], [80])


def test_words_follow_each_other_without_a_gap() -> None:
    frames = run(Caller([[Say(WORD), Say(WORD)]], 100.0), 5)
    assert b"".join(frame for _, frame, _ in frames) == WORD.ulaw * 2 + SILENT_FRAME


def test_keys_are_pressed_one_after_the_other_beside_the_words() -> None:
    scripts: list[Script] = [[Say(WORD)], [Dtmf("12", when=At(ms=20), gap_ms=60), HangUp(when=After(ms=20))]]
    frames = run(Caller(scripts, 100.0), 8)
    assert (when(frames, PressKey("1")), when(frames, PressKey("2")), when(frames, EndCall())) == ([20], [80], [100])
    assert frames[1][1] == WORD.ulaw[160:]


def test_a_second_voice_waits_for_the_mouth_to_be_free() -> None:
    frames = run(Caller([[Say(WORD)], [Say(WORD)]], 100.0), 5)
    assert b"".join(frame for _, frame, _ in frames) == WORD.ulaw * 2 + SILENT_FRAME


def test_the_caller_answers_when_the_agent_has_been_silent_long_enough() -> None:
    caller = Caller([[HangUp(when=AgentSilent(ms=100))]], 100.0)
    assert when(run(caller, 10), EndCall()) == []  # it has not been heard yet
    caller.hear([Chunk(100.2, LOUD * 5), Chunk(100.3, b"\xff" * 800)])  # 100 ms of voice, then silence
    assert when(run(caller, 10, first=15), EndCall()) == [400]


def test_the_caller_interrupts_some_time_after_the_agent_began() -> None:
    caller = Caller([[HangUp(when=AgentSpeaking(ms=60))]], 100.0)
    caller.hear([Chunk(100.0, LOUD)])
    assert when(run(caller, 3), EndCall()) == []
    caller.hear([Chunk(100.02, LOUD * 2)])
    assert when(run(caller, 1, first=3), EndCall()) == [60]


def test_pauses_within_a_sentence_do_not_begin_a_new_talk_spurt() -> None:
    caller = Caller([[HangUp(when=AgentSpeaking(ms=400))]], 100.0)
    caller.hear([Chunk(100.0, LOUD), Chunk(100.3, LOUD)])
    assert when(run(caller, 1, first=20), EndCall()) == [400]


def test_a_cue_that_never_comes_is_given_up() -> None:
    frames = run(Caller([[Wait(AgentSpeaking(within_ms=60)), HangUp()]], 100.0), 4)
    assert (when(frames, CueMissed("Wait")), when(frames, EndCall())) == ([60], [60])


def test_a_step_added_later_counts_from_then() -> None:
    caller = Caller([], 100.0)
    run(caller, 5)
    caller.perform(HangUp(when=After(ms=40)), 100.1)
    assert when(run(caller, 5, first=5), EndCall()) == [140]


@pytest.mark.parametrize("digits", ["", "12x", "1 2"])
def test_keys_that_no_telephone_has_are_refused(digits: str) -> None:
    with pytest.raises(ValueError, match="not keys"):
        Dtmf(digits)


def test_the_schedule_keeps_its_origin_and_counts_lateness() -> None:
    schedule = FrameSchedule(50.0)
    assert [schedule.leave(now) for now in (50.0, 50.075, 50.075, 50.0751)] == pytest.approx(
        [0, 55, 35, 15.1], abs=1e-6
    )
    assert schedule.next_due_s == pytest.approx(50.080)
    assert (schedule.frames_late, schedule.late_max_ms) == (3, pytest.approx(55))


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_the_schedule_never_drifts_however_late_it_is_served(delays_s: list[float]) -> None:
    schedule, now = FrameSchedule(1e6), 1e6
    for delay_s in delays_s:
        now = max(now, schedule.next_due_s) + delay_s
        assert schedule.due(now)
        schedule.leave(now)
    assert schedule.next_due_s == pytest.approx(1e6 + len(delays_s) * 0.020, abs=1e-6)


def test_gaps_lose_the_frames_of_their_time() -> None:
    line = FaultyLine(Faults(gap_every_ms=100, gap_ms=40))
    out = [line.carry(n * 20, bytes([n])) for n in range(12)]
    assert [n for n, frames in enumerate(out) if frames == (None,)] == [5, 6, 10, 11]


def test_bunched_frames_are_held_and_leave_together_in_order() -> None:
    line = FaultyLine(Faults(bunch_every_ms=100, bunch_ms=60))
    out = [line.carry(n * 20, bytes([n])) for n in range(9)]
    assert [len(frames) for frames in out] == [1, 1, 1, 1, 1, 0, 0, 0, 4]
    assert out[8] == (b"\x05", b"\x06", b"\x07", b"\x08")


def test_the_playout_delay_is_drawn_the_same_from_the_same_seed() -> None:
    faults = Faults(playout_start_ms=(20, 200), seed=7)
    assert faults.draw_playout_start_ms() == faults.draw_playout_start_ms()
    assert 20 <= faults.draw_playout_start_ms() <= 200


def test_sounds_are_cut_into_frames_and_the_last_is_padded_with_silence() -> None:
    assert list(RecordedAudio(b"\x01" * 200).frames()) == [b"\x01" * 160, b"\x01" * 40 + b"\xff" * 120]


def test_a_repeated_sound_has_a_pause_in_between() -> None:
    frames = RepeatedAudio(WORD, pause_ms=20).frames()
    assert b"".join(next(frames) for _ in range(5)) == WORD.ulaw + SILENT_FRAME + WORD.ulaw


def test_a_sound_of_another_rate_keeps_its_duration() -> None:
    assert sound_from_pcm(bytes(2 * 24_000), sample_rate_hz=24_000).duration_ms == 1000


def test_voice_is_audible_and_line_noise_is_not() -> None:
    assert is_audible(LOUD)
    assert not is_audible(silence(20).ulaw)
    assert not is_audible(tone(440, 20, level=0.005).ulaw)
    assert max(abs(int.from_bytes(ulaw_decode(b"\xff\x7f")[n : n + 2], "little")) for n in (0, 2)) == 0
