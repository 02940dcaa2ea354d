"""A thousand calls over every way out of a call, and nothing left behind.

The real service runs on loopback between the simulated Twilio and simulated Realtime peers. Tasks and descriptors are
counted before the first call and after the last.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from engine.runtime.service import Service, serve
from engine.settings import Settings
from engine.simulator.openai import CallTool, Die, PeerConfig, RefuseHandshake, Speak, open_realtime_peer
from engine.simulator.openai import Script as PeerScript
from engine.simulator.twilio import After as Wait
from engine.simulator.twilio import (
    CallConfig,
    Drop,
    HangUp,
    Say,
    SendRaw,
    place_call,
    tone,
)
from engine.tools import Tool

TOKEN = "your_auth_token"
AT_ONCE = 60
ROUNDS = 100
# the ways out; each is taken once a round, so a thousand calls in all
WAYS = (
    "hung up while the agent speaks",
    "hung up at once",
    "Twilio drops",
    "bad signature",
    "refused because the service is full",
    "provider refuses",
    "provider dies",
    "tool still running",
    "nonsense from Twilio",
    "cancelled service",
)


async def sleep_for_ever(**arguments: object) -> None:
    """A tool that never answers."""
    del arguments
    await trio.sleep_forever()


TOOLS = (Tool("wait", "never answers", {"type": "object", "properties": {}}, sleep_for_ever),)


@dataclass
class Stage:
    """Services by the provider behind them, and what became of the calls."""

    nursery: trio.Nursery
    services: dict[str, Service] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def open(self, name: str, peer_url: str, **overrides: Any) -> None:
        """Starts a service."""
        settings = Settings(
            port=0,
            provider="openai",
            openai_api_key="your_api_key",
            openai_realtime_url=peer_url,
            twilio_auth_token=TOKEN,
            drain_s=0.0,
            **overrides,
        )
        stop = trio.Event()
        start = partial(serve, settings, tools=TOOLS, stop=stop)
        service: Service = await self.nursery.start(start)
        self.services[name] = service
        self.urls[name] = service.settings.public_url

    async def call(self, way: str, service: str, *script: Any, token: str | None = TOKEN, direct: bool = False) -> None:
        """Places a call and notes how it ended."""
        base = self.urls[service]
        url = base.replace("http", "ws") + "/media-stream" if direct else base + "/incoming-call"
        record = await place_call(CallConfig(url=url, auth_token=token, time_limit_s=20), list(script))
        self.endings[way, record.ended_by] += 1


PEERS = {
    "speaks": PeerScript(replies=(Speak(seconds=5.0),)),
    "dies": PeerScript(replies=(Speak(seconds=5.0),), faults=(Die(at_s=0.1),)),
    "refuses": PeerScript(faults=(RefuseHandshake(status=401),)),
    "calls a tool": PeerScript(replies=(CallTool("wait"), Speak(seconds=5.0))),
}


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def end_service_amid_calls(stage: Stage, peer_url: str) -> None:
    """Cancels a service of its own while calls of it run, one for each round."""
    async with trio.open_nursery() as calls, trio.open_nursery() as doomed:
        stage.nursery = doomed
        await stage.open("doomed", peer_url)
        for _ in range(ROUNDS):
            calls.start_soon(stage.call, "cancelled service", "doomed", HangUp(when=Wait(ms=15_000)))
        while stage.services["doomed"].calls < ROUNDS:  # noqa: ASYNC110 - the calls come at their own pace
            await trio.sleep(0.01)
        doomed.cancel_scope.cancel()


async def take_way(stage: Stage, way: str) -> None:
    """Takes one way out, once."""
    agent_speaks = Wait(ms=250)
    match way:
        case "hung up while the agent speaks":
            await stage.call(way, "speaks", HangUp(when=agent_speaks))
        case "hung up at once":
            await stage.call(way, "speaks", HangUp())
        case "Twilio drops":
            await stage.call(way, "speaks", Say(tone(400, 200)), Drop())
        case "bad signature":
            await stage.call(way, "speaks", HangUp(when=agent_speaks), token="another_token", direct=True)
        case "refused because the service is full":
            await stage.call(way, "full", HangUp(when=agent_speaks), direct=True)
        case "provider refuses":
            await stage.call(way, "refuses", HangUp(when=Wait(ms=10_000)))
        case "provider dies":
            await stage.call(way, "dies", HangUp(when=Wait(ms=600)))
        case "tool still running":
            await stage.call(way, "calls a tool", HangUp(when=agent_speaks))
        case "nonsense from Twilio":
            await stage.call(way, "speaks", SendRaw("{"), SendRaw(b"\x00"), SendRaw('{"event":"x"}'), HangUp())


ENDINGS = {
    "hung up while the agent speaks": {"caller_hung_up"},
    "hung up at once": {"caller_hung_up"},
    "Twilio drops": {"caller_dropped"},
    "bad signature": {"stream_failed"},
    "refused because the service is full": {"stream_failed"},
    # the socket is closed, and the TwiML behind it speaks the apology and hangs up
    "provider refuses": {"hangup_verb"},
    "provider dies": {"caller_hung_up"},
    "tool still running": {"caller_hung_up"},
    "nonsense from Twilio": {"caller_hung_up"},
    "cancelled service": {"hangup_verb"},
}


async def hold_a_thousand_calls() -> Stage:
    """Holds the calls, and ends everything that they needed."""
    async with AsyncExitStack() as stack:
        config = PeerConfig(first_audio_ms=20.0, log_entries=50)
        urls = {}
        for name, script in PEERS.items():
            urls[name] = (await stack.enter_async_context(open_realtime_peer(config, script))).url
        async with trio.open_nursery() as nursery:
            stage = Stage(nursery)
            for name, url in urls.items():
                await stage.open(name, url)
            await stage.open("full", urls["speaks"], max_calls=0)
            await hold_calls(stage)
            await end_service_amid_calls(stage, urls["speaks"])
            nursery.cancel_scope.cancel()
    return stage


async def hold_calls(stage: Stage) -> None:
    """Holds the calls of services that live on."""
    slots = trio.CapacityLimiter(AT_ONCE)

    async def hold(way: str) -> None:
        async with slots:
            await take_way(stage, way)

    async with trio.open_nursery() as calls:
        for _ in range(ROUNDS):
            for way in WAYS[:-1]:
                calls.start_soon(hold, way)
    for name, service in stage.services.items():
        assert service.calls == 0, name
        assert service.calls_crashed == 0, name


async def test_a_thousand_calls_over_every_exit_leave_nothing_behind() -> None:
    with trio.fail_after(240):
        # the first of everything opens what stays open: a resolver, imported modules
        tasks_before = trio.lowlevel.current_statistics().tasks_living
        descriptors_before = open_descriptors()
        stage = await hold_a_thousand_calls()
        await settle(tasks_before)
        assert trio.lowlevel.current_statistics().tasks_living == tasks_before
        assert open_descriptors() == descriptors_before
    assert sum(stage.endings.values()) == ROUNDS * len(WAYS)
    for way in WAYS:
        assert {ended_by for each, ended_by in stage.endings if each == way} == ENDINGS[way], way


async def settle(tasks: int) -> None:
    """Lets tasks that have been told to end do so."""
    while trio.lowlevel.current_statistics().tasks_living > tasks:
        await trio.testing.wait_all_tasks_blocked()
