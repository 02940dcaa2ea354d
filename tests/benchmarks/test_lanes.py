"""The short way for audio must count exactly what the careful way counts, however its input is cut and whatever is wrong."""

import base64
import socket
import time
from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.load.carrier_messages import CarrierMessages
from benchmarks.load.lanes import ANY_POSITION, Lane, Lanes, NoLanes, compile_lanes
from benchmarks.load.speech import FRAME_SAMPLES, Follower, Tape
from benchmarks.load.websocket import TEXT, ClientFrames, FrameReader, server_frame

TAPE = Tape(1)
ORIGIN = TAPE.origin(3)
SID = f"MZ{1:032x}"
LIMIT = 100 * FRAME_SAMPLES


@pytest.fixture(scope="module")
def lanes() -> Iterator[Lanes]:
    try:
        compile_lanes()
    except NoLanes as reason:
        pytest.skip(str(reason))
    opened = Lanes(TAPE)
    yield opened
    opened.close()


def media(ulaw: bytes) -> bytes:
    text = base64.b64encode(ulaw).decode()
    return f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"{text}"}}}}'.encode()


class Careful:
    """Everything in Python, as the carrier's side does it; `counted` is what a lane adds to it."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.reader = FrameReader(masked=False, breach=lambda kind, _: self.breaches.append(kind))
        self.messages = CarrierMessages(SID, lambda kind, _: self.breaches.append(kind))
        self.follower = Follower(TAPE, ORIGIN)
        self.follower.position = 0
        self.orders: list[object] = []
        self.counted = 0

    def take(self, data: bytes, _now: float = 0.0) -> None:
        for opcode, payload in self.reader.feed(data):
            order = self.messages.read(payload) if opcode == TEXT else opcode
            if isinstance(order, bytes):
                self.follower.take(order, LIMIT)
                self.orders.append(len(order))
            else:
                self.orders.append(order)

    def count(self, _now: float, position: int, samples: int, frame_bytes: int) -> None:
        assert self.follower.position == position
        assert frame_bytes > samples
        self.follower.position = position + samples
        self.orders.append(samples)
        self.counted += 1

    def sync(self, lane: Lane) -> None:
        lane.go_on(self.follower.position, self.messages.grant(), *self.messages.around)

    def findings(self) -> object:
        found = self.follower
        return self.orders, self.breaches, found.position, found.lost, found.repeated, found.foreign, found.padding


def carry(lanes: Lanes, stream: bytes, cuts: list[int], careful: Careful) -> Careful:
    """Send a stream over a socket in pieces, each taken in a turn of its own."""
    near, far = socket.socketpair()
    with near, far:
        lane = lanes.open(
            far.fileno(),
            masked=False,
            origin=ORIGIN,
            limit=LIMIT,
            on_counted=careful.count,
            on_raw=careful.take,
            on_closed=lambda now: None,
            sync=careful.sync,
        )
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            near.sendall(stream[start:end])
            lanes.turn(time.time() - time.monotonic())
            # what does not fit into one receive is left for the next turn
            for _ in range(len(stream) // 10_000 + 1):
                lanes.turn(time.time() - time.monotonic())
        lanes.forget(lane)
    return careful


def frames(numbers: range | list[int]) -> list[bytes]:
    return [server_frame(media(TAPE.ulaw(ORIGIN, number * FRAME_SAMPLES, FRAME_SAMPLES))) for number in numbers]


PLAIN = frames(range(60))
CLEAR = server_frame(f'{{"event":"clear","streamSid":"{SID}"}}'.encode())
FAULTY = {
    "nothing": PLAIN,
    "a frame lost": frames([*range(30), *range(31, 60)]),
    "a frame repeated": frames([*range(30), *range(29, 60)]),
    "a foreign frame": [*PLAIN[:30], server_frame(media(TAPE.ulaw(TAPE.origin(9), 0, 160))), *PLAIN[30:]],
    "silence put in": [*PLAIN[:30], server_frame(media(b"\xff" * 160)), *PLAIN[30:]],
    "an order between": [*PLAIN[:30], CLEAR, *PLAIN[30:]],
    "bad base64": [*PLAIN[:30], server_frame(media(b"x" * 160).replace(b"eHh4", b"e*h4", 1)), *PLAIN[30:]],
    "bits behind the padding": [*PLAIN[:30], PLAIN[30].replace(b'=="', b'A="'), *PLAIN[30:]],
    "another field": [*PLAIN[:30], server_frame(media(b"x" * 160)[:-1] + b',"x":1}'), *PLAIN[30:]],
    "a ping": [*PLAIN[:30], server_frame(b"hello", 9), *PLAIN[30:]],
    "a masked frame": [*PLAIN[:30], ClientFrames(b"abcd").build(media(b"x" * 160)), *PLAIN[30:]],
    "a reserved bit": [*PLAIN[:30], b"\xc1" + PLAIN[30][1:], *PLAIN[31:]],
    "fragments": [*PLAIN[:30], b"\x01\x01{", b"\x80\x01}", *PLAIN[30:]],
    "audio not sent yet": frames(range(90, 110)),
    "odd sizes": [
        server_frame(media(TAPE.ulaw(ORIGIN, start, size)))
        for start, size in ((0, 161), (161, 400), (561, 1), (562, 79), (641, 800), (1441, 81))
    ],
}


@pytest.mark.parametrize("name", FAULTY)
def test_lanes_find_what_the_careful_way_finds(lanes: Lanes, name: str) -> None:
    stream = b"".join(FAULTY[name])
    expected = Careful()
    expected.take(stream)
    random = Random(name)
    for pieces in (1, 2, 40, 200):
        cuts = sorted(random.sample(range(1, len(stream)), pieces - 1))
        found = carry(lanes, stream, cuts, Careful())
        assert found.findings() == expected.findings()


def test_a_faithful_stream_is_mostly_counted_and_still_checked(lanes: Lanes) -> None:
    stream = b"".join(PLAIN)
    careful = carry(lanes, stream, [len(b"".join(PLAIN[:number])) for number in range(1, 60)], Careful())
    # the first, and every sixteenth, is read in full
    assert careful.counted == 56
    assert careful.follower.position == 60 * FRAME_SAMPLES


def test_every_cut_of_a_frame_is_joined(lanes: Lanes) -> None:
    stream = b"".join(PLAIN[:4])
    expected = Careful()
    expected.take(stream)
    begin = len(PLAIN[0]) + len(PLAIN[1])
    for cut in range(begin, begin + len(PLAIN[2])):
        assert carry(lanes, stream, [len(PLAIN[0]), cut], Careful()).findings() == expected.findings()


def test_masked_audio_is_counted_and_constant_keys_are_noticed(lanes: Lanes) -> None:
    near, far = socket.socketpair()
    counted: list[int] = []
    build = ClientFrames(b"\x01\x02\xfe\xff").build
    with near, far:
        lane = lanes.open(
            far.fileno(),
            masked=True,
            origin=ORIGIN,
            limit=ANY_POSITION,
            on_counted=lambda now, position, samples, size: counted.append(samples),
            on_raw=lambda data, now: None,
            on_closed=lambda now: None,
            sync=lambda lane: lane.go_on(0, 15, *media(b"?").split(b"Pw==")),
        )
        for number in range(10):
            near.sendall(build(media(TAPE.ulaw(ORIGIN, number * 160, 160))))
        lanes.turn(time.time() - time.monotonic())
        assert counted == [160] * 10
        assert lane.repeated_keys() == 9
        lanes.forget(lane)


def test_a_closed_socket_is_told_once(lanes: Lanes) -> None:
    near, far = socket.socketpair()
    closed: list[float] = []
    with far:
        lane = lanes.open(
            far.fileno(),
            masked=False,
            origin=ORIGIN,
            limit=LIMIT,
            on_counted=lambda *_: None,
            on_raw=lambda *_: None,
            on_closed=closed.append,
            sync=lambda lane: None,
        )
        near.close()
        for _ in range(3):
            lanes.turn(time.time() - time.monotonic())
        assert len(closed) == 1
        lanes.forget(lane)


def test_a_frame_too_long_to_keep_is_handed_over_byte_for_byte(lanes: Lanes) -> None:
    near, far = socket.socketpair()
    raw = bytearray()
    long = server_frame(b"x" * 60_000)
    with near, far:
        lane = lanes.open(
            far.fileno(),
            masked=False,
            origin=ORIGIN,
            limit=LIMIT,
            on_counted=lambda *_: None,
            on_raw=lambda data, now: raw.extend(data),
            on_closed=lambda now: None,
            sync=lambda lane: None,
        )
        for start in range(0, len(long), 7000):
            near.sendall(long[start : start + 7000])
            lanes.turn(time.time() - time.monotonic())
        lanes.turn(time.time() - time.monotonic())
        assert bytes(raw) == long
        lanes.forget(lane)


def test_without_a_compiler_the_reason_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NoLanes, match="compiler"):
        compile_lanes()
