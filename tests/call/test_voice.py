"""The provider's audio format turned into the telephone's, and back."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.g711 import ulaw_decode, ulaw_encode
from engine.call.voice import PassThroughVoice, TranscodedVoice, make_voice


def tone(samples: int, hz: float, rate_hz: int) -> bytes:
    return b"".join(struct.pack("<h", round(9000 * math.sin(2 * math.pi * hz * n / rate_hz))) for n in range(samples))


def level(pcm: bytes) -> float:
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


def test_each_setting_has_its_voice() -> None:
    assert isinstance(make_voice("pcmu"), PassThroughVoice)
    assert isinstance(make_voice("pcm24k"), TranscodedVoice)


def test_mulaw_passes_through_byte_for_byte() -> None:
    voice = PassThroughVoice()
    assert voice.hear("a", bytes(range(256))) == bytes(range(256))
    assert voice.finish("a") == b""
    assert json.loads(voice.append("//8=", b"\xff\xff")) == {"type": "input_audio_buffer.append", "audio": "//8="}
    assert [voice.length_ms(n) for n in (0, 7, 8, 15, 16)] == [0, 0, 1, 1, 2]


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 4000), odd=st.booleans(), cuts=st.lists(st.integers(1, 1500), min_size=1, max_size=12))
def test_an_item_is_as_long_on_the_telephone_however_it_is_cut(samples: int, odd: bool, cuts: list[int]) -> None:
    audio = tone(samples, 440, 24000) + (b"\x07" if odd else b"")
    voice, ulaw, place, turn = TranscodedVoice(), b"", 0, 0
    while place < len(audio):
        length = cuts[turn % len(cuts)]
        ulaw += voice.hear("a", audio[place : place + length])
        place, turn = place + length, turn + 1
    ulaw += voice.finish("a")
    whole = TranscodedVoice()
    assert len(ulaw) == round(samples / 3)
    assert ulaw == whole.hear("a", audio) + whole.finish("a")
    assert voice.length_ms(len(audio)) == len(audio) // 48


def test_a_tone_keeps_its_level_down_and_up() -> None:
    voice = TranscodedVoice()
    ulaw = voice.hear("a", tone(24000, 1000, 24000)) + voice.finish("a")
    assert level(ulaw_decode(ulaw)[800:-800]) == pytest.approx(9000 / math.sqrt(2), rel=0.02)
    event = json.loads(voice.append("", ulaw_encode(tone(8000, 1000, 8000))))
    pcm = base64.b64decode(event["audio"])
    assert 2 * 3 * 7900 <= len(pcm) <= 2 * 3 * 8000
    assert level(pcm[2400:-2400]) == pytest.approx(9000 / math.sqrt(2), rel=0.02)


def test_the_callers_audio_loses_nothing_from_piece_to_piece() -> None:
    voice, total = TranscodedVoice(), 0
    for _ in range(100):
        event = voice.append("", b"\xff" * 160)
        total += len(base64.b64decode(json.loads(event)["audio"])) if event else 0
    assert 100 * 960 - 200 <= total <= 100 * 960


def test_nothing_is_appended_while_the_filter_holds_everything_back() -> None:
    assert TranscodedVoice().append("", b"\xff") == b""


def test_an_item_begins_clean_after_one_that_was_never_finished() -> None:
    voice, fresh = TranscodedVoice(), TranscodedVoice()
    voice.hear("a", tone(999, 440, 24000) + b"\x01")
    assert voice.hear("b", tone(2400, 600, 24000)) == fresh.hear("b", tone(2400, 600, 24000))
    assert voice.finish("b") == fresh.finish("b")


def test_a_forgotten_item_leaves_nothing_behind() -> None:
    voice = TranscodedVoice()
    voice.hear("a", tone(999, 440, 24000) + b"\x01")
    voice.forget("a")
    assert voice.finish("a") == b""
    ulaw = voice.hear("b", bytes(4800)) + voice.finish("b")
    assert ulaw == b"\xff" * 800


def test_finishing_or_forgetting_another_item_changes_nothing() -> None:
    voice = TranscodedVoice()
    ulaw = voice.hear("a", bytes(4800))
    voice.forget("b")
    assert voice.finish("b") == b""
    assert len(ulaw + voice.finish("a")) == 800
