"""The ways to time frames that are compared: the engine's clock, mover and pacer, and Trio's own timers in each call.

Each way sends the frames of all calls of a `Pacing`, as WebSocket messages for Twilio, in a Trio run of its own. A stall
blocks the whole process, as a collection or a slow callback does.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import trio

from benchmarks.codec.contenders import open_websocket, started_stream
from benchmarks.pacer.calls import Heard, Pacing, hear
from benchmarks.pacer.ear import Ear
from engine.call.pacer import BYTES_PER_MS, FramePacer
from engine.runtime.clock import open_clock
from engine.runtime.leg import CARRIER, Leg
from engine.runtime.mover import Mover

# Calls begin within this time, and the measurement after it.
_SETTLING_S: Final = 0.5
_FRAME_LIMIT_BYTES: Final = 1 << 16
# What an ear holds, generously: about 300 sends.
LONGEST_S: Final = 4.5


class Measured:
    """What one way did to all callers."""

    def __init__(self, calls: list[Heard], cpu_ms_per_call_second: float) -> None:
        self.late_ms = sorted(late for call in calls for late in call.late_ms)
        self.gap_ms = sorted(gap for call in calls for gap in call.gap_ms)
        self.rebuilt_ms = sorted(rebuilt for call in calls for rebuilt in call.rebuilt_ms)
        self.never_rebuilt = sum(call.never_rebuilt for call in calls)
        self.cpu_ms_per_call_second = cpu_ms_per_call_second


Way = Callable[[Pacing], Awaitable[Measured]]


@contextmanager
def _ears(pacing: Pacing) -> Iterator[list[Ear]]:
    ears: list[Ear] = []
    try:
        ears.extend(Ear() for _ in range(pacing.calls))
        yield ears
    finally:
        for ear in ears:
            ear.close()


async def _observe(pacing: Pacing, ears: list[Ear]) -> Measured:
    """Measure running calls, with stalls; gives what their callers heard."""
    await trio.sleep(_SETTLING_S)
    began_at, cpu_before_s = time.monotonic(), time.process_time()
    stalls_ended_at = []
    step_s = pacing.seconds / (len(pacing.stalls_ms) + 1)
    for stall_ms in pacing.stalls_ms:
        await trio.sleep(step_s)
        time.sleep(stall_ms / 1000)  # noqa: ASYNC251  blocking is the point
        stalls_ended_at.append(time.monotonic())
    await trio.sleep(step_s)
    cpu_s, elapsed_s = time.process_time() - cpu_before_s, time.monotonic() - began_at
    message_bytes = len(_make_frame(pacing)(bytes(pacing.frame_ms * BYTES_PER_MS)))
    heard = [
        hear(
            [(at, size // message_bytes) for at, size in ear.read()],
            pacing,
            measured_from=began_at,
            stalls_ended_at=stalls_ended_at,
        )
        for ear in ears
    ]
    return Measured(heard, cpu_s * 1000 / (pacing.calls * elapsed_s))


def _make_frame(_pacing: Pacing) -> Callable[[bytes], bytes]:
    stream, websocket = started_stream(), open_websocket()
    return lambda ulaw: bytes(websocket.text(stream.send_media(ulaw)))


def _start_offset_s(number: int, pacing: Pacing) -> float:
    return number / pacing.calls * pacing.frame_ms / 1000


def _audio(pacing: Pacing) -> bytes:
    """More than will be played; no byte of it is silence."""
    needed_ms = (pacing.seconds + _SETTLING_S + 2) * 1000 + sum(pacing.stalls_ms) + pacing.lead_ms
    return bytes(range(1, 251)) * (int(needed_ms * BYTES_PER_MS) // 250 + 1)


class _Line:
    """A carrier's socket as the mover sees it: nothing arrives, and everything sent is taken."""

    def __init__(self, ear: Ear, pacing: Pacing) -> None:
        self.fd: int | None = ear.mouth.fileno()
        self.is_direct = True
        self.side = CARRIER
        self.frame_limit_bytes = _FRAME_LIMIT_BYTES
        self._pacer = FramePacer(frame_ms=pacing.frame_ms, lead_ms=pacing.lead_ms)
        self._leg: Leg | None = None

    def begin(self, mover: Mover, audio: bytes) -> None:
        """Start playing."""
        stream = started_stream()
        leg = mover.attach(self)
        leg.begin_stream(stream.stream_sid, stream.media_head, self._pacer)
        self._leg, self._mover = leg, mover
        self._pacer.push(audio, mover.clock.now())
        self.mark_wanted()

    def mark_wanted(self) -> None:
        """Marks are left out: say that they need not be sent."""
        assert self._leg is not None
        self._pacer.marked()
        self._pacer.take_runs()
        while self._mover.send_due(self, self._leg, self._mover.clock.now()):
            self._pacer.marked()
            self._pacer.take_runs()
        self._mover.expect(self._pacer.due_at())

    def read_nowait(self) -> bytes | None:
        """Nothing."""
        return None

    def take_unsent(self, data: bytes) -> None:
        """Fail: what follows would not be measured."""
        raise RuntimeError("an ear was full: measure for a shorter time")

    def take_failure(self, error_number: int) -> None:
        """Fail."""
        raise OSError(error_number, "a frame could not be sent")

    def crash(self, error: Exception) -> None:
        """Fail."""
        raise error

    def _refuse(self, *_anything: Any) -> None:
        raise AssertionError("nothing can arrive, and no frame is sent by other means")

    take_bytes = take_delta = send_frame_nowait = _refuse


