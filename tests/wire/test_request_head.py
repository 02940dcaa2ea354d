"""Where a connection belongs, judged byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.request_head import Destination, find_destination

UPGRADE = (
    b"GET /media-stream HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMIT = 16 * 1024


def judge(received: bytes, limit_bytes: int = LIMIT) -> Destination:
    return find_destination(received, media_path=b"/media-stream", limit_bytes=limit_bytes)


def test_a_head_is_judged_when_it_is_complete_and_not_before() -> None:
    for length in range(len(UPGRADE)):
        assert judge(UPGRADE[:length]) is Destination.UNDECIDED
    assert judge(UPGRADE) is Destination.MEDIA
    assert judge(UPGRADE + b"\x81\x80noise\r\n\r\n") is Destination.MEDIA


@pytest.mark.parametrize(
    "upgrade",
    [
        UPGRADE.replace(b"Upgrade: websocket", b"upgrade:WebSocket"),
        UPGRADE.replace(b"Upgrade: websocket", b"UPGRADE: \t h2c , WEBSOCKET "),
        UPGRADE.replace(b"/media-stream", b"/media-stream?token=1"),
        UPGRADE.replace(b"\r\n", b"\n"),
    ],
)
def test_an_upgrade_may_be_written_in_many_ways(upgrade: bytes) -> None:
    assert judge(upgrade) is Destination.MEDIA


@pytest.mark.parametrize(
    "request_head",
    [
        UPGRADE.replace(b"Upgrade: websocket\r\n", b""),
        UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        UPGRADE.replace(b"Upgrade: websocket", b"X-Upgrade: websocket"),
        UPGRADE.replace(b"/media-stream", b"/media-streams"),
        UPGRADE.replace(b"/media-stream", b"/media-stream/"),
        UPGRADE.replace(b"/media-stream", b"/media-stream /x"),
        UPGRADE.replace(b"/media-stream", b"http://example.com/media-stream"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"GET", b"get"),
        b"\r\n" + UPGRADE,
        b"GET /media-stream\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_anything_else_belongs_to_the_http_server(request_head: bytes) -> None:
    assert judge(request_head) is Destination.HTTP


def test_what_cannot_become_the_upgrade_is_judged_at_its_first_wrong_byte() -> None:
    assert judge(b"P") is Destination.HTTP
    assert judge(b"GET /health") is Destination.HTTP
    assert judge(b"GET /m") is Destination.UNDECIDED


def test_a_head_that_does_not_end_in_time_belongs_to_the_http_server() -> None:
    huge = UPGRADE[:-2] + b"X: " + b"a" * LIMIT
    assert judge(huge[: LIMIT - 1]) is Destination.UNDECIDED
    assert judge(huge[:LIMIT]) is Destination.HTTP
    assert judge(huge[:LIMIT] + b"\r\n\r\n") is Destination.HTTP


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda noise: UPGRADE[:-2] + noise), st.data())
def test_a_judgement_is_final(received: bytes, data: st.DataObject) -> None:
    early = judge(received[: data.draw(st.integers(0, len(received)))])
    assert early in (Destination.UNDECIDED, judge(received))
