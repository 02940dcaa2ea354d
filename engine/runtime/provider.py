"""What a call needs from a voice provider, and what a provider may ask of the call. Interfaces only.

Nothing here knows how a provider takes turns: a provider that listens and speaks at the same time fits as well as one
that must be told when to answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from engine.call.pacer import Audio
from engine.call.playout import Interruption
from engine.runtime.leg import Leg
from engine.runtime.mover import Mover

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData


class CallPort(Protocol):
    """A call, as its provider sees it. No method waits."""

    @property
    def mover(self) -> Mover:
        """Moves this process's frames; its clock is the call's."""
        ...

    @property
    def parameters(self) -> dict[str, str]:
        """What the TwiML's parameters said."""
        ...

    def carry_to(self, provider: Leg, upsampler: CData | None) -> None:
        """Lets the mover carry the caller's voice to the provider past :meth:`Provider.hear`, where it can.

        Args:
            provider: The leg of the provider's link; nothing is carried any more once that is closed.
            upsampler: The stream of a conversion to 24 kHz PCM; None passes mu-law on.
        """
        ...

    def stop_carrying(self) -> None:
        """Lets the caller's voice come to :meth:`Provider.hear` again."""
        ...

    def play(self, item_id: str, ulaw: Audio) -> None:
        """Queues audio for the caller: G.711 mu-law, 8000 Hz, mono, any length."""
        ...

    def complete(self) -> None:
        """Says that the last item played is whole."""
        ...

    def interrupt(self) -> Interruption:
        """Drops, here and at Twilio, everything the caller has not heard yet."""
        ...

    def start_soon(self, run: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Runs something in a task of the call; it is cancelled when the call ends."""
        ...

    def warn(self, text: str) -> None:
        """Logs something that went wrong, with the call's id."""
        ...

    def crash(self, error: Exception) -> None:
        """Ends the call because a callback of the mover raised."""
        ...


class Provider(Protocol):
    """The voice on the other side of a call."""

    def hear(self, payload: str, ulaw: bytes) -> None:
        """Takes a piece of the caller's voice; never waits.

        Args:
            payload: Base64 of ``ulaw``.
            ulaw: G.711 mu-law, 8000 Hz, mono, any length; gaps are repaired already.
        """
        ...

    def keys_pressed(self, digits: str) -> None:
        """Takes the keys that the caller pressed in one go."""
        ...

    async def run(self) -> None:
        """Holds the conversation until it is cancelled.

        Raises:
            ProviderError: The provider refused or was lost, and trying again did not help.
        """
        ...

    def figures(self) -> dict[str, Any]:
        """What happened, for the call's record."""
        ...


MakeProvider = Callable[[CallPort], Provider]
