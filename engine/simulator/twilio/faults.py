"""Faults of the line between the caller and the server, on request and repeatable.

Owns the decision which frames are lost, held back, or let go at once, and how long playout and marks lag. Sans-IO, and
random only through a seed: the same faults hit the same frames in every run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong in a call; the defaults are a perfect line.

    Attributes:
        gap_every_ms: A gap begins this often; None for never. Its frames are lost and the timestamps jump.
        gap_ms: How long each gap is.
        bunch_every_ms: Frames begin to be held back this often; None for never.
        bunch_ms: For how long; then all of them are sent at once.
        drop_at_ms: The TCP connection breaks this long after the stream's start, without `stop`; None for never.
        mark_delay_ms: Marks are returned this much late.
        playout_start_ms: Least and most time that audio waits before it plays when the buffer was dry; drawn once per
            call.
        hostile_every_ms: A message that Twilio never sends (see `hostile_messages`) goes out this often; None for
            never.
        seed: Seed of what is random.
    """

    gap_every_ms: float | None = None
    gap_ms: float = 100.0
    bunch_every_ms: float | None = None
    bunch_ms: float = 200.0
    drop_at_ms: float | None = None
    mark_delay_ms: float = 0.0
    playout_start_ms: tuple[float, float] = (0.0, 0.0)
    hostile_every_ms: float | None = None
    seed: int = 0

    def draw_playout_start_ms(self) -> float:
        """Draws this call's playout delay."""
        return random.Random(self.seed).uniform(*self.playout_start_ms)


class FaultyLine:
    """The line that frames pass on their way to the server."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._held: deque[bytes] = deque()

    def carry(self, at_ms: float, frame: bytes) -> tuple[bytes | None, ...]:
        """Takes the frame that belongs to `at_ms` of the stream.

        Returns:
            The frames that leave now, oldest first; None stands for one that was lost.
        """
        if _is_inside(at_ms, self._faults.bunch_every_ms, self._faults.bunch_ms):
            self._held.append(frame)
            return ()
        lost = _is_inside(at_ms, self._faults.gap_every_ms, self._faults.gap_ms)
        frames = (*self._held, None if lost else frame)
        self._held.clear()
        return frames

    def drops(self, at_ms: float) -> bool:
        """Says whether the connection is broken by `at_ms`."""
        return self._faults.drop_at_ms is not None and at_ms >= self._faults.drop_at_ms


def _is_inside(at_ms: float, every_ms: float | None, length_ms: float) -> bool:
    # The first fault comes one period after the start, so that a call always begins well.
    return every_ms is not None and at_ms >= every_ms and at_ms % every_ms < length_ms


def hostile_messages(stream_sid: str) -> Iterator[str | bytes]:
    """Yields, without end, messages that Twilio never sends: a robust server ignores or refuses each and lives on."""
    other_sid = "MZ" + "0" * 32
    while True:
        yield "this is not JSON"
        yield '{"event":"unheard-of","streamSid":"' + stream_sid + '"}'
        yield '{"event":"media","streamSid":"' + stream_sid + '","sequenceNumber":"1"}'
        yield (
            '{"event":"media","media":{"track":"inbound","chunk":"1","timestamp":"0","payload":"%%%"},"streamSid":"'
            + (stream_sid + '","sequenceNumber":"1"}')
        )
        yield '{"event":"mark","sequenceNumber":"1","streamSid":"' + other_sid + '","mark":{"name":"never sent"}}'
        yield b"\x00\x01 a binary frame"
        yield "[" * 2000
        yield '{"event":"media","media":{"payload":"' + "/" * 32_768 + '"},"streamSid":"' + stream_sid + '"}'
