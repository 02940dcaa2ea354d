"""Sample-rate conversion of a stream, at any ratio, by libsamplerate's band-limited interpolation.

Owns the conversion of one mono stream. Refuses interleaved channels (use one `Resampler` for each) and half samples.

What always holds:

* The output is aligned with the input: sample j of the output lies at the time of sample `j * input_hz / output_hz` of the input.
  The filter needs to look ahead, so output is handed over later, but never shifted.
* How many samples each call gives depends only on how many went in so far; their values do not depend on how the input was cut.
* After `flush`, exactly `round(input samples * output_hz / input_hz)` samples have been given.

Lookahead of the qualities, in samples at the lower of both rates, and libsamplerate's own figures for them:

==============  =========  ==================  =====================  ===============
quality         lookahead  at 8000 Hz          signal-to-noise ratio  passband kept
==============  =========  ==================  =====================  ===============
sinc_fastest    22         2.75 ms             97 dB                  80 %
sinc_medium     49         6.1 ms              121 dB                 90 %
sinc_best       146        18.3 ms             144 dB                 97 %
==============  =========  ==================  =====================  ===============
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np
import samplerate
from numpy.typing import NDArray

Quality: TypeAlias = Literal["sinc_fastest", "sinc_medium", "sinc_best"]

# libsamplerate's filters span (coefficients + 2) / increment samples on each side: 2464/128, 22438/491 and 340239/2381. It makes an
# output once it holds one sample more than that; the last one is for the output's own place between two input samples.
_LOOKAHEAD_SAMPLES: Final[Mapping[str, int]] = MappingProxyType(
    {"sinc_fastest": 22, "sinc_medium": 49, "sinc_best": 146}
)
_MOST_RATIO: Final = 256  # libsamplerate's SRC_MAX_RATIO, in both directions
_BYTES_PER_SAMPLE: Final = 2
_SILENCE_SAMPLES: Final = 256  # silence after the end, in one pull


class _Source:
    """What libsamplerate pulls its input from. Apart from `Resampler`, since a cycle through C++ is never collected."""

    def __init__(self) -> None:
        # input not pulled yet, float32 at int16's scale
        self.blocks: deque[NDArray[np.float32]] = deque()
        self.silence_follows = False

    def next_block(self) -> NDArray[np.float32]:
        """The next input there is; an empty block would end libsamplerate's stream for good."""
        if self.blocks:
            return self.blocks.popleft()
        if self.silence_follows:
            return np.zeros(_SILENCE_SAMPLES, np.float32)
        raise RuntimeError("asked for more than the lookahead allows")  # a bug here: `process` asks for what is certain


class Resampler:
    """Converts one stream of int16 little-endian mono samples from one rate to another."""

    def __init__(self, input_hz: int, output_hz: int, *, quality: Quality = "sinc_fastest") -> None:
        """Start a stream.

        Args:
            input_hz: Rate of the samples that go in.
            output_hz: Rate of the samples that come out; with equal rates, samples pass through untouched.
            quality: A name from the module's table: what costs more delays more and keeps more.

        Raises:
            ValueError: A rate is not positive, the ratio is beyond 1:256, or there is no such quality.
        """
        if input_hz <= 0 or output_hz <= 0 or max(input_hz, output_hz) > _MOST_RATIO * min(input_hz, output_hz):
            raise ValueError(f"cannot convert from {input_hz} Hz to {output_hz} Hz")
        if quality not in _LOOKAHEAD_SAMPLES:
            raise ValueError(f"no such quality: {quality!r}; there are {', '.join(_LOOKAHEAD_SAMPLES)}")
        self._ratio = Fraction(output_hz, input_hz)
        # how many input samples beyond an output's own place must have arrived before it is asked for
        self._lookahead_samples = ceil(_LOOKAHEAD_SAMPLES[quality] / min(self._ratio, Fraction(1)))
        self._source = _Source()
        self._converter = samplerate.CallbackResampler(self._source.next_block, float(self._ratio), quality, 1)
        # samples of this stream taken and given so far
        self._input_samples = 0
        self._output_samples = 0

    def process(self, pcm: bytes | bytearray | memoryview) -> bytes:
        """Take the next samples and give those of the output that are certain by now.

        Args:
            pcm: int16 little-endian, mono, at `input_hz`; any number of samples, also none.

        Returns:
            int16 little-endian, mono, at `output_hz`; beyond full scale it saturates.

        Raises:
            ValueError: `pcm` is not a whole number of samples.
        """
        if len(pcm) % _BYTES_PER_SAMPLE:
            raise ValueError(f"{len(pcm)} bytes are not a whole number of 16-bit samples")
        if self._ratio == 1:
            return bytes(pcm)
        if not pcm:
            return b""
        self._source.blocks.append(np.frombuffer(pcm, "<i2").astype(np.float32))
        self._input_samples += len(pcm) // _BYTES_PER_SAMPLE
        certain_samples = (self._input_samples - self._lookahead_samples) * self._ratio // 1 + 1
        return self._read(certain_samples - self._output_samples)

    def flush(self) -> bytes:
        """End the stream: give the samples still owed, as if silence followed the input. The next input begins a new stream."""
        self._source.silence_follows = True
        tail = self._read(round(self._input_samples * self._ratio) - self._output_samples)
        self._converter.reset()
        self._source.blocks.clear()
        self._source.silence_follows = False
        self._input_samples = self._output_samples = 0
        return tail

    def _read(self, samples: int) -> bytes:
        if samples <= 0:
            return b""
        wave: NDArray[np.float32] = self._converter.read(samples)
        self._output_samples += samples
        return np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes()
