"""Who is compared: the engine's codec and what a Python user would otherwise take, as far as it is installed."""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import samplerate
from numpy.typing import NDArray
from websockets.frames import Frame, Opcode

from benchmarks.codec.measure import Convert
from benchmarks.load.speech import ulaw_decoding_table
from engine.audio import g711
from engine.audio.resample import Quality, Resampler
from engine.wire.twilio import TwilioStream
from engine.wire.websocket import ServerHandshake

SID = "MZ" + "0" * 32


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do a step; `make` gives a fresh one, since streams have state."""

    name: str
    make: Callable[[], Convert]


def _stateless(name: str, convert: Convert) -> Contender:
    return Contender(name=name, make=lambda: convert)


def maybe_module(name: str) -> Any:
    """A module, or None if it is not installed; without warnings that it will not always be there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _encoding_table() -> NDArray[np.uint8]:
    """Mu-law codes of all int16 samples, by sample modulo 65,536."""
    samples = np.arange(65536, dtype=np.uint16).astype(np.int16)
    return np.frombuffer(g711.ulaw_encode(samples), np.uint8)


def decoders() -> list[Contender]:
    """Mu-law to int16."""
    table = ulaw_decoding_table()
    found = [
        _stateless("engine (C)", g711.ulaw_decode),
        _stateless("numpy lookup table", lambda ulaw: table[np.frombuffer(ulaw, np.uint8)].tobytes()),
    ]
    audioop = maybe_module("audioop")
    return found + ([_stateless("audioop", lambda ulaw: bytes(audioop.ulaw2lin(ulaw, 2)))] if audioop else [])


def encoders() -> list[Contender]:
    """Int16 to mu-law."""
    table = _encoding_table()
    found = [
        _stateless("engine (C)", g711.ulaw_encode),
        _stateless("numpy lookup table", lambda pcm: table[np.frombuffer(pcm, np.uint16)].tobytes()),
    ]
    audioop = maybe_module("audioop")
    return found + ([_stateless("audioop", lambda pcm: bytes(audioop.lin2ulaw(pcm, 2)))] if audioop else [])


def resamplers(input_hz: int, output_hz: int) -> list[Contender]:
    """Int16 to int16 at another rate, as a stream."""
    polyphase = maybe_module("engine.audio.polyphase")
    qualities: tuple[Quality, ...] = ("sinc_fastest", "sinc_medium", "sinc_best")
    found: list[Contender] = []
    if polyphase is not None:
        found.append(
            Contender(
                name="engine, polyphase (C)",
                make=lambda: polyphase.PolyphaseResampler(input_hz, output_hz).process,
            )
        )
    found += [
        Contender(name=f"engine, {each}", make=partial(_engine_resampler, input_hz, output_hz, each))
        for each in qualities
    ]
    found.append(Contender(name="samplerate, sinc_fastest", make=lambda: _plain_samplerate(output_hz / input_hz)))
    soxr, audioop = maybe_module("soxr"), maybe_module("audioop")
    if soxr is not None:
        found.append(Contender(name="soxr, HQ", make=lambda: _soxr(soxr, input_hz, output_hz)))
    if audioop is not None:
        found.append(Contender(name="audioop.ratecv (linear)", make=lambda: _ratecv(audioop, input_hz, output_hz)))
    return found


def _engine_resampler(input_hz: int, output_hz: int, quality: Quality) -> Convert:
    return Resampler(input_hz, output_hz, quality=quality).process


def _plain_samplerate(ratio: float) -> Convert:
    converter = samplerate.Resampler("sinc_fastest", channels=1)

    def convert(pcm: bytes) -> bytes:
        wave = converter.process(np.frombuffer(pcm, "<i2").astype(np.float32), ratio)
        return bytes(np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())

    return convert


def _soxr(soxr: Any, input_hz: int, output_hz: int) -> Convert:
    stream = soxr.ResampleStream(input_hz, output_hz, 1, dtype="int16", quality="HQ")
    return lambda pcm: bytes(stream.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes())


def _ratecv(audioop: Any, input_hz: int, output_hz: int) -> Convert:
    state: Any = None

    def convert(pcm: bytes) -> bytes:
        nonlocal state
        out, state = audioop.ratecv(pcm, 2, 1, input_hz, output_hz, state)
        return bytes(out)

    return convert


def base64_encoders() -> list[Contender]:
    """Bytes to base64."""
    return [
        _stateless("binascii (engine)", lambda data: binascii.b2a_base64(data, newline=False)),
        _stateless("base64.b64encode", base64.b64encode),
    ]


def base64_decoders() -> list[Contender]:
    """Base64 to bytes."""
    return [
        _stateless("binascii, strict (engine)", lambda data: binascii.a2b_base64(data, strict_mode=True)),
        _stateless("base64.b64decode", base64.b64decode),
    ]


def framers() -> list[Contender]:
    """20 ms of mu-law to the WebSocket frame that carries it to Twilio."""
    stream = started_stream()
    websocket = open_websocket()
    return [
        _stateless("engine", lambda ulaw: websocket.text(stream.send_media(ulaw))),
        _stateless("json.dumps, websockets' Frame", _frame_by_library),
        _stateless("json.dumps, struct by hand", _frame_by_hand),
    ]


def started_stream() -> TwilioStream:
    """The engine's side of a media stream that has begun."""
    stream = TwilioStream()
    stream.receive('{"event":"connected","protocol":"Call","version":"1.0.0"}')
    start = {
        "accountSid": "AC" + "0" * 32,
        "streamSid": SID,
        "callSid": "CA" + "0" * 32,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {},
    }
    stream.receive(json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": SID}))
    return stream


def open_websocket() -> Any:
    """The engine's side of an open WebSocket."""
    handshake = ServerHandshake()
    key = base64.b64encode(os.urandom(16)).decode()
    handshake.receive(
        f"GET /media-stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    _, websocket, _ = handshake.accept()
    return websocket


def _message(ulaw: bytes) -> bytes:
    payload = base64.b64encode(ulaw).decode()
    return json.dumps({"event": "media", "streamSid": SID, "media": {"payload": payload}}).encode()


def _frame_by_library(ulaw: bytes) -> bytes:
    return Frame(Opcode.TEXT, _message(ulaw)).serialize(mask=False)


def _frame_by_hand(ulaw: bytes) -> bytes:
    message = _message(ulaw)
    return struct.pack("!BBH", 0x81, 126, len(message)) + message
