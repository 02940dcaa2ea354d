"""One leg of a call in the mover's C pass: its memory, and what it is told.

Owns the life of a ``struct leg`` (``codec_c/leg.h``) and of what that points to. Always holds: a carrier never points to a
provider's leg that is gone; what C may follow stays alive as long as the leg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine._codec import ffi, lib
from engine.call.pacer import FramePacer

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

CARRIER: Final = 0
PROVIDER: Final = 1


class Leg:
    """A leg. Made by the mover, which closes it.

    Args:
        leg_id: Its number, unique among the mover's legs.
        fd: The socket to read and write; None for one that is read and written by other means (TLS).
        side: :data:`CARRIER` or :data:`PROVIDER`.
        frame_limit_bytes: Longer messages are left to the WebSocket library.

    Raises:
        MemoryError: There is none.
    """

    def __init__(self, leg_id: int, fd: int | None, side: int, frame_limit_bytes: int) -> None:
        self.leg_id = leg_id
        self.state: CData = lib.leg_new(leg_id, -1 if fd is None else fd, side, frame_limit_bytes)
        if not self.state:
            raise MemoryError
        # of a carrier, where its media goes; of a provider, whose media comes here
        self._provider: Leg | None = None
        self._carrier: Leg | None = None
        # what C follows and Python owns
        self._stream_kept: tuple[object, ...] = ()
        self._upsampler: CData | None = None

    def begin_stream(self, stream_sid: str, media_head: bytes, pacer: FramePacer) -> None:
        """Says what a carrier's media looks like, and whose frames it sends.

        Args:
            stream_sid: What every message of the stream must carry.
            media_head: Our media messages up to their payload.
            pacer: What the caller hears.
        """
        state = self.state
        sid, head = _allocate(stream_sid.encode(errors="replace")), _allocate(media_head)
        state.stream_sid, state.stream_sid_size = sid, len(sid)
        state.head, state.head_size = head, len(head)
        state.pacer = pacer.state
        self._stream_kept = (sid, head, pacer)

    def carry_to(self, provider: Leg, upsampler: CData | None) -> None:
        """Begins to carry a carrier's media to the provider without a word from Python.

        Where the carrier stands (``next_sequence``, ``expected_bytes``) must be right by then.

        Args:
            provider: Where to.
            upsampler: The stream of a conversion to 24 kHz PCM; None passes mu-law on.
        """
        self.stop_carrying()
        state = self.state
        state.up = ffi.NULL if upsampler is None else upsampler
        state.provider = provider.state
        state.fast = 1
        self._provider, provider._carrier = provider, self
        self._upsampler = upsampler

    @property
    def carries(self) -> bool:
        """Whether a carrier's media goes its short way."""
        return self._provider is not None

    def stop_carrying(self) -> None:
        """Leaves a carrier's media to Python again."""
        if self._provider is not None:
            self.state.fast = 0
            self.state.provider = ffi.NULL
            self._provider._carrier = None
            self._provider = None

    def close(self) -> None:
        """Gives the memory back; no other leg points here any more."""
        self.stop_carrying()
        if self._carrier is not None:
            self._carrier.stop_carrying()
        if self.state:
            lib.leg_free(self.state)
            self.state = ffi.NULL


def _allocate(data: bytes) -> CData:
    """Copies bytes to memory of C, which lives as long as the result."""
    memory = ffi.new("uint8_t[]", len(data))
    ffi.memmove(memory, data, len(data))
    return memory


def copy_bytes(data: CData, size: int) -> bytes:
    """Copies memory of C."""
    return ffi.buffer(data, size)[:]
