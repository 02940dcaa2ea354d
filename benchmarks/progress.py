"""What a long benchmark is doing, on standard error."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Says what happens and how long it will still take; silent if asked to be."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream
        self._began_at = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            print(text, file=self._stream or sys.stderr, flush=True)

    def step(self, done: int, total: int, text: str) -> None:
        """One of several steps is about to begin, `done` of `total` lie behind."""
        elapsed_s = time.monotonic() - self._began_at
        left = f", about {elapsed_s / done * (total - done):.0f} s left" if done else ""
        self.say(f"[{done + 1}/{total}] {text} ({elapsed_s:.0f} s{left})")
