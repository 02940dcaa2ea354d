"""The service under demonstration, in a process of its own.

Owns the subprocess from start to end: it is told everything by its environment and arguments, sees no settings of the
user's, and is stopped on every path: politely first, then by force. Its log is kept, bounded, newest last.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import trio

import engine
from engine.errors import ConnectionFailed
from engine.settings import describe_settings

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 10.0
_LOG_LINES = 5000
_SUMMARY = "call ended "


class ServiceProcess:
    """A running service.

    Attributes:
        url: Where it answers.
        log: Its log so far, one entry a line.
        status: Its exit status once it has ended.
    """

    def __init__(self, url: str, process: trio.Process) -> None:
        self.url = url
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self._process = process
        self._summary: dict[str, Any] | None = None
        self._summary_came = trio.Event()
        self.status: int | None = None

    @property
    def process_id(self) -> int:
        """The operating system's number for the process."""
        return self._process.pid

    async def read_log(self) -> None:
        """Takes the log in until the process closes it."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._note(line.decode(errors="replace"))

    async def wait_ready(self) -> None:
        """Waits until the service says it is well.

        Raises:
            ConnectionFailed: It ended, or did not answer in time.
        """
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
            with trio.move_on_after(_START_LIMIT_S):
                while self._process.poll() is None:
                    if await _is_well(client, f"{self.url}/healthz"):
                        return
                    await trio.sleep(0.05)
        raise ConnectionFailed("the service did not start:\n" + "\n".join(self.log))

    async def call_summary(self, within_s: float) -> dict[str, Any] | None:
        """What the service logged at the end of its call; None if it does not within this time."""
        with trio.move_on_after(within_s):
            await self._summary_came.wait()
        return self._summary

    async def stop(self) -> int | None:
        """Ends the process as an operator would.

        Returns:
            Its exit status; None if it had to be killed.
        """
        if self._process.poll() is None:
            self._process.terminate()
        with trio.move_on_after(_STOP_LIMIT_S):
            self.status = await self._process.wait()
        return self.status

    def _note(self, line: str) -> None:
        self.log.append(line)
        _, found, text = line.partition(_SUMMARY)
        if found and text.startswith("{"):
            try:
                self._summary = json.loads(text)
            except ValueError:
                return
            self._summary_came.set()


@asynccontextmanager
async def open_service(settings: Mapping[str, str], secrets: Mapping[str, str]) -> AsyncIterator[ServiceProcess]:
    """Runs ``serve`` on a free loopback port for the time of the block.

    Args:
        settings: Given as ``KEY=value`` arguments.
        secrets: Given in the environment, where other users of the machine cannot read them.

    Yields:
        The service, ready for calls.

    Raises:
        ConnectionFailed: It did not start.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    given = {**settings, "HOST": "127.0.0.1", "PORT": str(port), "PUBLIC_URL": url}
    command = [sys.executable, "-m", "engine", "serve", *(f"{name}={value}" for name, value in given.items())]
    with TemporaryDirectory(prefix="media-engine-demo-") as directory:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**_clean_environment(), **secrets},
        )
        service = ServiceProcess(url, process)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.read_log)
                await service.wait_ready()
                yield service
                await service.stop()
                nursery.cancel_scope.deadline = trio.current_time() + 1
        finally:
            await _make_sure_it_ended(process)


async def _make_sure_it_ended(process: trio.Process) -> None:
    """Kills what is still there, even when cancelled, and waits for it so that nothing is left behind."""
    if process.poll() is None:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    if process.stdout is not None:
        with trio.CancelScope(shield=True):
            await process.stdout.aclose()


def _clean_environment() -> dict[str, str]:
    """The environment without any setting of the engine, and with this very package first on the path."""
    names = {setting.name for setting in describe_settings()}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    home = str(Path(engine.__file__).parents[1])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = home if inherited is None else os.pathsep.join((home, inherited))
    return environment


def _free_port() -> int:
    """A port that was free a moment ago; the signatures need to know it before the service starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _is_well(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
