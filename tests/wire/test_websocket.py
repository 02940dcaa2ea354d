"""Our WebSocket wired back to back with wsproto: whole, split at every byte, and followed by noise."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events as peer_events
from wsproto.frame_protocol import CloseReason

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.websocket import (
    Binary,
    ClientHandshake,
    Closed,
    Message,
    PongReceived,
    RefusedHandshake,
    ServerHandshake,
    Text,
    WebSocket,
)

LIMIT_BYTES = 2000
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
NOISE = b"\xff" * 20
REQUEST = (
    b"GET /media-stream HTTP/1.1\r\nHost: engine.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Twilio-Signature: abc=\r\n\r\n"
)
ACCEPT_KEY = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3


def frame(opcode: int, payload: bytes = b"", *, masked: bool, fin: bool = True, reserved: int = 0) -> bytes:
    """A frame by hand, for what no library writes (RFC 6455 5.2)."""
    head = bytes([fin << 7 | reserved << 4 | opcode])
    mask_bit = masked << 7
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    else:
        head += bytes([mask_bit | 126]) + len(payload).to_bytes(2)
    if not masked:
        return head + payload
    key = b"\x11\x22\x33\x44"
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


@dataclass
class Pair:
    """Our side, and wsproto's."""

    ours: WebSocket
    peer: wsproto.WSConnection
    # whether what the peer sends is masked: it is the client
    masked: bool

    def frame(self, opcode: int, payload: bytes = b"", **options: int) -> bytes:
        return frame(opcode, payload, masked=self.masked, **options)  # type: ignore[arg-type]

    def seen_by_peer(self) -> list[peer_events.Event]:
        self.peer.receive_data(self.ours.take_outgoing())
        return list(self.peer.events())


def serve() -> Pair:
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    handshake = ServerHandshake(LIMIT_BYTES)
    assert handshake.receive(peer.send(peer_events.Request(host="engine.example", target="/media-stream"))) is not None
    response, ours, behind = handshake.accept()
    peer.receive_data(response)
    assert [type(event) for event in peer.events()] == [peer_events.AcceptConnection]
    assert behind == b""
    return Pair(ours, peer, masked=True)


def connect() -> Pair:
    peer = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    handshake = ClientHandshake("ws://provider.example/v1/realtime?model=m", (), LIMIT_BYTES)
    peer.receive_data(handshake.request())
    assert [type(event) for event in peer.events()] == [peer_events.Request]
    opened = handshake.receive(peer.send(peer_events.AcceptConnection()))
    assert opened is not None
    assert opened[1] == b""
    return Pair(opened[0], peer, masked=False)


@pytest.fixture(params=[serve, connect], ids=["as server", "as client"])
def pair(request: pytest.FixtureRequest) -> Pair:
    made: Pair = request.param()
    return made


def whole(ours: WebSocket, data: bytes) -> list[Message]:
    return ours.receive(data)


def bytewise(ours: WebSocket, data: bytes) -> list[Message]:
    return [message for index in range(len(data)) for message in ours.receive(data[index : index + 1])]


def with_noise(ours: WebSocket, data: bytes) -> list[Message]:
    messages = ours.receive(data + NOISE)
    closed = [message for message in messages if isinstance(message, Closed)]
    assert len(closed) == 1  # the noise itself ends the connection, if nothing did before
    assert messages[-1] is closed[0]
    if closed[0].reason == "invalid opcode":
        messages.pop()
    assert ours.receive(NOISE) == []
    return messages


@pytest.fixture(params=[whole, bytewise, with_noise])
def deliver(request: pytest.FixtureRequest) -> Callable[[WebSocket, bytes], list[Message]]:
    way: Callable[[WebSocket, bytes], list[Message]] = request.param
    return way


Deliver = Callable[[WebSocket, bytes], list[Message]]


# ------------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("text", ["", "x", "Grüße 🎉", "x" * 125, "x" * 126, "x" * LIMIT_BYTES])
def test_a_text_arrives(pair: Pair, deliver: Deliver, text: str) -> None:
    assert deliver(pair.ours, pair.peer.send(peer_events.TextMessage(data=text))) == [Text(text)]


