"""The call as a stereo recording: caller on the left, agent on the right.

The caller's audio stands where the telephone sent it; the agent's where it was truly heard, silence wherever nothing was
playing. Owns placement only: a chunk's first sample lands on ``round((at_s - origin_s) * 8000)``, or follows the chunk
before it without a seam; nothing is resampled or mixed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from engine.audio.g711 import ulaw_decode
from engine.audio.wav import Wav
from engine.simulator.record import CallRecord, Chunk

SAMPLE_RATE_HZ = 8000
Samples = npt.NDArray[np.int16]

# Chunks are stamped when a task noticed them. A chunk this close to the end of the one before it continues it without a
# seam, so that a millisecond of scheduling does not become a click in the recording.
SEAM_S = 0.015


def place_chunks(chunks: Iterable[Chunk], *, origin_s: float, length_samples: int) -> Samples:
    """Lays mu-law chunks on a silent track.

    Args:
        chunks: In order of time; each 8000 Hz mono mu-law. What falls outside the track is cut off.
        origin_s: The time of the track's first sample.
        length_samples: How long the track is.

    Returns:
        int16, shape ``(length_samples,)``.
    """
    track = np.zeros(length_samples, dtype=np.int16)
    end = -SAMPLE_RATE_HZ
    for chunk in chunks:
        start = round((chunk.at_s - origin_s) * SAMPLE_RATE_HZ)
        if abs(start - end) <= SEAM_S * SAMPLE_RATE_HZ:
            start = end
        end = start + len(chunk.ulaw)
        samples = np.frombuffer(ulaw_decode(chunk.ulaw), dtype="<i2")
        first, last = max(start, 0), min(end, length_samples)
        if first < last:
            track[first:last] = samples[first - start : last - start]
    return track


def call_tracks(record: CallRecord) -> tuple[Samples, Samples]:
    """The caller's and the agent's track, from the stream's start to the call's end.

    Returns:
        Two int16 arrays of equal length, 8000 Hz.
    """
    length = max(1, round((record.ended_at_s - record.started_at_s) * SAMPLE_RATE_HZ))
    caller = place_chunks(record.caller, origin_s=record.started_at_s, length_samples=length)
    agent = place_chunks(record.played, origin_s=record.started_at_s, length_samples=length)
    return caller, agent


def stereo_wav(caller: Samples, agent: Samples) -> Wav:
    """Two tracks of equal length as one sound: caller left, agent right, int16 little-endian interleaved.

    Raises:
        ValueError: The tracks differ in length.
    """
    if caller.shape != agent.shape:
        raise ValueError(f"the tracks differ in length: {caller.size} and {agent.size} samples")
    interleaved = np.stack([caller, agent], axis=1).astype("<i2")
    return Wav(sample_rate_hz=SAMPLE_RATE_HZ, channels=2, pcm=interleaved.tobytes())