async def by_mover(pacing: Pacing) -> Measured:
    """The engine: one timer for the process, one pass for all calls."""
    clock = open_clock()
    audio = _audio(pacing)
    with _ears(pacing) as ears:
        try:
            mover = Mover(clock)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mover.run)
                await trio.lowlevel.checkpoint()
                for number, ear in enumerate(ears):
                    # a nearly even spread over one frame, as calls have
                    await trio.sleep(_start_offset_s(1, pacing) if number else 0)
                    _Line(ear, pacing).begin(mover, audio)
                measured = await _observe(pacing, ears)
                nursery.cancel_scope.cancel()
            return measured
        finally:
            clock.close()


async def by_sleep_until(pacing: Pacing) -> Measured:
    """A task for each call that sleeps until its pacer's next frame is due."""
    audio, first_at = _audio(pacing), trio.current_time() + 0.01

    async def play(number: int, ear: Ear) -> None:
        pacer, make_frame = FramePacer(frame_ms=pacing.frame_ms, lead_ms=pacing.lead_ms), _make_frame(pacing)
        await trio.sleep_until(first_at + _start_offset_s(number, pacing))
        pacer.push(audio, trio.current_time())
        while True:
            while (frame := pacer.take(trio.current_time())) is not None:
                ear.mouth.send(make_frame(frame.ulaw))
            due_at = pacer.due_at()
            assert due_at is not None
            await trio.sleep_until(due_at)

    return await _play_and_observe(pacing, play)


async def by_sleep(pacing: Pacing) -> Measured:
    """A task for each call that sends a frame and sleeps for its length: each delay moves all that follows."""
    ulaw = _audio(pacing)[: pacing.frame_ms * BYTES_PER_MS]
    first_at = trio.current_time() + 0.01

    async def play(number: int, ear: Ear) -> None:
        make_frame = _make_frame(pacing)
        await trio.sleep_until(first_at + _start_offset_s(number, pacing))
        for _ in range(pacing.lead_ms // pacing.frame_ms):
            ear.mouth.send(make_frame(ulaw))
        while True:
            ear.mouth.send(make_frame(ulaw))
            await trio.sleep(pacing.frame_ms / 1000)

    return await _play_and_observe(pacing, play)


async def _play_and_observe(pacing: Pacing, play: Callable[[int, Ear], Awaitable[None]]) -> Measured:
    with _ears(pacing) as ears:
        async with trio.open_nursery() as nursery:
            for number, ear in enumerate(ears):
                nursery.start_soon(play, number, ear)
            measured = await _observe(pacing, ears)
            nursery.cancel_scope.cancel()
        return measured


WAYS: Final[Mapping[str, Way]] = MappingProxyType(
    {
        "engine: clock and mover": by_mover,
        "trio.sleep_until per call": by_sleep_until,
        "trio.sleep per frame": by_sleep,
    }
)