def test_a_binary_message_arrives_as_such(pair: Pair, deliver: Deliver) -> None:
    assert deliver(pair.ours, pair.peer.send(peer_events.BytesMessage(data=b"\0\xff"))) == [Binary(b"\0\xff")]


def test_messages_arrive_in_order(pair: Pair, deliver: Deliver) -> None:
    data = b"".join(pair.peer.send(peer_events.TextMessage(data=str(number))) for number in range(20))
    assert deliver(pair.ours, data) == [Text(str(number)) for number in range(20)]


def test_fragments_are_joined_also_within_a_character(pair: Pair, deliver: Deliver) -> None:
    euro = "€".encode()
    data = (
        pair.frame(TEXT, b"a" + euro[:1], fin=False)
        + pair.frame(CONT, euro[1:2], fin=False)
        + pair.frame(CONT, b"", fin=False)
        + pair.frame(CONT, euro[2:])
        + pair.frame(BINARY, b"\1", fin=False)
        + pair.frame(CONT, b"\2")
        + pair.frame(TEXT, b"whole")
    )
    assert deliver(pair.ours, data) == [Text("a€"), Binary(b"\1\2"), Text("whole")]


def test_fragments_of_the_other_implementation_are_joined(pair: Pair, deliver: Deliver) -> None:
    data = pair.peer.send(peer_events.TextMessage(data="one ", message_finished=False))
    data += pair.peer.send(peer_events.Ping(payload=b"between"))
    data += pair.peer.send(peer_events.TextMessage(data="two", message_finished=True))
    assert deliver(pair.ours, data) == [Text("one two")]


def test_pings_between_fragments_are_answered_in_order(pair: Pair) -> None:
    data = pair.frame(PING, b"0") + pair.frame(TEXT, b"a", fin=False) + pair.frame(PING, b"1")
    assert bytewise(pair.ours, data + pair.frame(PONG, b"late") + pair.frame(CONT, b"b")) == [
        PongReceived(b"late"),
        Text("ab"),
    ]
    assert pair.seen_by_peer() == [peer_events.Pong(payload=b"0"), peer_events.Pong(payload=b"1")]
    assert pair.ours.take_outgoing() == b""


def test_what_we_send_is_understood(pair: Pair) -> None:
    pair.peer.receive_data(pair.ours.text("Grüße".encode()) + pair.ours.text(b"x" * 70_000) + pair.ours.ping(b"42"))
    received = list(pair.peer.events())
    assert [event.data for event in received if isinstance(event, peer_events.TextMessage)] == ["Grüße", "x" * 70_000]
    pings = [event for event in received if isinstance(event, peer_events.Ping)]
    assert pair.ours.receive(pair.peer.send(pings[0].response())) == [PongReceived(b"42")]


@given(texts=st.lists(st.text(max_size=200), max_size=8), data=st.data())
def test_however_the_bytes_are_cut_the_messages_are_the_same(texts: list[str], data: st.DataObject) -> None:
    for made in (serve(), connect()):
        stream = b"".join(made.peer.send(peer_events.TextMessage(data=text)) for text in texts)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        messages = [message for piece in pieces if piece for message in made.ours.receive(piece)]
        assert messages == [Text(text) for text in texts]


@given(data=st.binary(max_size=300))
def test_no_bytes_raise_anything(data: bytes) -> None:
    for made in (serve(), connect()):
        messages = made.ours.receive(data) + made.ours.receive(b"") if data else made.ours.receive(b"")
        assert isinstance(messages[-1], Closed)
        assert sum(isinstance(message, Closed) for message in messages) == 1
        assert not made.ours.is_open
        assert made.ours.receive(data) == []


# ----------------------------------------------------------------------------------------------------------- violations


def assert_ended_with(pair: Pair, messages: list[Message], code: int) -> None:
    assert isinstance(messages[-1], Closed)
    assert (messages[-1].code, messages[-1].by_peer) == (code, False)
    assert not pair.ours.is_open
    assert pair.ours.close_expected
    seen = pair.seen_by_peer()
    assert [event.code for event in seen if isinstance(event, peer_events.CloseConnection)] == [code]
    assert pair.ours.receive(pair.frame(TEXT, b"more")) == []
    assert pair.ours.receive(b"") == []
    assert not pair.ours.close_expected


