"""Sample-rate conversion between 8000 Hz and 16000 or 24000 Hz: what telephones and voice providers need, at a fraction of the cost.

Owns the streams that `codec_c/polyphase.h` converts by fixed filters, with G.711 mu-law at either side in the same call where
that is wanted. Refuses every other ratio, which `engine.audio.resample` has; `make_resampler` chooses between the two.

What always holds, as in `engine.audio.resample`:

* The output is aligned with the input: sample j of the output lies at the time of sample `j * input_hz / output_hz` of the input.
  The filters look ahead by 1.5 ms: output is handed over that much later, but never shifted.
* How many samples each call gives depends only on how many went in so far; their values do not depend on how the input was cut,
  nor on the machine.
* After `flush`, exactly `round(input samples * output_hz / input_hz)` samples have been given.

The filters keep 0 to 3400 Hz within 0.1 dB; images and aliases of that band are at least 70 dB down (docs/resampling.md). One
stream has one user at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from engine._codec import ffi, lib
from engine.audio.resample import Quality, Resampler

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

Bytes: TypeAlias = bytes | bytearray | memoryview

TELEPHONE_HZ: Final = 8000
LOOKAHEAD_MS: Final = 1.5
"""How much later the output is handed over."""

_WIDEBAND_HZ: Final = frozenset({16000, 24000})
_BYTES_PER_SAMPLE: Final = 2
_MOST_FLUSHED_SAMPLES: Final = 36  # POLYPHASE_MOST_FLUSHED
_CODE_FORMATS: Final = frozenset({"B", "b", "c"})
_SAMPLE_FORMATS: Final = _CODE_FORMATS | {"h", "<h"}
_CHARS: Final = ffi.typeof("char[]")  # parsed once: cffi would look the text up at each allocation
_STATE: Final = ffi.typeof("polyphase *")


class RateConverter(Protocol):
    """One stream of int16 little-endian mono samples on its way from one rate to another."""

    def process(self, pcm: Bytes, /) -> bytes:
        """Take the next samples and give those of the output that are certain by now."""
        ...

    def flush(self) -> bytes:
        """End the stream: give the samples still owed. The next input begins a new stream."""
        ...


class PolyphaseResampler:
    """Converts one stream of int16 little-endian mono samples between 8000 Hz and 16000 or 24000 Hz."""

    def __init__(self, input_hz: int, output_hz: int) -> None:
        """Start a stream.

        Raises:
            ValueError: One rate is not 8000, or the other neither 16000 nor 24000.
        """
        self._state = _start_stream(input_hz, output_hz)
        # how many bytes of output one sample of input can complete
        self._most_bytes = max(output_hz // input_hz, 1) * _BYTES_PER_SAMPLE

    def process(self, pcm: Bytes, /) -> bytes:
        """Take the next samples and give those of the output that are certain by now.

        Args:
            pcm: int16 little-endian, mono, at `input_hz`; any number of samples, also none.

        Returns:
            int16 little-endian, mono, at `output_hz`, rounded to the nearest; beyond full scale it saturates.

        Raises:
            ValueError: `pcm` is not a whole number of samples.
            TypeError: `pcm` holds something else than bytes or int16.
            BufferError: `pcm` is not contiguous.
        """
        source, size_bytes = (pcm, len(pcm)) if type(pcm) is bytes else _borrow(pcm, _SAMPLE_FORMATS)
        samples = _count_samples(size_bytes)
        output = ffi.new(_CHARS, samples * self._most_bytes)
        given = lib.polyphase_convert(self._state, output, source, samples)
        return ffi.unpack(output, given * _BYTES_PER_SAMPLE)

    def flush(self) -> bytes:
        """End the stream: give the samples still owed, as if silence followed the input. The next input begins a new stream."""
        return _flush_pcm(self._state)


class UlawUpsampler:
    """Converts one stream of mu-law codes at 8000 Hz to int16 little-endian mono samples at 16000 or 24000 Hz."""

    def __init__(self, output_hz: int) -> None:
        """Start a stream.

        Raises:
            ValueError: `output_hz` is neither 16000 nor 24000.
        """
        self._state = _start_stream(TELEPHONE_HZ, output_hz)
        self._bytes_per_code = output_hz // TELEPHONE_HZ * _BYTES_PER_SAMPLE

    @property
    def state(self) -> CData:
        """The stream, for C code that takes turns with this object; it lives as long as this does."""
        return self._state

    def process(self, ulaw: Bytes, /) -> bytes:
        """Take the next codes and give the samples that are certain by now: what `PolyphaseResampler` gives for them, decoded.

        Raises:
            TypeError: `ulaw` does not consist of bytes.
            BufferError: `ulaw` is not contiguous.
        """
        source, codes = (ulaw, len(ulaw)) if type(ulaw) is bytes else _borrow(ulaw, _CODE_FORMATS)
        pcm = ffi.new(_CHARS, codes * self._bytes_per_code)
        given = lib.polyphase_convert_from_ulaw(self._state, pcm, source, codes)
        return ffi.unpack(pcm, given * _BYTES_PER_SAMPLE)

    def flush(self) -> bytes:
        """End the stream: give the samples still owed, as if silence followed the input. The next input begins a new stream."""
        return _flush_pcm(self._state)


class UlawDownsampler:
    """Converts one stream of int16 little-endian mono samples at 16000 or 24000 Hz to mu-law codes at 8000 Hz."""

    def __init__(self, input_hz: int) -> None:
        """Start a stream.

        Raises:
            ValueError: `input_hz` is neither 16000 nor 24000.
        """
        self._state = _start_stream(input_hz, TELEPHONE_HZ)

    def process(self, pcm: Bytes, /) -> bytes:
        """Take the next samples and give the codes that are certain by now: what `PolyphaseResampler` gives, encoded.

        Raises:
            ValueError: `pcm` is not a whole number of samples.
            TypeError: `pcm` holds something else than bytes or int16.
            BufferError: `pcm` is not contiguous.
        """
        source, size_bytes = (pcm, len(pcm)) if type(pcm) is bytes else _borrow(pcm, _SAMPLE_FORMATS)
        samples = _count_samples(size_bytes)
        ulaw = ffi.new(_CHARS, samples)
        return ffi.unpack(ulaw, lib.polyphase_convert_to_ulaw(self._state, ulaw, source, samples))

    def flush(self) -> bytes:
        """End the stream: give the codes still owed, as if silence followed the input. The next input begins a new stream."""
        ulaw = ffi.new(_CHARS, _MOST_FLUSHED_SAMPLES)
        return ffi.unpack(ulaw, lib.polyphase_flush_to_ulaw(self._state, ulaw))


def make_resampler(input_hz: int, output_hz: int, *, quality: Quality = "sinc_fastest") -> RateConverter:
    """Start a stream: by the fixed filters for the ratios they have, by libsamplerate for every other.

    Args:
        input_hz: Rate of the samples that go in.
        output_hz: Rate of the samples that come out.
        quality: What `Resampler` offers; only `sinc_fastest` gives way to the fixed filters.

    Raises:
        ValueError: As `Resampler`.
    """
    if quality == "sinc_fastest" and _is_fixed(input_hz, output_hz):
        return PolyphaseResampler(input_hz, output_hz)
    return Resampler(input_hz, output_hz, quality=quality)


def _is_fixed(input_hz: int, output_hz: int) -> bool:
    return min(input_hz, output_hz) == TELEPHONE_HZ and max(input_hz, output_hz) in _WIDEBAND_HZ


def _start_stream(input_hz: int, output_hz: int) -> CData:
    state = ffi.new(_STATE)
    if not _is_fixed(input_hz, output_hz) or lib.polyphase_start(state, input_hz, output_hz) != 0:
        raise ValueError(f"no fixed filter converts from {input_hz} Hz to {output_hz} Hz")
    return state


def _count_samples(size_bytes: int) -> int:
    if size_bytes % _BYTES_PER_SAMPLE:
        raise ValueError(f"{size_bytes} bytes are not a whole number of 16-bit samples")
    return size_bytes // _BYTES_PER_SAMPLE


def _borrow(data: Bytes, formats: frozenset[str]) -> tuple[CData, int]:
    view = memoryview(data)
    if view.format not in formats:
        raise TypeError(f"cannot convert a buffer of format {view.format!r}")
    return ffi.from_buffer(view), view.nbytes


def _flush_pcm(state: CData) -> bytes:
    pcm = ffi.new(_CHARS, _MOST_FLUSHED_SAMPLES * _BYTES_PER_SAMPLE)
    return ffi.unpack(pcm, lib.polyphase_flush(state, pcm) * _BYTES_PER_SAMPLE)
