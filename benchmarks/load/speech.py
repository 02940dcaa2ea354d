"""Audio that betrays its own position: any 20 ms of it occurs once, so loss, repetition and reordering show exactly.

The tape is band-limited noise whose loudness changes every 20 ms, endless (it repeats after 82 s, longer than any
search looks). Each direction of each call reads it from an origin of its own, so that crossed calls show as foreign
audio. Positions count 8 kHz samples since a direction's start, which are bytes in mu-law.
"""

import base64

import numpy as np

SAMPLES_PER_MS = 8
FRAME_SAMPLES = 160
PCM24K_BYTES_PER_SAMPLE = 6  # three 16-bit samples at 24 kHz for each at 8 kHz
_PERIOD_FRAMES = 4096
_PERIOD = _PERIOD_FRAMES * FRAME_SAMPLES
# Origins lie this far apart; coprime with the period, so that 4096 directions differ.
_ORIGIN_STEP_FRAMES = 797
# How far around the expected position lost audio is looked for.
_SEARCH_SAMPLES = 20_000 * SAMPLES_PER_MS
_TELEPHONE_BAND_HZ = (300.0, 3300.0)
_RMS = 3500.0
# A remainder shorter than this may occur by chance elsewhere on the tape.
_SHORTEST_SEARCHED = 16


def _noise_24k(seed: int) -> "np.ndarray[tuple[int], np.dtype[np.int16]]":
    """One period of the tape: int16, 24 kHz, mono, band-limited so that every third sample is the 8 kHz tape."""
    generator = np.random.default_rng(seed)
    loudness = np.repeat(generator.uniform(0.25, 1.0, _PERIOD_FRAMES), FRAME_SAMPLES * 3)
    spectrum = np.fft.rfft(generator.standard_normal(_PERIOD * 3) * loudness)
    frequencies_hz = np.fft.rfftfreq(_PERIOD * 3, 1 / 24_000)
    low_hz, high_hz = _TELEPHONE_BAND_HZ
    spectrum[(frequencies_hz < low_hz) | (frequencies_hz > high_hz)] = 0
    noise = np.fft.irfft(spectrum, _PERIOD * 3)
    louder: np.ndarray[tuple[int], np.dtype[np.float64]] = noise * (_RMS / noise.std())
    return louder.clip(-32_000, 32_000).astype(np.int16)


def ulaw_decoding_table() -> "np.ndarray[tuple[int], np.dtype[np.int16]]":
    """The int16 value of each of the 256 mu-law codes (ITU-T G.711, table 2, scaled to 16 bits)."""
    codes = ~np.arange(256) & 0xFF
    magnitude = (((codes & 0x0F) << 3) + 132 << ((codes >> 4) & 7)) - 132
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)


