"""Worker processes: started together, started again when they die, ended together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.errors import ConfigurationError
from engine.runtime.workers import WorkerTiming, supervise_workers
from engine.settings import Settings

ROOT = Path(__file__).parents[2]
QUICK = WorkerTiming(first_backoff_s=0.01, longest_backoff_s=0.02, exit_margin_s=0.1)

# A worker that tells each visitor who it is, and ends at SIGTERM.
SERVE = """
import json, os, signal, socket, sys
import trio
from engine.runtime.listeners import open_listeners
from engine.settings import load_settings

async def main():
    settings = load_settings()
    (listener,) = await open_listeners(settings.host, settings.port, reuse_port=settings.port_shared)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            async for _ in signals:
                nursery.cancel_scope.cancel()

async def answer(stream):
    settings = load_settings()
    command = open("/proc/self/cmdline").read()
    await stream.send_all(json.dumps([os.getpid(), settings.worker_index, settings.greeting, command]).encode())

trio.run(main)
"""
STUBBORN = SERVE.replace("nursery.cancel_scope.cancel()", "pass")


@dataclass
class Running:
    """A supervisor that runs, and its exit status once it has one."""

    port: int
    ended: trio.Event = field(default_factory=trio.Event)
    status: int | None = None

    async def meet(self, wanted: int, unlike: Sequence[int] = ()) -> dict[int, int]:
        """Visit until `wanted` workers have answered; their process ids by their index."""
        found: dict[int, int] = {}
        while len(found) < wanted:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                    answer = b"".join([bytes(data) async for data in stream])
                pid, index, greeting, command = json.loads(answer)
            except (OSError, trio.BrokenResourceError, ValueError):
                await trio.lowlevel.checkpoint()
                continue
            assert greeting == "hushhush"
            assert "hushhush" not in command
            if pid not in unlike:
                found[index] = pid
        return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def running_workers(
    monkeypatch: pytest.MonkeyPatch, code: str, drain_s: float = 20, workers: int = 2
) -> AsyncIterator[Running]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    running = Running(free_port())
    settings = Settings(port=running.port, workers=workers, greeting="hushhush", drain_s=drain_s)

    async def supervise() -> None:
        running.status = await supervise_workers(settings, command=(sys.executable, "-c", code), timing=QUICK)
        running.ended.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise)
            yield running
            nursery.cancel_scope.cancel()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_workers_share_the_port_and_end_at_a_signal(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    async with running_workers(monkeypatch, SERVE) as running:
        pids = await running.meet(2)
        assert set(pids) == {0, 1}
        os.kill(os.getpid(), number)
        await running.ended.wait()
        assert running.status == status
        assert not any(is_running(pid) for pid in pids.values())


async def test_a_worker_that_dies_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_workers(monkeypatch, SERVE) as running:
        pids = await running.meet(2)
        os.kill(pids[1], signal.SIGKILL)
        again = await running.meet(1, unlike=list(pids.values()))
        assert set(again) == {1}
        assert is_running(pids[0])
        assert "Worker 1 ended with status -9" in caplog.text


async def test_a_worker_that_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_workers(monkeypatch, STUBBORN, drain_s=0) as running:
        pids = await running.meet(2)
        os.kill(os.getpid(), signal.SIGTERM)
        await running.ended.wait()
        assert running.status == 0
        assert not any(is_running(pid) for pid in pids.values())


async def test_a_second_signal_kills_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_workers(monkeypatch, STUBBORN, drain_s=86_400) as running:
        await running.meet(2)
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
        await running.ended.wait()


async def test_a_wrong_configuration_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_workers(monkeypatch, "raise SystemExit(2)") as running:
        await running.ended.wait()
        assert running.status == 2


async def test_cancelling_leaves_no_worker_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_workers(monkeypatch, STUBBORN) as running:
        pids = await running.meet(2)
    assert not any(is_running(pid) for pid in pids.values())


async def test_a_port_that_is_taken_is_found_before_any_worker_starts() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        settings = Settings(port=taken.getsockname()[1], workers=2)
        with pytest.raises(ConfigurationError, match="already in use"):
            await supervise_workers(settings, command=("/bin/false",))


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    code = (
        "import signal; from engine.runtime.workers import end_with_parent; "
        "end_with_parent(); print('up', flush=True); signal.pause()"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        worker.stdin.close()
        assert worker.wait(timeout=20) == -signal.SIGTERM
