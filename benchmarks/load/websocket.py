"""WebSocket frames by hand (RFC 6455): just enough for both far ends, strict about what the engine sends.

Owns handshakes, building frames and taking them apart. Extensions are never agreed to, so any RSV bit is a breach.
Breaches are reported, not raised: a load run goes on and counts them.
"""

import base64
import hashlib
from collections.abc import Callable

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTROL = 8
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Far above any message of either protocol as the engine speaks it.
_LARGEST_MESSAGE_BYTES = 1 << 20


def accept_value(key: bytes) -> bytes:
    """`Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  the RFC's choice; it guards nothing


def _head(opcode: int, size: int, mask_bit: int) -> bytes:
    if size < 126:
        return bytes((0x80 | opcode, mask_bit | size))
    if size < 65536:
        return bytes((0x80 | opcode, mask_bit | 126, size >> 8, size & 255))
    return bytes((0x80 | opcode, mask_bit | 127)) + size.to_bytes(8, "big")


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One unmasked frame, as a server sends it."""
    return _head(opcode, len(payload), 0) + payload


def apply_mask(payload: bytes, key: bytes) -> bytes:
    """XOR a payload with a repeated 4-byte key; as one big integer, about a microsecond for 300 bytes."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


class ClientFrames:
    """Builds masked frames with one key per connection.

    A real client draws a key per frame; a constant one costs the receiver the same and the sender less.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Key repeated to a payload's length, as an integer, by length.
        self._masks: dict[int, int] = {}

    def build(self, payload: bytes, opcode: int = TEXT) -> bytes:
        """One masked frame."""
        size = len(payload)
        mask = self._masks.get(size)
        if mask is None:
            mask = self._masks[size] = int.from_bytes((self._key * (size // 4 + 1))[:size], "little")
        masked = (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
        return _head(opcode, size, 0x80) + self._key + masked


class FrameReader:
    """Takes received bytes, gives whole messages; checks masking, RSV bits, lengths and fragmentation."""

    def __init__(self, *, masked: bool, breach: Callable[[str, bytes], None]) -> None:
        self._mask_bit = 0x80 if masked else 0
        self._breach = breach
        self._common_head = bytes((0x80 | TEXT, self._mask_bit | 126))
        self._head_bytes = 8 if masked else 4
        # Bytes of a frame not complete yet.
        self._rest = b""
        # Fragments of a message not complete yet, and its opcode.
        self._fragments: list[bytes] = []
        self._fragmented_opcode = 0
        # Masking key of the last frame, and how often one followed itself.
        self._last_key = b""
        self.repeated_keys = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame or of a fragmented message is held."""
        return not self._rest and not self._fragments

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Messages completed by `data`, as (opcode, payload)."""
        if self._rest:
            data = self._rest + data
        elif (
            not self._fragments
            and data[:2] == self._common_head
            and len(data) - self._head_bytes == (size := data[2] << 8 | data[3])
            and size >= 126
        ):
            # By far the most: one whole text frame of 126 to 65,535 bytes, where none of the rules below can be broken.
            payload = data[self._head_bytes :]
            return [(TEXT, self._unmask(payload, data[4:8]) if self._mask_bit else payload)]
        position, end = 0, len(data)
        messages: list[tuple[int, bytes]] = []
        while end - position >= 2:
            first, second = data[position], data[position + 1]
            size, start = second & 0x7F, position + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            key_start = start
            if second & 0x80:
                start += 4
            if start > end or end - start < size:
                break
            payload = data[start : start + size]
            if second & 0x80:
                payload = self._unmask(payload, data[key_start:start])
            self._check(first, second, size)
            position = start + size
            if first & 0x80 and first & 0x0F and (first & 0x0F >= _CONTROL or not self._fragments):
                messages.append((first & 0x0F, payload))
            else:
                self._assemble(first, payload, messages)
        self._rest = data[position:]
        if len(self._rest) > _LARGEST_MESSAGE_BYTES:
            self._breach("websocket: message over 1 MiB", self._rest[:40])
            self._rest = b""
        return messages

    def _unmask(self, payload: bytes, key: bytes) -> bytes:
        if key == self._last_key:
            self.repeated_keys += 1
        self._last_key = key
        return apply_mask(payload, key)

    def _check(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        head = bytes((first, second))
        if first & 0x70:
            self._breach("websocket: reserved bit set", head)
        if second & 0x80 != self._mask_bit:
            self._breach("websocket: wrong masking", head)
        if (second & 0x7F == 126 and size < 126) or (second & 0x7F == 127 and size < 65536):
            self._breach("websocket: length not minimal", head)
        if opcode not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            self._breach("websocket: unknown opcode", head)
        if opcode >= _CONTROL and (not first & 0x80 or size > 125):
            self._breach("websocket: control frame fragmented or over 125 bytes", head)

    def _assemble(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if bool(opcode) == bool(self._fragments):
            self._breach("websocket: continuation out of place", bytes((first,)))
            self._fragments = []
        if opcode:
            self._fragmented_opcode = opcode
        self._fragments.append(payload)
        if first & 0x80:
            messages.append((self._fragmented_opcode, b"".join(self._fragments)))
            self._fragments = []