def _ulaw_encode(pcm: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> bytes:
    """Nearest mu-law code of each sample; any exact mu-law would do, the engine only passes it on."""
    table = ulaw_decoding_table().astype(np.int32)
    order = np.argsort(table, kind="stable")
    levels = table[order]
    right = np.clip(np.searchsorted(levels, pcm), 1, 255)
    nearer_left = pcm - levels[right - 1] <= levels[right] - pcm
    return bytes(order[np.where(nearer_left, right - 1, right)].astype(np.uint8))


class Tape:
    """The endless recording, in mu-law at 8 kHz and in PCM at 24 kHz."""

    def __init__(self, seed: int) -> None:
        pcm = _noise_24k(seed)
        ulaw = _ulaw_encode(pcm[::3])
        # Three periods of mu-law and two of PCM, so that a slice never wraps.
        self._ulaw = ulaw * 3
        self.period = _PERIOD
        self._pcm = pcm.tobytes() * 2
        # Base64 of each frame, as text.
        self._frames = [
            base64.b64encode(ulaw[start : start + FRAME_SAMPLES]).decode() for start in range(0, _PERIOD, FRAME_SAMPLES)
        ]

    @staticmethod
    def origin(direction: int) -> int:
        """Origin, in samples, of the n-th direction; whole frames."""
        return direction * _ORIGIN_STEP_FRAMES % _PERIOD_FRAMES * FRAME_SAMPLES

    @property
    def recording(self) -> bytes:
        """Three periods of mu-law."""
        return self._ulaw

    def frame_base64(self, origin: int, frame: int) -> str:
        """Base64 of the n-th 20 ms frame (160 bytes mu-law)."""
        return self._frames[(origin // FRAME_SAMPLES + frame) % _PERIOD_FRAMES]

    def ulaw(self, origin: int, position: int, size: int) -> bytes:
        """`size` samples of mu-law from a position; size at most one period."""
        start = (origin + position) % _PERIOD
        return self._ulaw[start : start + size]

    def holds(self, place: int, data: bytes) -> bool:
        """Whether these samples are what lies at origin + position `place`."""
        return self._ulaw.startswith(data, place % _PERIOD)

    def pcm24k(self, origin: int, position: int, size: int) -> bytes:
        """The same stretch as int16 little-endian at 24 kHz: `6 * size` bytes."""
        start = (origin + position) % _PERIOD * PCM24K_BYTES_PER_SAMPLE
        return self._pcm[start : start + size * PCM24K_BYTES_PER_SAMPLE]

    def find(self, origin: int, needle: bytes, low: int, high: int) -> int:
        """Position of `needle` between two positions of a direction, or -1."""
        low = max(low, 0)
        start = (origin + low) % _PERIOD
        found = self._ulaw.find(needle, start, start + (high - low))
        return -1 if found < 0 else low + found - start


class Follower:
    """Follows one direction of one call byte for byte and accounts for every departure from the tape.

    Attributes:
        position: samples of the direction accounted for, lost ones included; None before the first.
        lost, repeated, foreign, padding: samples never seen, seen again or late, found nowhere near (another call's,
            or damaged), and mu-law silence put in between.
    """

    def __init__(self, tape: Tape, origin: int) -> None:
        self._tape, self._origin = tape, origin
        self.position: int | None = None
        self.skipped_at_start = 0
        self.lost = self.repeated = self.foreign = self.padding = 0

    def jump(self, position: int) -> None:
        """Expect this position next; what lies between was given up on purpose."""
        if self.position is not None:
            self.position = max(self.position, position)

    def take(self, data: bytes, limit: int) -> int:
        """Account for received mu-law, of which no more than `limit` samples were ever sent; gives where it began."""
        if self.position is None:
            found = self._tape.find(self._origin, data, 0, limit)
            if found < 0:
                self.foreign += len(data)
                return 0
            self.position = self.skipped_at_start = found
        began = self.position
        size = len(data)
        if self._tape.holds(self._origin + began, data):
            self.position = ended = began + size
            if ended > limit:
                self.foreign += ended - limit
            return began
        self._resynchronise(data, limit)
        return began

    def _resynchronise(self, data: bytes, limit: int) -> None:
        assert self.position is not None
        while data:
            expected = self._tape.ulaw(self._origin, self.position, len(data))
            same = _common_prefix(expected, data)
            self.position += same
            data = data[same:]
            if not data:
                return
            silent = len(data) - len(data.lstrip(b"\xff"))
            if silent == len(data) or silent >= _SHORTEST_SEARCHED:
                self.padding += silent
                data = data[silent:]
                continue
            taken = self._relocate(data, limit)
            data = data[taken:]

    def _relocate(self, data: bytes, limit: int) -> int:
        """Find where `data` comes from; count what that means; gives how much of it is accounted for."""
        assert self.position is not None
        needle = data[: 2 * _SHORTEST_SEARCHED]
        ahead_to = min(limit, self.position + _SEARCH_SAMPLES)
        found = self._tape.find(self._origin, needle, self.position, ahead_to)
        if found >= 0:
            self.lost += found - self.position
            self.position = found
            return 0
        found = self._tape.find(self._origin, needle, self.position - _SEARCH_SAMPLES, self.position)
        if found < 0 and len(needle) >= _SHORTEST_SEARCHED:
            # Repeated audio may run into the expected position inside the needle.
            found = self._tape.find(
                self._origin, needle[:_SHORTEST_SEARCHED], max(0, self.position - 400), self.position
            )
        if found < 0:
            self.foreign += len(data)
            self.position += len(data)
            return len(data)
        again = min(
            self.position - found, len(data), _common_prefix(self._tape.ulaw(self._origin, found, len(data)), data)
        )
        self.repeated += again
        return max(again, 1)


def _common_prefix(left: bytes, right: bytes) -> int:
    """Length of the longest common beginning; bisects, as comparing slices is fast."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