def test_a_message_beyond_the_limit_closes_with_1009(pair: Pair, deliver: Deliver) -> None:
    assert_ended_with(pair, deliver(pair.ours, pair.frame(TEXT, b"x" * (LIMIT_BYTES + 1))), 1009)


def test_the_length_alone_tells_that_a_message_is_beyond_the_limit(pair: Pair) -> None:
    head = pair.frame(TEXT, b"x" * (LIMIT_BYTES + 1))[:8]
    assert_ended_with(pair, pair.ours.receive(head), 1009)


def test_fragments_that_add_up_beyond_the_limit_close_with_1009(pair: Pair, deliver: Deliver) -> None:
    half = b"x" * (LIMIT_BYTES // 2 + 1)
    assert_ended_with(pair, deliver(pair.ours, pair.frame(TEXT, half, fin=False) + pair.frame(CONT, half)), 1009)


@pytest.mark.parametrize("payload", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"good \xe2\x82"])
@pytest.mark.parametrize("deliver", [whole, bytewise])
def test_text_that_is_not_utf8_closes_with_1007(pair: Pair, deliver: Deliver, payload: bytes) -> None:
    messages = deliver(pair.ours, pair.frame(TEXT, b"before") + pair.frame(TEXT, payload))
    assert messages[0] == Text("before")
    assert len(messages) == 2
    assert_ended_with(pair, messages, 1007)


@pytest.mark.parametrize("deliver", [whole, bytewise])
def test_fragments_that_are_not_utf8_close_with_1007(pair: Pair, deliver: Deliver) -> None:
    data = pair.frame(TEXT, b"\xe2", fin=False) + pair.frame(CONT, b"x")
    assert_ended_with(pair, deliver(pair.ours, data), 1007)


def test_nothing_counts_behind_text_that_is_not_utf8(pair: Pair) -> None:
    messages = pair.ours.receive(pair.frame(TEXT, b"\xff") + pair.frame(TEXT, b"behind") + pair.frame(PONG, b"x"))
    assert len(messages) == 1
    assert_ended_with(pair, messages, 1007)


def test_of_two_violations_at_once_nothing_is_handed_on(pair: Pair) -> None:
    (closed,) = pair.ours.receive(pair.frame(TEXT, b"\xff") + NOISE)
    assert isinstance(closed, Closed)
    assert closed.code in (1002, 1007)


