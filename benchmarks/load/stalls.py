"""Stalls of the engine: stops its processes for a while, at intervals, as a busy machine or a long collection would.

Uses SIGSTOP and SIGCONT, so nothing inside the engine knows of it beforehand. Whatever happens, `release` lets it go on.
"""

import os
import signal
from collections.abc import Callable, Sequence

from .sockets import Loop


class Stalls:
    """Stops the processes `pids()` for `stall_s` every `every_s` seconds, once begun."""

    def __init__(self, loop: Loop, pids: Callable[[], Sequence[int]], *, stall_s: float, every_s: float) -> None:
        self._loop, self._pids, self._stall_s, self._every_s = loop, pids, stall_s, every_s
        self._stopped: list[int] = []
        self._ending = False
        # how many there were
        self.count = 0

    def begin(self, now: float) -> None:
        """Stall from one interval after now on."""
        if self._stall_s > 0:
            self._loop.call_at(now + self._every_s, self._stall)

    def end(self) -> None:
        """No further stalls."""
        self._ending = True

    def _stall(self, now: float) -> None:
        if self._ending:
            return
        self.count += 1
        self._stopped = list(self._pids())
        _signal_all(self._stopped, signal.SIGSTOP)
        self._loop.call_at(now + self._stall_s, lambda later: self.release())
        self._loop.call_at(now + self._every_s, self._stall)

    def release(self) -> None:
        """Let the engine run; does nothing when it does."""
        stopped, self._stopped = self._stopped, []
        _signal_all(stopped, signal.SIGCONT)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
