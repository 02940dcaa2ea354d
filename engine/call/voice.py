"""The provider's audio format and the telephone's, each turned into the other.

Owns the conversion in both directions. G.711 mu-law passes through byte for byte; 24 kHz PCM goes through codec and
resampler at once. Each item of the provider's speech has a resampler of its own, so that it ends to the sample where the
provider's audio ends: milliseconds counted on one side are milliseconds on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.audio.polyphase import UlawDownsampler, UlawUpsampler
from engine.call.pacer import BYTES_PER_MS, Audio
from engine.wire import realtime

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

PCM_HZ: Final = 24000
_PCM_BYTES_PER_MS: Final = PCM_HZ // 1000 * 2


class Voice(Protocol):
    """Audio to and from one provider session."""

    @property
    def upsampler(self) -> CData | None:
        """The stream of the conversion to the provider, for C code that takes turns with it; None where there is none."""
        ...

    def append(self, payload: str, ulaw: bytes) -> bytes:
        """Makes the event that carries the caller's audio to the provider.

        Args:
            payload: Base64 of ``ulaw``.
            ulaw: G.711 mu-law, 8000 Hz, mono.

        Returns:
            The event; empty while the conversion holds everything back.
        """
        ...

    def hear(self, item_id: str, audio: Audio) -> Audio:
        """Turns a piece of an item's audio into mu-law, 8000 Hz, mono. Pieces may be cut anywhere."""
        ...

    def finish(self, item_id: str) -> bytes:
        """Returns what conversion still held back of an item that is complete."""
        ...

    def forget(self, item_id: str) -> None:
        """Drops what conversion holds of an item that is not wanted any more."""
        ...

    def length_ms(self, n_bytes: int) -> int:
        """How long the provider's audio of ``n_bytes`` is, in whole milliseconds."""
        ...


class PassThroughVoice:
    """The provider speaks ``audio/pcmu``."""

    @property
    def upsampler(self) -> CData | None:
        """None."""
        return None

    def append(self, payload: str, ulaw: bytes) -> bytes:
        """Puts the payload into the event as it is."""
        return realtime.append_audio(payload)

    def hear(self, item_id: str, audio: Audio) -> Audio:
        """Returns the audio as it is."""
        return audio

    def finish(self, item_id: str) -> bytes:
        """Returns nothing: nothing is held back."""
        return b""

    def forget(self, item_id: str) -> None:
        """Does nothing: nothing is held back."""

    def length_ms(self, n_bytes: int) -> int:
        """8 bytes a millisecond."""
        return n_bytes // BYTES_PER_MS


class TranscodedVoice:
    """The provider speaks ``audio/pcm``: 16-bit little-endian, 24000 Hz, mono."""

    def __init__(self) -> None:
        self._up = UlawUpsampler(PCM_HZ)
        # the item being converted, its resampler, and half a sample that came at the end of a piece
        self._item_id = ""
        self._down = UlawDownsampler(PCM_HZ)
        self._odd = b""

    @property
    def upsampler(self) -> CData | None:
        """The stream from 8 kHz mu-law to 24 kHz PCM."""
        return self._up.state

    def append(self, payload: str, ulaw: bytes) -> bytes:
        """Decodes and resamples; what the filter holds back comes with the next piece."""
        pcm = self._up.process(ulaw)
        return realtime.append_pcm(pcm) if pcm else b""

    def hear(self, item_id: str, audio: Audio) -> Audio:
        """Resamples and encodes; pieces may even cut a sample in two."""
        if item_id != self._item_id:
            self._begin(item_id)
        audio = self._odd + bytes(audio)
        whole = len(audio) & ~1
        self._odd = audio[whole:]
        return self._down.process(audio[:whole])

    def _begin(self, item_id: str) -> None:
        self._item_id = item_id
        self._down = UlawDownsampler(PCM_HZ)
        self._odd = b""

    def finish(self, item_id: str) -> bytes:
        """Flushes the filter."""
        if item_id != self._item_id:
            return b""
        tail = self._down.flush()
        self._begin("")
        return tail

    def forget(self, item_id: str) -> None:
        """Drops the filter's content."""
        if item_id == self._item_id:
            self._begin("")

    def length_ms(self, n_bytes: int) -> int:
        """48 bytes a millisecond."""
        return n_bytes // _PCM_BYTES_PER_MS


def make_voice(audio: str) -> Voice:
    """Makes the conversion for ``OPENAI_AUDIO``: ``pcmu`` or ``pcm24k``."""
    if audio == "pcmu":
        return PassThroughVoice()
    return TranscodedVoice()