VIOLATIONS: dict[str, Callable[[Pair], bytes]] = {
    "frame masked the wrong way": lambda pair: frame(TEXT, b"x", masked=not pair.masked),
    "reserved bit": lambda pair: pair.frame(TEXT, b"x", reserved=4),
    "reserved data opcode": lambda pair: pair.frame(3, b"x"),
    "reserved control opcode": lambda pair: pair.frame(11, b"x"),
    "fragmented ping": lambda pair: pair.frame(PING, b"x", fin=False),
    "ping of 126 bytes": lambda pair: pair.frame(PING, b"x" * 126),
    "continuation of nothing": lambda pair: pair.frame(CONT, b"x"),
    "message within a fragmented one": lambda pair: pair.frame(TEXT, b"x", fin=False) + pair.frame(TEXT, b"y"),
    "close code of one byte": lambda pair: pair.frame(CLOSE, b"\x03"),
    "close code that must not be sent": lambda pair: pair.frame(CLOSE, (1006).to_bytes(2)),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_closes_with_1002(pair: Pair, deliver: Deliver, name: str) -> None:
    data = VIOLATIONS[name](pair)
    messages = pair.ours.receive(data + NOISE) if deliver is with_noise else deliver(pair.ours, data)
    assert_ended_with(pair, messages, 1002)


# -------------------------------------------------------------------------------------------------------------- closing


def test_the_peers_goodbye_is_answered(pair: Pair, deliver: Deliver) -> None:
    data = pair.peer.send(peer_events.TextMessage(data="last"))
    data += pair.peer.send(peer_events.CloseConnection(code=CloseReason.GOING_AWAY, reason="lunch"))
    assert deliver(pair.ours, data) == [Text("last"), Closed(1001, "lunch", by_peer=True)]
    assert not pair.ours.is_open
    assert not pair.ours.close_expected
    seen = pair.seen_by_peer()
    assert [(type(event), event.code) for event in seen if isinstance(event, peer_events.CloseConnection)] == [
        (peer_events.CloseConnection, 1001)
    ]
    assert pair.peer.state is wsproto.ConnectionState.CLOSED
    assert pair.ours.receive(b"") == []


def test_a_goodbye_without_a_code_is_1005(pair: Pair, deliver: Deliver) -> None:
    assert deliver(pair.ours, pair.frame(CLOSE)) == [Closed(1005, "", by_peer=True)]
    assert len(pair.seen_by_peer()) == 1


def test_after_our_goodbye_messages_come_until_the_answer(pair: Pair, deliver: Deliver) -> None:
    pair.ours.close(1000, "done")
    assert not pair.ours.is_open
    assert pair.ours.close_expected
    data = pair.peer.send(peer_events.TextMessage(data="crossed")) + pair.peer.send(peer_events.Ping(payload=b"p"))
    assert pair.ours.receive(data) == [Text("crossed")]
    assert pair.ours.close_expected
    pair.peer.receive_data(pair.ours.take_outgoing())
    goodbye = next(event for event in pair.peer.events() if isinstance(event, peer_events.CloseConnection))
    assert (goodbye.code, goodbye.reason) == (1000, "done")
    assert deliver(pair.ours, pair.peer.send(goodbye.response())) == [Closed(1000, "done", by_peer=False)]
    assert not pair.ours.close_expected


def test_goodbyes_that_cross_end_the_connection(pair: Pair) -> None:
    pair.ours.close(1000)
    theirs = pair.peer.send(peer_events.CloseConnection(code=1001))
    assert pair.ours.receive(theirs) == [Closed(1001, "", by_peer=False)]
    assert pair.seen_by_peer() == [peer_events.CloseConnection(code=1000, reason="")]
    assert pair.ours.take_outgoing() == b""


def test_a_goodbye_that_is_not_answered_ends_with_the_stream(pair: Pair) -> None:
    pair.ours.close(1011, "internal error")
    assert pair.ours.receive(b"") == [Closed(1011, "internal error", by_peer=False)]
    assert not pair.ours.close_expected


def test_our_goodbye_is_said_once(pair: Pair) -> None:
    pair.ours.close(1000)
    assert pair.ours.take_outgoing()
    pair.ours.close(1011)
    assert pair.ours.take_outgoing() == b""


@pytest.mark.parametrize("reason", ["x" * 300, "ü" * 300, "🎉" * 300])
def test_a_long_reason_is_cut_between_characters(pair: Pair, reason: str) -> None:
    pair.ours.close(1000, reason)
    (goodbye,) = pair.seen_by_peer()
    assert isinstance(goodbye, peer_events.CloseConnection)
    assert goodbye.reason
    assert reason.startswith(goodbye.reason)


def test_an_end_without_goodbye_is_1006(pair: Pair, deliver: Deliver) -> None:
    complete = pair.frame(TEXT, b"complete")
    for cut in range(len(complete)):
        made = serve() if pair.masked else connect()
        assert made.ours.receive(complete + complete[:cut]) == [Text("complete")]
        assert made.ours.receive(b"") == [Closed(1006, "connection lost", by_peer=True)]
        assert made.ours.receive(b"") == []
        assert not made.ours.is_open


def test_nothing_is_sent_after_the_goodbye(pair: Pair) -> None:
    pair.ours.close(1000)
    with pytest.raises(LocalProtocolError):
        pair.ours.text(b"x")
    with pytest.raises(LocalProtocolError):
        pair.ours.ping(b"x")


# ------------------------------------------------------------------------------------------------- handshake as server


@pytest.mark.parametrize("size", [1, 7, len(REQUEST)])
def test_a_request_arrives_in_pieces_and_gives_its_headers(size: int) -> None:
    handshake = ServerHandshake()
    pieces = [REQUEST[start : start + size] for start in range(0, len(REQUEST), size)]
    for piece in pieces[:-1]:
        assert handshake.receive(piece) is None
    headers = handshake.receive(pieces[-1])
    assert headers is not None
    assert headers["x-twilio-signature"] == "abc="
    assert headers["host"] == "engine.example"
    response, ours, behind = handshake.accept()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT_KEY in response
    assert ours.is_open
    assert behind == b""


def test_messages_right_behind_the_request_are_not_lost() -> None:
    behind = frame(TEXT, b"one", masked=True) + frame(PING, b"p", masked=True) + frame(TEXT, b"two", masked=True)
    for cut in range(len(behind) + 1):
        handshake = ServerHandshake()
        assert handshake.receive(REQUEST + behind[:cut]) is not None
        _, ours, held = handshake.accept()
        assert held == behind[:cut]
        messages = ours.receive(held) if held else []
        if cut < len(behind):
            messages += ours.receive(behind[cut:])
        assert messages == [Text("one"), Text("two")]
        assert ours.take_outgoing() == frame(PONG, b"p", masked=False)


@pytest.mark.parametrize("noise", [NOISE, frame(CLOSE, (1001).to_bytes(2), masked=True)])
def test_an_end_right_behind_the_request_is_told(noise: bytes) -> None:
    handshake = ServerHandshake()
    assert handshake.receive(REQUEST + noise) is not None
    _, ours, held = handshake.accept()
    assert [type(message) for message in ours.receive(held)] == [Closed]
    assert not ours.is_open


@pytest.mark.parametrize(
    "header",
    [b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", b"Sec-WebSocket-Protocol: audio"],
)
def test_extensions_and_subprotocols_are_not_taken(header: bytes) -> None:
    handshake = ServerHandshake()
    assert handshake.receive(REQUEST[:-2] + header + b"\r\n\r\n") is not None
    response, _, _ = handshake.accept()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert header.split(b":")[0].lower() not in response.lower()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", b"405"),
        (b"HTTP/1.1", b"HTTP/1.0", b"505"),
        (b"Upgrade: websocket\r\n", b"", b"426"),
        (b"Connection: Upgrade\r\n", b"", b"426"),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"426"),
        (b"Version: 13", b"Version: 8", b"400"),
        (b"Sec-WebSocket-Version: 13\r\n", b"", b"400"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", b"400"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", b"400"),
    ],
)
def test_a_request_that_breaks_the_rules_is_refused(old: bytes, new: bytes, status: bytes) -> None:
    handshake = ServerHandshake()
    assert handshake.receive(REQUEST.replace(old, new)) is not None
    with pytest.raises(RemoteProtocolError):
        handshake.accept()
    assert handshake.take_refusal().startswith(b"HTTP/1.1 " + status)


