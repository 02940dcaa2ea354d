"""The echo provider: plays the caller back after a pause. Needs no account."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import trio

from engine.call.echo import EchoCounts, EchoTurns, Turn
from engine.runtime.provider import CallPort


class EchoProvider:
    """One call's echo."""

    def __init__(self, port: CallPort) -> None:
        self._port = port
        self._turns = EchoTurns()
        self._counts = EchoCounts()

    def hear(self, payload: str, ulaw: bytes) -> None:
        """Listens; a caller who begins to speak silences the echo."""
        for turn, phrase in self._turns.hear(ulaw):
            if turn is Turn.STARTED:
                self._counts.interruptions += bool(self._port.interrupt().items)
            else:
                self._counts.phrases += 1
                self._port.play(f"echo-{self._counts.phrases}", phrase)
                self._port.complete()

    def keys_pressed(self, digits: str) -> None:
        """Ignores keys."""

    async def run(self) -> None:
        """Waits for the end of the call."""
        await trio.sleep_forever()

    def figures(self) -> dict[str, Any]:
        """Counts."""
        return asdict(self._counts)
