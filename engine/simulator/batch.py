"""Many simulated calls side by side, placed at a steady rate.

Owns the plan that the command line describes and its translation into calls: whom they dial, what the callers do, what
goes wrong. Calls start at absolute times, so a slow one delays no other. Every call ends by its own time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import trio

from engine.simulator.record import CallRecord
from engine.simulator.twilio import (
    AgentSilent,
    At,
    CallConfig,
    Dtmf,
    Faults,
    HangUp,
    RecordedAudio,
    RepeatedAudio,
    Say,
    Script,
    place_call,
)

# How long a caller without a time to hang up listens for a greeting, for an answer, and then stays on the line.
GREETING_WITHIN_MS = 3000
ANSWER_WITHIN_MS = 20_000
TURN_PAUSE_MS = 700
LAST_PAUSE_MS = 2000
# Goodbyes, webhooks and slow answers fit in here.
_TIME_LIMIT_MARGIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What to place.

    Attributes:
        url: A webhook or a media socket.
        sound: What each caller says.
        calls: How many calls.
        rate_cps: Calls started per second.
        seconds: The caller repeats the sound and hangs up after this many seconds of stream; None: it says the sound
            once, after the greeting, listens to the answer, and hangs up.
        digits: Keys to press, each group with the second of the stream at which it begins.
        auth_token: Signs everything; None signs nothing.
        parameters: Custom parameters of `start`, for a media socket.
        faults: What goes wrong; each call draws its own random part.
        strict: End a call at its first violation.
        allow_remote: Let calls leave this machine.
    """

    url: str
    sound: RecordedAudio
    calls: int = 1
    rate_cps: float = 5.0
    seconds: float | None = None
    digits: Sequence[tuple[float, str]] = ()
    auth_token: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    strict: bool = False
    allow_remote: bool = False


def scripts_of(plan: BatchPlan) -> list[Script]:
    """Writes down what each caller does, one script for each thing done side by side."""
    keys: list[Script] = [[Dtmf(digits, when=At(ms=at_s * 1000))] for at_s, digits in plan.digits]
    greeted = AgentSilent(ms=TURN_PAUSE_MS, within_ms=GREETING_WITHIN_MS)
    if plan.seconds is not None:
        return [[Say(RepeatedAudio(plan.sound), when=greeted)], [HangUp(when=At(ms=plan.seconds * 1000))], *keys]
    answered = AgentSilent(ms=LAST_PAUSE_MS, within_ms=ANSWER_WITHIN_MS)
    return [[Say(plan.sound, when=greeted), HangUp(when=answered)], *keys]


def config_of(plan: BatchPlan, number: int) -> CallConfig:
    """Makes the configuration of one call; the caller's number tells calls apart in the server's logs."""
    lasts_s = plan.seconds if plan.seconds is not None else plan.sound.duration_ms / 1000 + ANSWER_WITHIN_MS / 1000
    return CallConfig(
        url=plan.url,
        auth_token=plan.auth_token,
        from_number=f"+1500555{number % 10_000:04d}",
        parameters=plan.parameters,
        faults=replace(plan.faults, seed=number),
        strict=plan.strict,
        allow_remote=plan.allow_remote,
        time_limit_s=lasts_s + _TIME_LIMIT_MARGIN_S,
    )


async def place_calls(plan: BatchPlan, on_ended: Callable[[CallRecord], None]) -> list[CallRecord]:
    """Places the calls and waits until all have ended.

    Args:
        plan: The plan.
        on_ended: Told of each call when it is over.

    Returns:
        The records, in the order in which the calls were placed.
    """
    records: dict[int, CallRecord] = {}
    scripts = scripts_of(plan)

    async def place(number: int) -> None:
        records[number] = await place_call(config_of(plan, number), *scripts)
        on_ended(records[number])

    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(plan.calls):
            await trio.sleep_until(began_s + number / plan.rate_cps)
            nursery.start_soon(place, number)
    return [records[number] for number in range(plan.calls)]
