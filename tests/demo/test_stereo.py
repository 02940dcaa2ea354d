"""The stereo recording: every sample where it was said or heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audio.g711 import ulaw_decode, ulaw_encode
from engine.demo.account import Account
from engine.demo.stereo import call_tracks, place_chunks, stereo_wav
from engine.simulator.record import Chunk

LOUD = ulaw_encode(np.full(160, 8000, dtype=np.int16))


def test_a_chunk_stands_at_its_time_to_the_sample() -> None:
    track = place_chunks([Chunk(10.0125, LOUD)], origin_s=10.0, length_samples=400)
    assert np.flatnonzero(track).tolist() == list(range(100, 260))


def test_a_millisecond_of_scheduling_makes_no_seam() -> None:
    chunks = [Chunk(0.0, LOUD), Chunk(0.0213, LOUD), Chunk(0.0391, LOUD)]
    track = place_chunks(chunks, origin_s=0.0, length_samples=600)
    assert np.flatnonzero(track).tolist() == list(range(480))


def test_a_real_pause_stays_a_pause() -> None:
    track = place_chunks([Chunk(0.0, LOUD), Chunk(0.060, LOUD)], origin_s=0.0, length_samples=700)
    assert np.flatnonzero(track).tolist() == [*range(160), *range(480, 640)]


@given(st.floats(-0.05, 0.15), st.integers(1, 1000))
def test_what_falls_outside_is_cut_and_nothing_else(at_s: float, length: int) -> None:
    track = place_chunks([Chunk(at_s, LOUD)], origin_s=0.0, length_samples=length)
    start = round(at_s * 8000)
    assert np.flatnonzero(track).tolist() == [index for index in range(start, start + 160) if 0 <= index < length]


def test_the_interrupted_reply_ends_where_the_buffer_was_cleared(account: Account) -> None:
    _, agent = call_tracks(account.record)
    clear = next(event.at_s for event in account.record.events if event.kind == "clear")
    index = round((clear - account.record.started_at_s) * 8000)
    assert np.abs(agent[index - 800 : index].astype(int)).max() > 1000
    assert not agent[index + 8 : index + 8000].any()


def test_the_caller_is_left_and_the_agent_right() -> None:
    caller, agent = np.array([1, 2], dtype=np.int16), np.array([-3, -4], dtype=np.int16)
    wav = stereo_wav(caller, agent)
    assert (wav.sample_rate_hz, wav.channels) == (8000, 2)
    assert np.frombuffer(wav.pcm, dtype="<i2").tolist() == [1, -3, 2, -4]


def test_tracks_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 samples"):
        stereo_wav(np.zeros(3, dtype=np.int16), np.zeros(2, dtype=np.int16))


def test_the_callers_track_is_what_was_sent(account: Account) -> None:
    caller, agent = call_tracks(account.record)
    assert caller.size == agent.size
    sent = np.frombuffer(ulaw_decode(b"".join(chunk.ulaw for chunk in account.record.caller)), dtype="<i2")
    assert np.array_equal(caller[: sent.size], sent[: caller.size])
