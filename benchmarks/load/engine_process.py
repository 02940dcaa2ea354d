"""The engine under test as a subprocess: starts it, waits until it serves, reads what it consumes, ends it."""

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .options import Options

_START_S = 20.0
_STOP_S = 5.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOG_TAIL_CHARS = 4000


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command's name (proc(5)); index 0 is the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat_fields(int(entry.name))[1])
            except (OSError, IndexError):
                continue
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


@dataclass(frozen=True)
class Usage:
    """What a process tree has used: CPU seconds since its start, resident bytes now."""

    cpu_s: float
    resident_bytes: int


def usage(root: int) -> Usage:
    """CPU time (user, system, and of children already ended) and resident memory of a process tree."""
    ticks = resident = 0
    for pid in process_tree(root):
        try:
            fields = _stat_fields(pid)
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Usage(ticks / _TICKS_PER_S, resident)


def machine_busy_s() -> float:
    """CPU seconds all processes of the machine have used since it started (proc(5), /proc/stat)."""
    user, nice, system, _idle, _iowait, *interrupts = (int(field) for field in _machine_line().split()[1:9])
    return (user + nice + system + sum(interrupts)) / _TICKS_PER_S


def _machine_line() -> str:
    with Path("/proc/stat").open() as lines:
        return lines.readline()


class EngineProcess:
    """A running engine; use as a context manager."""

    def __init__(self, options: Options, provider_port: int, *, authority: Path | None = None) -> None:
        self.port = free_port()
        self._log = options.engine_log or Path(tempfile.mkstemp(prefix="engine-under-load-", suffix=".log")[1])
        command = shlex.split(options.engine_cmd) or [sys.executable, "-m", "engine", "serve"]
        command += self._settings(options, provider_port)
        core = options.pin_engine
        environ = {**os.environ, "OPENAI_API_KEY": "not-a-key"}
        if authority is not None:
            environ["SSL_CERT_FILE"] = str(authority)
        if options.auth_token:
            environ["TWILIO_AUTH_TOKEN"] = options.auth_token
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environ,
            )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def _settings(self, options: Options, provider_port: int) -> list[str]:
        realtime = "wss://localhost" if options.tls else "ws://127.0.0.1"
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "PROVIDER": "openai",
            "OPENAI_REALTIME_URL": f"{realtime}:{provider_port}/v1/realtime",
            "OPENAI_AUDIO": options.audio,
            "FRAME_MS": str(options.frame_ms),
            "LEAD_MS": str(options.lead_ms),
            "MAX_CALLS": str(options.calls + 8),
        }
        if options.public_url:
            settings["PUBLIC_URL"] = options.public_url
        return [*(f"{key}={value}" for key, value in settings.items()), *options.engine_settings]

    @property
    def pid(self) -> int:
        """Process id of the engine's first process."""
        return self._process.pid

    def wait_until_serving(self) -> None:
        """Return once GET /healthz answers 200; raises RuntimeError with the engine's last words if it never does."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the engine ended with status {self._process.returncode}:\n{self.last_words()}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        raise RuntimeError(f"the engine did not answer GET /healthz within {_START_S:.0f} s:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of the engine's output."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL_CHARS:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
