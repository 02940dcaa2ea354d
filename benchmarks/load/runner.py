"""One run from start to verdict: the engine, the ramp of calls, the measured window, the hang-ups, the report."""

import gc
import json
import os
import ssl
import sys
import tempfile
import time
import urllib.parse
from contextlib import ExitStack
from pathlib import Path

from .call import Call
from .carrier import MediaUrl
from .certificates import make_certificate
from .engine_process import EngineProcess, Usage, machine_busy_s, process_tree, usage
from .figures import Figures
from .lanes import Lanes, NoLanes
from .options import Options
from .provider import ProviderListener, ProviderSession
from .report import Consumption, gather, render, requirements
from .sockets import Connection, Loop
from .speech import Tape
from .stalls import Stalls
from .webhook import stream_parameters

# Callers speak in 21 groups, not 20: on a grid of whole milliseconds every frame would meet the engine's own at one phase.
_TICKS_PER_FRAME = 21
_TICK_S = 0.020 / _TICKS_PER_FRAME
# From so many calls on the generator works in turns, a tick each.
_TURNS_FROM_CALLS = 80
# A call that has no provider session by then is given up, and the next one is dialled.
_STAND_S = 3.0
_RAMP_GAP_S = 0.004
# If none of the first calls stands, none will.
_HOPELESS_AFTER = 3
_HANG_UP_SPREAD_S = 0.5
_CLOSE_S = 3.0
_CLOSED_POLL_S = 0.05
_PROGRESS_S = 5.0
# A caller who does not speak still sends a frame now and then, or the engine would take the line for dead.
_QUIET_FRAMES = 200
# Calls whose audio is kept for correlation when it is transcoded.
_KEPT_CALLS = 8


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Run:
    """One run; `execute` gives its exit status."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop, self._figures, self._tape = Loop(), Figures(), Tape(options.seed)
        self._calls: list[Call] = []
        # Calls by the tick of a frame at which they speak.
        self._phases: list[list[Call]] = [[] for _ in range(_TICKS_PER_FRAME)]
        self._tick, self._origin_s = 0, 0.0
        self._engine: EngineProcess | None = None
        self._began: tuple[float, float, float, Usage] | None = None
        self._used: Consumption | None = None
        self._idle = Usage(0.0, 0)
        self._stalls = Stalls(
            self._loop, self._engine_pids, stall_s=options.stall_ms / 1000, every_s=options.stall_every_s
        )

    def execute(self) -> int:
        """Run; 0 if every requirement passed, 1 if one failed."""
        options = self._options
        with ExitStack() as stack:
            stack.callback(self._loop.close)
            self._open_lanes(stack)
            tls, authority = self._make_certificate(stack)
            self._listener = self._listen(tls)
            stack.callback(self._listener.close)
            if options.url is None:
                engine = EngineProcess(options, self._listener.port, authority=authority)
                self._engine = stack.enter_context(engine)
                stack.callback(self._stalls.release)
                self._engine.wait_until_serving()
                self._idle = usage(self._engine.pid)
            if options.pin_load is not None:
                os.sched_setaffinity(0, {options.pin_load})
            url = self._media_url()
            self._prepare(url)
            # A collection in mid-run would be taken for the engine's lateness.
            gc.collect()
            gc.freeze()
            gc.disable()
            self._drive(url)
            for call in self._calls:
                call.release()
        gc.enable()
        return self._report()

    def _open_lanes(self, stack: ExitStack) -> None:
        """Compile the short way for audio, where it can be taken and is worth it."""
        options = self._options
        if options.strict or options.tls or options.audio != "pcmu" or options.network.worst_s:
            return
        if options.calls < _TURNS_FROM_CALLS:
            return
        try:
            self._loop.lanes = Lanes(self._tape)
        except NoLanes as error:
            _say(f"without the short way for audio, which takes less CPU: {error}")
            return
        stack.callback(self._loop.lanes.close)

    def _make_certificate(self, stack: ExitStack) -> tuple[ssl.SSLContext | None, Path | None]:
        if not self._options.tls:
            return None, None
        return make_certificate(Path(stack.enter_context(tempfile.TemporaryDirectory())))

    def _listen(self, tls: ssl.SSLContext | None) -> ProviderListener:
        options = self._options

        def make_session(connection: Connection) -> ProviderSession:
            return ProviderSession(
                self._loop,
                connection,
                self._figures,
                audio=options.audio,
                speaks=options.provider_speaks,
                strict=options.strict,
            )

        return ProviderListener(
            self._loop, self._figures, port=options.provider_port, make_session=make_session, tls=tls
        )

    def _engine_pids(self) -> list[int]:
        return process_tree(self._engine.pid) if self._engine else []

    def _media_url(self) -> MediaUrl:
        text = self._options.url or f"ws://127.0.0.1:{self._engine.port if self._engine else 0}/media-stream"
        address = urllib.parse.urlsplit(text)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        public = (self._options.public_url or f"http://{host}:{port}").rstrip("/")
        signed = f"wss{public[public.index(':') :]}{address.path}"
        return MediaUrl(host=host, port=port, path=address.path, signed_url=signed, auth_token=self._options.auth_token)

    def _prepare(self, url: MediaUrl) -> None:
        options = self._options
        public = (options.public_url or f"http://{url.host}:{url.port}").rstrip("/")
        each = options.twiml == "each"
        for number in range(options.calls):
            parameters: dict[str, str] = {}
            if each or (number == 0 and options.twiml == "one"):
                parameters = stream_parameters(url, public, f"CA{number:032x}", self._figures.violation)
                # Parameters are handed out for one call; if there are any, every call needs its own.
                each = each or bool(parameters)
            call = Call(
                number=number,
                loop=self._loop,
                figures=self._figures,
                tape=self._tape,
                audio=options.audio,
                parameters=parameters,
                lead_ms=options.lead_ms,
                frame_ms=options.frame_ms,
                barge_in_every_s=options.barge_in_every_s,
                keep=options.audio == "pcm24k" and number < _KEPT_CALLS,
                seed=options.seed,
                network=options.network,
                strict=options.strict,
            )
            self._calls.append(call)

    def _drive(self, url: MediaUrl) -> None:
        now = time.monotonic()
        self._origin_s = now
        self._loop.call_at(now, self._speak)
        self._loop.call_at(now, lambda later: self._dial(0, url, later))
        self._loop.call_at(now + _PROGRESS_S, self._progress)
        self._loop.run()

    # The ramp: one call at a time, so that the provider session that comes next is that call's.

    def _dial(self, number: int, url: MediaUrl, now: float) -> None:
        if number == len(self._calls):
            _say(f"{number} calls dialled in {now - self._origin_s:.1f} s")
            self._loop.call_at(now + self._options.warmup_s, self._begin)
            return
        if number == _HOPELESS_AFTER and all(call.ready_at is None for call in self._calls):
            words = self._engine.last_words() if self._engine else ""
            raise RuntimeError(f"no call reached the provider; violations: {self._figures.examples}\n{words}")
        call = self._calls[number]
        self._listener.expect(call.attach)
        call.carrier.dial(url)
        self._phases[number % _TICKS_PER_FRAME].append(call)
        self._await(number, url, now + _STAND_S, now)

    def _await(self, number: int, url: MediaUrl, deadline: float, now: float) -> None:
        if self._calls[number].ready_at is None and now < deadline:
            self._loop.call_at(now + _TICK_S, lambda later: self._await(number, url, deadline, later))
        else:
            self._loop.call_at(now + _RAMP_GAP_S, lambda later: self._dial(number + 1, url, later))

    def _speak(self, now: float) -> None:
        """One tick of the callers' clock: the calls of this phase say their next 20 ms."""
        if self._figures.measuring:
            self._figures.load_late_ms.append((now - self._origin_s - self._tick * _TICK_S) * 1000)
        if self._options.caller_speaks or self._tick // _TICKS_PER_FRAME % _QUIET_FRAMES == 0:
            for call in self._phases[self._tick % _TICKS_PER_FRAME]:
                call.carrier.speak(time.monotonic())
        self._tick += 1
        next_at = self._origin_s + self._tick * _TICK_S
        self._loop.call_at(next_at, self._speak)
        if self._options.calls >= _TURNS_FROM_CALLS:
            self._loop.next_turn_at = next_at

    def _progress(self, now: float) -> None:
        standing = sum(call.carrier.open for call in self._calls)
        faults = sum(self._figures.violations.values())
        _say(
            f"{now - self._origin_s:5.0f} s  {standing} calls  {self._figures.counts['barge-ins']} barge-ins  {faults} violations"
        )
        self._loop.call_at(now + _PROGRESS_S, self._progress)

    def _usage(self) -> Usage:
        return usage(self._engine.pid) if self._engine else Usage(0.0, 0)

    def _begin(self, now: float) -> None:
        self._began = (time.monotonic(), time.process_time(), machine_busy_s(), self._usage())
        self._figures.measuring = True
        self._stalls.begin(now)
        self._loop.call_at(now + self._options.seconds, self._end)

    def _end(self, now: float) -> None:
        self._figures.measuring = False
        self._stalls.end()
        assert self._began is not None
        began_at, load_cpu_before_s, busy_before_s, before = self._began
        after, window_s = self._usage(), time.monotonic() - began_at
        load_cpu_s = time.process_time() - load_cpu_before_s
        engine_cpu_s = after.cpu_s - before.cpu_s
        self._used = Consumption(
            window_s=window_s,
            engine_cpu_s=engine_cpu_s,
            engine_idle_bytes=self._idle.resident_bytes,
            engine_busy_bytes=after.resident_bytes,
            load_cpu_share=load_cpu_s / window_s,
            stalls=self._stalls.count,
            others_cpu_share=max(0.0, machine_busy_s() - busy_before_s - load_cpu_s - engine_cpu_s) / window_s,
        )
        for number, call in enumerate(self._calls):
            self._loop.call_at(now + _HANG_UP_SPREAD_S * number / len(self._calls), call.hang_up)
        hung_up_at = now + _HANG_UP_SPREAD_S
        self._loop.call_at(hung_up_at, lambda later: self._stop_when_closed(later, hung_up_at + _CLOSE_S))

    def _stop_when_closed(self, now: float, deadline: float) -> None:
        """Stop once the engine has closed every provider session, or never will."""
        sessions = [call.session for call in self._calls if call.session is not None]
        if now >= deadline or all(session.closed for session in sessions):
            self._loop.stop()
        else:
            self._loop.call_at(now + _CLOSED_POLL_S, lambda later: self._stop_when_closed(later, deadline))

    def _report(self) -> int:
        assert self._used is not None
        run = gather(
            self._options, self._figures, self._calls, self._tape, self._used, lanes=self._loop.lanes is not None
        )
        verdict = requirements(self._options, run)
        passed = all(requirement.passed for requirement in verdict)
        written = json.dumps({**run, "passed": passed, "verdict": [vars(line) for line in verdict]}, indent=2)
        to_stdout = str(self._options.json_path) == "-"
        print(render(self._options, run, verdict), file=sys.stderr if to_stdout else sys.stdout)
        if to_stdout:
            print(written)
        elif self._options.json_path is not None:
            self._options.json_path.write_text(written + "\n")
        return 0 if passed else 1
