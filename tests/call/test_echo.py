"""The echo's turns, with speech of loud and quiet blocks."""

from __future__ import annotations

import random

import pytest

from engine.audio.g711 import ulaw_encode
from engine.call.echo import BLOCK_BYTES, ONSET_BLOCKS, PAUSE_BLOCKS, PHRASE_LIMIT_BYTES, EchoTurns, Turn

QUIET = b"\xff" * BLOCK_BYTES


def sound(amplitude: int) -> bytes:
    return ulaw_encode(b"".join(v.to_bytes(2, "little", signed=True) for v in (amplitude, -amplitude) * 80))


LOUD = sound(6000)


def turns_of(echo: EchoTurns, *blocks: bytes) -> list[tuple[Turn, bytes]]:
    return [turn for block in blocks for turn in echo.hear(block)]


def test_what_was_said_comes_back_after_the_pause() -> None:
    phrase = [bytes([n]) * 10 + LOUD[10:] for n in range(20)]
    turns = turns_of(EchoTurns(), *[QUIET] * 50, *phrase, *[QUIET] * PAUSE_BLOCKS)
    assert [turn for turn, _ in turns] == [Turn.STARTED, Turn.ENDED]
    assert b"".join(phrase) in turns[1][1]


def test_what_was_said_before_the_onset_was_noticed_is_kept() -> None:
    soft = sound(200)
    turns = turns_of(EchoTurns(), *[QUIET] * 50, soft, soft, *[LOUD] * 5, *[QUIET] * PAUSE_BLOCKS)
    assert (soft * 2 + LOUD * 5) in turns[1][1]
    assert len(turns[1][1]) < 22 * BLOCK_BYTES


def test_the_pause_that_ended_a_phrase_is_not_played_back() -> None:
    turns = turns_of(EchoTurns(), *[LOUD] * 10, *[QUIET] * PAUSE_BLOCKS)
    assert turns[1][1] == LOUD * 10 + QUIET * 5


def test_a_click_is_no_turn() -> None:
    assert turns_of(EchoTurns(), QUIET, *[LOUD] * (ONSET_BLOCKS - 1), *[QUIET] * 100) == []


def test_noise_of_the_line_is_no_turn() -> None:
    assert turns_of(EchoTurns(), *[sound(100)] * 200) == []


def test_a_short_pause_does_not_end_a_phrase() -> None:
    turns = turns_of(EchoTurns(), *[LOUD] * 5, *[QUIET] * (PAUSE_BLOCKS - 1), *[LOUD] * 5, *[QUIET] * PAUSE_BLOCKS)
    assert [turn for turn, _ in turns] == [Turn.STARTED, Turn.ENDED]
    assert turns[1][1].count(LOUD) == 10


def test_two_phrases_do_not_mix() -> None:
    first, second = sound(5000), sound(9000)
    turns = turns_of(EchoTurns(), *[first] * 9, *[QUIET] * 60, *[second] * 9, *[QUIET] * 60)
    phrases = [phrase for turn, phrase in turns if turn is Turn.ENDED]
    assert [phrase.count(first) for phrase in phrases] == [9, 0]
    assert [phrase.count(second) for phrase in phrases] == [0, 9]


def test_a_caller_who_never_pauses_is_remembered_for_thirty_seconds() -> None:
    echo = EchoTurns()
    turns = turns_of(echo, *[LOUD] * (PHRASE_LIMIT_BYTES // BLOCK_BYTES + 500), *[QUIET] * PAUSE_BLOCKS)
    assert len(turns) == 2
    assert PHRASE_LIMIT_BYTES - PAUSE_BLOCKS * BLOCK_BYTES <= len(turns[1][1]) <= PHRASE_LIMIT_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_the_pieces_it_comes_in_do_not_matter(seed: int) -> None:
    random_source = random.Random(seed)
    audio = (QUIET * 20 + LOUD * 15 + QUIET * 40) * 3
    echo, turns, place = EchoTurns(), [], 0
    while place < len(audio):
        length = random_source.randint(1, 700)
        turns += echo.hear(audio[place : place + length])
        place += length
    assert turns == EchoTurns().hear(audio)
    assert len(turns) == 6
