"""What one run of the load generator is asked to do; refuses combinations that could not be measured."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .network import Network

LEGS = ("both", "up", "down", "idle")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one run; every duration carries its unit."""

    calls: int
    seconds: float
    warmup_s: float
    audio: str
    engine_cmd: str
    engine_settings: tuple[str, ...]
    url: str | None
    provider_port: int
    pin_engine: int | None
    pin_load: int | None
    barge_in_every_s: float
    frame_ms: int
    lead_ms: int
    twiml: str
    auth_token: str | None
    public_url: str | None
    seed: int
    json_path: Path | None
    engine_log: Path | None
    legs: str = "both"
    tls: bool = False
    strict: bool = False
    stall_ms: float = 0.0
    stall_every_s: float = 2.0
    network_delay_ms: float = 0.0
    network_jitter_ms: float = 0.0

    @property
    def network(self) -> Network:
        """The network between carrier and engine."""
        return Network(delay_s=self.network_delay_ms / 1000, jitter_s=self.network_jitter_ms / 1000)

    @property
    def caller_speaks(self) -> bool:
        """Whether callers send a frame every 20 ms."""
        return self.legs in ("both", "up")

    @property
    def provider_speaks(self) -> bool:
        """Whether the provider ever begins a response."""
        return self.legs in ("both", "down")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description="Drive the engine with many calls, both far ends played on plain sockets, and check every byte.",
    )
    add = parser.add_argument
    add("--calls", type=int, default=50, help="calls held at the same time (default 50)")
    add("--seconds", type=float, default=30.0, help="measured seconds, after ramp and warm-up (default 30)")
    add("--warmup", type=float, default=2.0, help="seconds between the last call's start and the measurement")
    add("--audio", choices=("pcmu", "pcm24k"), default="pcmu", help="format spoken with the provider (OPENAI_AUDIO)")
    add("--engine-cmd", default="", help="command starting the engine; KEY=value settings are appended to it")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one more setting for the engine; repeatable")
    add("--url", help="media URL of an engine already running, such as ws://127.0.0.1:8080/media-stream")
    add("--provider-port", type=int, default=0, help="port of the provider peer (default: any free one)")
    add("--pin-engine", type=int, help="core for the engine")
    add("--pin-load", type=int, help="core for this process")
    add("--barge-in-every", type=float, default=5.0, help="mean seconds between a call's barge-ins; 0 for none")
    add("--frame-ms", type=int, default=20)
    add("--lead-ms", type=int, default=200)
    add("--twiml", choices=("none", "one", "each"), default="one", help="calls that first POST /incoming-call")
    add("--auth-token", help="sign webhooks and media sockets with this token; the engine gets it as well")
    add("--public-url", help="public https URL of the engine, over which signatures are made")
    add(
        "--legs", choices=LEGS, default="both", help="who speaks: the caller (up), the provider (down), both, or nobody"
    )
    add("--tls", action="store_true", help="TLS to the provider, by a certificate authority made for the run")
    add("--strict", action="store_true", help="parse every message in full, not every sixteenth, and nothing in C")
    add("--stall-ms", type=float, default=0.0, help="stop the engine for so long, at intervals")
    add("--stall-every", type=float, default=2.0, metavar="S", help="seconds from one stall to the next (default 2)")
    add("--network-delay-ms", type=float, default=0.0, help="delay between carrier and engine, each way")
    add("--network-jitter-ms", type=float, default=0.0, help="most that is added to it, drawn for each piece")
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="PATH", help="write every figure to PATH, - for standard output")
    add("--engine-log", type=Path, help="file for the engine's output (default: a temporary one)")
    return parser


def read_options(arguments: Sequence[str]) -> Options:
    """Parse a command line; exits with status 2 on a bad one."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.calls < 1 or given.seconds <= 0:
        parser.error("--calls and --seconds must be positive")
    if given.url and not given.provider_port:
        parser.error("--url needs --provider-port: the running engine must know where its provider listens")
    if given.stall_ms and given.url:
        parser.error("--stall-ms needs an engine started here: it stops the engine's processes")
    if min(given.stall_ms, given.network_delay_ms, given.network_jitter_ms) < 0:
        parser.error("durations must not be negative")
    if given.stall_ms >= given.stall_every * 1000:
        parser.error("--stall-ms must be shorter than --stall-every")
    return Options(
        calls=given.calls,
        seconds=given.seconds,
        warmup_s=given.warmup,
        audio=given.audio,
        engine_cmd=given.engine_cmd,
        engine_settings=tuple(given.set),
        url=given.url,
        provider_port=given.provider_port,
        pin_engine=given.pin_engine,
        pin_load=given.pin_load,
        barge_in_every_s=given.barge_in_every,
        frame_ms=given.frame_ms,
        lead_ms=given.lead_ms,
        twiml=given.twiml,
        auth_token=given.auth_token,
        public_url=given.public_url,
        seed=given.seed,
        json_path=given.json,
        engine_log=given.engine_log,
        legs=given.legs,
        tls=given.tls,
        strict=given.strict,
        stall_ms=given.stall_ms,
        stall_every_s=given.stall_every,
        network_delay_ms=given.network_delay_ms,
        network_jitter_ms=given.network_jitter_ms,
    )
