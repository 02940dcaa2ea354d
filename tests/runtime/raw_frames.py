"""WebSocket frames (RFC 6455, section 5.2) as a peer might write them, right or wrong."""

from __future__ import annotations

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes, mask: bytes | None, *, fin: bool = True, reserved: int = 0) -> bytes:
    """Writes a frame; ``mask`` is None for a server's."""
    n = len(payload)
    length, extended = (n, b"") if n < 126 else (126, n.to_bytes(2)) if n < 65536 else (127, n.to_bytes(8))
    head = bytes([fin << 7 | reserved << 4 | opcode, length | (0x80 if mask is not None else 0)]) + extended
    if mask is None:
        return head + payload
    repeated = (mask * (n // 4 + 1))[:n]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(n)


def text_frame(text: str, mask: bytes | None) -> bytes:
    """Writes a whole text message in one frame."""
    return frame(TEXT, text.encode(errors="surrogatepass"), mask)


def frame_ends(data: bytes) -> list[int]:
    """Says where the frames end that lie one behind the other."""
    ends: list[int] = []
    at = 0
    while at + 2 <= len(data):
        length, n_mask = data[at + 1] & 0x7F, 4 if data[at + 1] & 0x80 else 0
        n_extended = {126: 2, 127: 8}.get(length, 0)
        n = int.from_bytes(data[at + 2 : at + 2 + n_extended]) if n_extended else length
        at += 2 + n_extended + n_mask + n
        ends.append(at)
    return ends
