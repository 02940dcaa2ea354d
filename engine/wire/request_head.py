"""Where a new connection belongs, judged by the beginning of its first request.

Owns the question "is this the upgrade of the media socket?" and nothing more: it neither validates the request nor
consumes it, so whoever gets the connection reads it from the first byte. What is not certainly the upgrade goes to
the HTTP server, which knows how to refuse it.
"""

from __future__ import annotations

import enum
import re

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")


class Destination(enum.Enum):
    """Who gets a connection."""

    UNDECIDED = "undecided"
    MEDIA = "media"
    HTTP = "http"


def find_destination(received: bytes, *, media_path: bytes, limit_bytes: int) -> Destination:
    """Judge a connection by all that it has sent so far.

    Args:
        received: The bytes from the start of the connection; bytes behind the request's head do not matter.
        media_path: The path of the media socket, beginning with a slash. A query behind it does not matter.
        limit_bytes: A head that is longer than this is left to the HTTP server.

    Returns:
        `MEDIA` for a complete `GET` of `media_path` with `Upgrade: websocket`, `UNDECIDED` while it may become one,
        else `HTTP`. Once it is not `UNDECIDED`, more bytes do not change it.
    """
    wanted = b"GET " + media_path
    if not received.startswith(wanted[: len(received)]):
        return Destination.HTTP
    end = _HEAD_END.search(received, 0, limit_bytes)
    if end is None:
        return Destination.HTTP if len(received) >= limit_bytes else Destination.UNDECIDED
    request_line, *fields = _LINE_END.split(received[: end.start()])
    is_media = _names_target(request_line, media_path) and any(_asks_for_websocket(field) for field in fields)
    return Destination.MEDIA if is_media else Destination.HTTP


def _names_target(request_line: bytes, media_path: bytes) -> bool:
    """Tell whether the line is `GET media_path[?query] HTTP/1.1`, the only version that knows upgrades."""
    parts = request_line.split(b" ")
    return len(parts) == 3 and parts[1].partition(b"?")[0] == media_path and parts[2] == b"HTTP/1.1"


def _asks_for_websocket(field: bytes) -> bool:
    name, _, value = field.partition(b":")
    return name.lower() == b"upgrade" and b"websocket" in (token.strip().lower() for token in value.split(b","))
