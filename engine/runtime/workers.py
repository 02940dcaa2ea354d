"""Several processes on one port: starts them, starts them again when they die, and ends them all together.

The parent serves nothing. It holds the port, bound but not listening, so that the port is known to be free before a
worker starts and stays the same when it was any free one. A worker gets its settings through the environment, never
on its command line, which every user of the machine can read. A worker's standard input is a pipe from the parent:
when the parent dies, even by SIGKILL, the pipe ends and the worker shuts down (`end_with_parent`). The parent signals
and waits for its own children only.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from engine.runtime.listeners import bind_sockets
from engine.settings import Settings

logger = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "engine", "serve")
# A worker that ends so has found its configuration wrong; another attempt would find the same.
CONFIGURATION_STATUS = 2


@dataclass(frozen=True, kw_only=True)
class WorkerTiming:
    """How long the parent waits for what.

    Attributes:
        first_backoff_s: Before a worker that died is started again; doubles each time.
        longest_backoff_s: The most that doubling leads to.
        steady_s: A worker that ran this long has recovered from what killed the one before.
        exit_margin_s: What a worker needs beyond the drain time to say goodbye and exit.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    steady_s: float = 60.0
    exit_margin_s: float = 10.0


def run_workers(settings: Settings) -> int:
    """Run `settings.workers` worker processes until a signal ends them.

    SIGTERM and SIGINT are passed on as SIGTERM; what has not ended after `drain_s` and a margin is killed, as is
    everything at a second signal.

    Returns:
        The exit status: 0 after SIGTERM, 130 after SIGINT, 2 if a worker found the configuration wrong.

    Raises:
        ConfigurationError: The port cannot be listened on.
    """
    return trio.run(supervise_workers, settings)


async def supervise_workers(
    settings: Settings, *, command: Sequence[str] = WORKER_COMMAND, timing: WorkerTiming | None = None
) -> int:
    """Do the work of `run_workers`, with any `command` as the worker; needs the main thread for its signals."""
    # Without sharing first: with it, a foreign service on the same port would go unnoticed.
    for sock in await bind_sockets(settings.host, settings.port):
        sock.close()
    held = await bind_sockets(settings.host, settings.port, reuse_port=True)
    try:
        port = held[0].getsockname()[1]
        logger.info("Starting %d workers on %s port %d", settings.workers, settings.host, port)
        supervisor = _Supervisor(settings.bound_to(port), tuple(command), timing or WorkerTiming())
        return await supervisor.run()
    finally:
        for sock in held:
            sock.close()


def end_with_parent() -> None:
    """In a worker: watch the pipe on standard input, and ask ourselves to stop when the parent has gone."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@dataclass
class _Supervisor:
    """The workers of one service."""

    settings: Settings
    command: tuple[str, ...]
    timing: WorkerTiming
    status: int = 0
    # Set once no worker shall be started any more.
    stopping: trio.Event = field(default_factory=trio.Event)
    running: dict[int, trio.Process] = field(default_factory=dict)

    async def run(self) -> int:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, signals)
                    nursery.start_soon(self._kill_late_workers)
                    async with trio.open_nursery() as workers:
                        for index in range(self.settings.workers):
                            workers.start_soon(self._keep_running, index)
                    nursery.cancel_scope.cancel()
            finally:
                self._kill_all()
        return self.status

    async def _obey(self, signals: AsyncIterable[int]) -> None:
        async for number in signals:
            logger.info("Got %s", signal.Signals(number).name)
            if self.stopping.is_set():
                self._kill_all()
            else:
                self._stop(130 if number == signal.SIGINT else 0)

    def _stop(self, status: int) -> None:
        if self.stopping.is_set():
            return
        self.status = status
        self.stopping.set()
        for process in self.running.values():
            process.terminate()

    async def _kill_late_workers(self) -> None:
        await self.stopping.wait()
        await trio.sleep(self.settings.drain_s + self.timing.exit_margin_s)
        logger.error("Killing %d workers that did not end in time", len(self.running))
        self._kill_all()

    def _kill_all(self) -> None:
        for process in self.running.values():
            process.kill()

    async def _keep_running(self, index: int) -> None:
        """Run one worker, again and again until all are to stop."""
        backoff_s = self.timing.first_backoff_s
        while not self.stopping.is_set():
            started_s = trio.current_time()
            status = await self._run_worker(index)
            if self.stopping.is_set():
                return
            if status == CONFIGURATION_STATUS:
                self._stop(status)
                return
            if trio.current_time() - started_s >= self.timing.steady_s:
                backoff_s = self.timing.first_backoff_s
            logger.error("Worker %d ended with status %d; starting it again in %g s", index, status, backoff_s)
            with trio.move_on_after(backoff_s):
                await self.stopping.wait()
            backoff_s = min(2 * backoff_s, self.timing.longest_backoff_s)

    async def _run_worker(self, index: int) -> int:
        """Run one worker to its end; its exit status, negative for the signal that killed it."""
        environ = {**os.environ, **replace(self.settings, worker_index=index).to_environ()}
        # In a session of its own, so that Ctrl-C on the terminal reaches it through us only, once.
        process = await trio.lowlevel.open_process(
            self.command, stdin=subprocess.PIPE, env=environ, start_new_session=True
        )
        self.running[index] = process
        try:
            if self.stopping.is_set():  # while it was being started
                process.terminate()
            return await process.wait()
        finally:
            process.kill()  # does nothing to a process that has ended
            with trio.CancelScope(shield=True):
                await process.wait()
            del self.running[index]
            if process.stdin is not None:
                await trio.aclose_forcefully(process.stdin)