def test_the_judge_of_a_request_may_refuse_it() -> None:
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    handshake = ServerHandshake()
    assert handshake.receive(peer.send(peer_events.Request(host="h", target="/"))) is not None
    peer.receive_data(handshake.refuse(HTTPStatus.FORBIDDEN, "bad signature"))
    rejection, body = list(peer.events())[:2]
    assert isinstance(rejection, peer_events.RejectConnection)
    assert rejection.status_code == 403
    assert isinstance(body, peer_events.RejectData)
    assert body.data == b"bad signature\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost h\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        REQUEST[:-2] + b"Content-Length: 5\r\n\r\nhello",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ServerHandshake().receive(data)


def test_a_client_that_leaves_during_the_request_is_told() -> None:
    for cut in (0, 1, 20, len(REQUEST) - 1):
        handshake = ServerHandshake()
        if cut:
            assert handshake.receive(REQUEST[:cut]) is None
        with pytest.raises(RemoteProtocolError):
            handshake.receive(b"")


@given(pieces=st.lists(st.binary(min_size=1, max_size=60), max_size=4))
def test_garbage_for_a_request_raises_nothing_else(pieces: list[bytes]) -> None:
    handshake = ServerHandshake()
    with pytest.raises(RemoteProtocolError):
        for piece in [*pieces, b""]:
            handshake.receive(piece)


@given(position=st.integers(0, len(REQUEST) - 1), value=st.binary(max_size=3))
def test_a_damaged_request_is_accepted_or_refused(position: int, value: bytes) -> None:
    handshake = ServerHandshake()
    try:
        headers = handshake.receive(REQUEST[:position] + value + REQUEST[position + 1 :])
        if headers is not None:
            handshake.accept()
    except RemoteProtocolError:
        pass


# ------------------------------------------------------------------------------------------------- handshake as client


