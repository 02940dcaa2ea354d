"""What the caller heard of each reply: the provider's audio found again in what the telephone played.

Telephone audio passes through the engine untouched, so a reply can be recognised byte for byte in the played audio: the
truth about hearing comes from the samples themselves and from no one's bookkeeping. Assumes mu-law on both sides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from engine.demo.account import Reply
from engine.simulator.record import Chunk

# 100 ms of speech are enough to recognise a reply by; less than that played counts as not heard.
_SIGNATURE_BYTES = 800
_BYTES_PER_S = 8000


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """The part of one reply that was played to the caller, from `started_at_s` to `ended_at_s`."""

    reply: Reply
    started_at_s: float
    ended_at_s: float
    heard_ms: float

    @property
    def whole(self) -> bool:
        """Whether the caller heard it to the end."""
        return self.heard_ms >= self.reply.audio_ms


class _Playback:
    """The played chunks as one string of bytes, with the time of every byte."""

    def __init__(self, played: Sequence[Chunk]) -> None:
        self._chunks = played
        self._starts = [0, *accumulate(len(chunk.ulaw) for chunk in played)]
        self.ulaw = b"".join(chunk.ulaw for chunk in played)

    def index_at(self, at_s: float) -> int:
        """How many bytes had begun to play before a time."""
        return self._starts[bisect_left(self._chunks, at_s, key=lambda chunk: chunk.at_s)]

    def time_of(self, index: int) -> float:
        """When the byte at `index` began to play."""
        number = bisect_right(self._starts, index, hi=len(self._chunks)) - 1
        return self._chunks[number].at_s + (index - self._starts[number]) / _BYTES_PER_S


def trace_replies(
    played: Sequence[Chunk], replies: Sequence[Reply], cleared_at_s: Sequence[float] = ()
) -> tuple[Hearing, ...]:
    """Finds each reply in what was played, in order.

    Args:
        played: What the caller heard, in order.
        replies: What the provider sent, in order.
        cleared_at_s: When the playout was emptied; no reply goes on behind that. (A reply cut in a pause would otherwise
            seem to go on into the next one, which begins with the same silence.)

    Returns:
        One `Hearing` for each reply of which at least 100 ms (or all) were played.
    """
    playback = _Playback(played)
    hearings, position = [], 0
    for reply in replies:
        found = playback.ulaw.find(reply.audio[:_SIGNATURE_BYTES], position) if reply.audio else -1
        if found < 0:
            continue
        cuts = [cut for cut in map(playback.index_at, cleared_at_s) if cut > found]
        length = _common_length(playback.ulaw[: min(cuts, default=None)], found, reply.audio)
        position = found + length
        hearings.append(
            Hearing(
                reply=reply,
                started_at_s=playback.time_of(found),
                ended_at_s=playback.time_of(position - 1) + 1 / _BYTES_PER_S,
                heard_ms=length / 8,
            )
        )
    return tuple(hearings)


def _common_length(played: bytes, start: int, audio: bytes) -> int:
    """How many bytes of `audio` stand in `played` from `start` on."""
    heard = played[start : start + len(audio)]
    if audio.startswith(heard):
        return len(heard)
    return next(index for index, (one, other) in enumerate(zip(heard, audio, strict=False)) if one != other)
