"""The echo's turns: what the caller said comes back after a pause.

Owns a simple detector of speech by level and the memory of what is to be played back. Sans-IO; audio time is the only
clock. Not a voice activity detector for noisy lines: the echo is for trying a line, without an account.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from engine.audio.g711 import ulaw_decode
from engine.call.pacer import BYTES_PER_MS

BLOCK_BYTES: Final = 20 * BYTES_PER_MS
# Mean level of a block, of 32768, from which it counts as speech: -40 dB, above line noise, below quiet voices.
SPEECH_LEVEL: Final = 330
# So many loud blocks in a row begin a turn (a click is shorter), so many quiet ones end it.
ONSET_BLOCKS: Final = 3
PAUSE_BLOCKS: Final = 30
# What was said before the detector noticed belongs to it.
PREFIX_BYTES: Final = 200 * BYTES_PER_MS
# A caller who never pauses: the oldest is forgotten.
PHRASE_LIMIT_BYTES: Final = 30_000 * BYTES_PER_MS


class Turn(Enum):
    """What the caller did."""

    STARTED = "the caller began to speak"
    ENDED = "the caller paused"


@dataclass(slots=True)
class EchoCounts:
    """What happened since the call began."""

    phrases: int = 0
    interruptions: int = 0


class EchoTurns:
    """The turns of one call."""

    def __init__(self) -> None:
        # audio that does not fill a block yet
        self._rest = b""
        self._phrase = bytearray()
        self._loud = 0
        self._quiet = 0
        self._speaking = False

    def hear(self, ulaw: bytes) -> list[tuple[Turn, bytes]]:
        """Takes the caller's audio.

        Args:
            ulaw: G.711 mu-law, 8000 Hz, mono, any length.

        Returns:
            What it means, in order; with :attr:`Turn.ENDED` the phrase, else nothing.
        """
        audio = self._rest + ulaw
        whole = len(audio) - len(audio) % BLOCK_BYTES
        self._rest = audio[whole:]
        turns: list[tuple[Turn, bytes]] = []
        for start in range(0, whole, BLOCK_BYTES):
            self._hear_block(audio[start : start + BLOCK_BYTES], turns)
        return turns

    def _hear_block(self, block: bytes, turns: list[tuple[Turn, bytes]]) -> None:
        loud = _level(block) >= SPEECH_LEVEL
        self._loud = self._loud + 1 if loud else 0
        self._quiet = 0 if loud else self._quiet + 1
        self._phrase += block
        if self._speaking:
            if self._quiet >= PAUSE_BLOCKS:
                self._speaking = False
                turns.append((Turn.ENDED, bytes(self._phrase[: -(PAUSE_BLOCKS - 5) * BLOCK_BYTES])))
                self._phrase.clear()
            else:
                del self._phrase[:-PHRASE_LIMIT_BYTES]
        elif self._loud >= ONSET_BLOCKS:
            self._speaking = True
            turns.append((Turn.STARTED, b""))
        else:
            del self._phrase[:-PREFIX_BYTES]


def _level(block: bytes) -> float:
    return float(np.abs(np.frombuffer(ulaw_decode(block), np.int16).astype(np.int32)).mean())