def response_to(request: bytes) -> bytes:
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    digest = hashlib.sha1(key.split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # RFC 6455 4.2.2
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def test_our_request_says_where_and_who() -> None:
    peer = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    handshake = ClientHandshake("wss://provider.example:8443/v1?model=m", [("Authorization", "Bearer your_key")])
    assert (handshake.uri.host, handshake.uri.port, handshake.uri.secure) == ("provider.example", 8443, True)
    peer.receive_data(handshake.request())
    (request,) = peer.events()
    assert isinstance(request, peer_events.Request)
    assert (request.host, request.target) == ("provider.example:8443", "/v1?model=m")
    assert (b"authorization", b"Bearer your_key") in list(request.extra_headers)
    assert request.extensions == []
    assert request.subprotocols == []


def test_a_response_may_come_byte_by_byte_with_messages_right_behind() -> None:
    behind = frame(TEXT, b"session", masked=False) + frame(PING, b"p", masked=False)
    for first in (*range(0, 200, 3), 10_000):
        cut = first
        handshake = ClientHandshake("ws://h/")
        data = response_to(handshake.request()) + behind
        opened = handshake.receive(data[:cut]) if cut else None
        while opened is None:
            opened = handshake.receive(data[cut : cut + 1])
            cut += 1
        ours, held = opened
        assert ours.is_open
        messages = ours.receive(held) if held else []
        if data[cut:]:
            messages += ours.receive(data[cut:])
        assert messages == [Text("session")]
        assert ours.take_outgoing()[:2] == b"\x8a\x81"  # a masked pong of one byte


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 11\r\n\r\n", b"invalid key"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"later"),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n", b"gone"),
        (b"HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_a_refusal_has_status_and_body(head: bytes, body: bytes) -> None:
    data = head if b"chunked" in head else head + body
    handshake = ClientHandshake("ws://h/")
    handshake.request()
    with pytest.raises(RefusedHandshake) as refused:
        for index in range(len(data)):
            assert handshake.receive(data[index : index + 1]) is None
        handshake.receive(b"")
    assert refused.value.status == int(head[9:12])
    assert refused.value.body == body


def test_a_refusal_of_the_other_implementation_is_understood() -> None:
    peer = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    handshake = ClientHandshake("ws://h/")
    peer.receive_data(handshake.request())
    data = peer.send(peer_events.RejectConnection(status_code=429, headers=[(b"content-length", b"4")], has_body=True))
    data += peer.send(peer_events.RejectData(data=b"busy"))
    with pytest.raises(RefusedHandshake) as refused:
        handshake.receive(data)
    assert (refused.value.status, refused.value.body) == (429, b"busy")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: Upgrade\r\n", b""),
        (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: AAAA"),
        (b"Sec-WebSocket-Accept", b"Other"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: realtime\r\n\r\n"),
        (b"HTTP/1.1", b"HTTP/2.0"),
        (b"HTTP/1.1 101", b"nonsense"),
        (b"101", b"1"),
    ],
)
def test_a_response_that_breaks_the_rules_is_no_handshake(old: bytes, new: bytes) -> None:
    handshake = ClientHandshake("ws://h/")
    data = response_to(handshake.request()).replace(old, new)
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.receive(data)
    assert not isinstance(caught.value, RefusedHandshake)


def test_a_server_that_leaves_during_the_handshake_is_told() -> None:
    for cut in (0, 1, 20, 60):
        handshake = ClientHandshake("ws://h/")
        data = response_to(handshake.request())
        if cut:
            assert handshake.receive(data[:cut]) is None
        with pytest.raises(RemoteProtocolError):
            handshake.receive(b"")


@given(pieces=st.lists(st.binary(min_size=1, max_size=60), max_size=4))
def test_garbage_for_a_response_raises_nothing_else(pieces: list[bytes]) -> None:
    handshake = ClientHandshake("ws://h/")
    handshake.request()
    with pytest.raises(RemoteProtocolError):
        for piece in [*pieces, b""]:
            handshake.receive(piece)


@pytest.mark.parametrize(
    "url", ["", "http://h/", "ws://", "ws:///x", "h:80", "ws://h:0x50/", "ws://h:99999/", "ws://h/#part", "ws://[::1/"]
)
def test_what_is_no_websocket_url_is_our_own_fault(url: str) -> None:
    with pytest.raises(LocalProtocolError):
        ClientHandshake(url)
