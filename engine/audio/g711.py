"""G.711: the one byte per sample of telephone networks, to and from 16-bit samples.

Owns the conversion of whole blocks, exact to the ITU's reference software for every one of the 65,536 samples and 256 codes
(protocols.md F). Refuses anything but mono int16 samples and bytes. Nothing is kept between calls: equal input gives equal
output, blocks may be cut anywhere, and any thread may call.

`pcm` is int16 little-endian, mono, at whatever rate the codes have (8000 Hz on telephones): `bytes`, a `bytearray`, a contiguous
`memoryview`, or a contiguous numpy array of int16. A 20 ms frame of 160 samples takes less than a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from engine._codec import ffi, lib

if TYPE_CHECKING:  # a name of the type stub only
    from engine._codec import CData

Bytes: TypeAlias = bytes | bytearray | memoryview
Pcm: TypeAlias = Bytes | NDArray[np.int16]

ULAW_SILENCE: Final = 0xFF
"""The mu-law code of sample 0; 0x7F decodes to 0 as well, but no encoder sends it."""
ALAW_SILENCE: Final = 0xD5
"""The A-law code of sample 0. It decodes to 8: A-law has no zero."""

_BYTES_PER_SAMPLE: Final = 2
_CHARS: Final = ffi.typeof("char[]")  # parsed once: cffi would look the text up at each allocation
_SAMPLE_FORMATS: Final = frozenset({"h", "<h", "B", "b", "c"})


def ulaw_encode(pcm: Pcm) -> bytes:
    """Encode samples as mu-law.

    Args:
        pcm: int16 little-endian samples, mono.

    Returns:
        One code per sample; `len(result) == len(pcm) // 2`, `pcm` counted in bytes.

    Raises:
        TypeError: `pcm` holds something else than bytes or int16.
        ValueError: `pcm` is not a whole number of samples.
        BufferError: `pcm` is not contiguous.
    """
    return _encode(lib.g711_ulaw_encode, pcm)


def ulaw_decode(ulaw: Bytes) -> bytes:
    """Decode mu-law codes to int16 little-endian samples; `len(result) == 2 * len(ulaw)`.

    Raises:
        TypeError: `ulaw` does not consist of bytes.
        BufferError: `ulaw` is not contiguous.
    """
    return _decode(lib.g711_ulaw_decode, ulaw)


def alaw_encode(pcm: Pcm) -> bytes:
    """Encode samples as A-law, with the even bits inverted as on the wire; takes and raises what `ulaw_encode` does."""
    return _encode(lib.g711_alaw_encode, pcm)


def alaw_decode(alaw: Bytes) -> bytes:
    """Decode A-law codes as they come from the wire; takes, gives and raises what `ulaw_decode` does."""
    return _decode(lib.g711_alaw_decode, alaw)


def _encode(encode_block: Callable[[CData, CData | bytes, int], None], pcm: Pcm) -> bytes:
    source, size_bytes = (pcm, len(pcm)) if type(pcm) is bytes else _borrow_samples(pcm)
    if size_bytes % _BYTES_PER_SAMPLE:
        raise ValueError(f"{size_bytes} bytes are not a whole number of 16-bit samples")
    samples = size_bytes // _BYTES_PER_SAMPLE
    codes = ffi.new(_CHARS, samples)
    encode_block(codes, source, samples)
    return ffi.unpack(codes, samples)


def _decode(decode_block: Callable[[CData, CData | bytes, int], None], codes: Bytes) -> bytes:
    source = codes if type(codes) is bytes else _borrow_codes(codes)
    count = len(codes)
    pcm = ffi.new(_CHARS, count * _BYTES_PER_SAMPLE)
    decode_block(pcm, source, count)
    return ffi.unpack(pcm, count * _BYTES_PER_SAMPLE)


def _borrow_samples(pcm: Pcm) -> tuple[CData, int]:
    view = memoryview(cast(Bytes, pcm))  # numpy's stubs own up to the buffer protocol from Python 3.12 on only
    if view.format not in _SAMPLE_FORMATS:
        raise TypeError(f"samples must be int16 or bytes, not of buffer format {view.format!r}")
    return ffi.from_buffer(view), view.nbytes


def _borrow_codes(codes: Bytes) -> CData:
    view = memoryview(codes)
    if view.itemsize != 1:
        raise TypeError(f"G.711 codes must be single bytes, not of buffer format {view.format!r}")
    return ffi.from_buffer(view)
