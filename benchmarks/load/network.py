"""The network between the carrier and the engine: a delay with jitter, in order, as TCP delivers.

Sans-IO but for the loop's timers: bytes put in come out later, never out of order, never lost. Jitter is drawn anew for
each piece; a piece that would overtake the one before it waits for it, as bytes behind a late segment do.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .sockets import Loop


@dataclass(frozen=True, kw_only=True)
class Network:
    """How far away the carrier is.

    Attributes:
        delay_s: Time every piece takes, one way, in seconds.
        jitter_s: Most that is added to it, evenly distributed, in seconds.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0

    @property
    def worst_s(self) -> float:
        """The longest a piece is under way, in seconds."""
        return self.delay_s + self.jitter_s


class DelayLine:
    """One direction of one connection."""

    def __init__(self, loop: Loop, network: Network, random: Random, deliver: Callable[[bytes, float], None]) -> None:
        self._loop, self._network, self._random, self._deliver = loop, network, random, deliver
        # (due, data), in order
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._last_due = 0.0

    def put(self, data: bytes, now: float) -> None:
        """Send `data` on its way at monotonic time `now`."""
        due = now + self._network.delay_s + self._random.random() * self._network.jitter_s
        self._last_due = max(due, self._last_due)
        self._under_way.append((self._last_due, data))
        self._loop.call_at(self._last_due, self._arrive)

    def _arrive(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            self._deliver(self._under_way.popleft()[1], now)
