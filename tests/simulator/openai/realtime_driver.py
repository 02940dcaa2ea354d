"""Drives a sans-IO Realtime session in virtual time and checks every frame against the vendor's own models."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from engine.audio.g711 import ulaw_encode
from engine.simulator.openai import Close, Outgoing, PeerConfig, RealtimeSession, Script
from engine.simulator.openai.speech import SpeechLibrary
from engine.simulator.voices import load_ulaw

MODEL = "gpt-realtime-2.1"
SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
FRAME_BYTES = 160
PCMU_BOTH = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}}
TOOL = {"type": "function", "name": "lookup_order", "description": "Finds an order.", "parameters": {"type": "object"}}


def assert_as_the_service_sends(event: dict[str, Any]) -> None:
    """Validate a frame with pydantic, and with what pydantic lets pass (protocols.md B.6)."""
    SERVER_EVENT.validate_python(event)
    for audio_format in formats_in(event):
        if audio_format["type"] == "audio/pcm":
            assert audio_format == {"type": "audio/pcm", "rate": 24000}
        else:
            assert set(audio_format) == {"type"}
    for holder in (event.get("session"), event.get("response")):
        if isinstance(holder, dict):
            assert holder["output_modalities"] in (["audio"], ["text"])
            assert not {"temperature", "modalities"} & set(holder)


def formats_in(value: Any) -> list[dict[str, Any]]:
    """Collect every audio format in a frame."""
    if isinstance(value, list):
        return [found for element in value for found in formats_in(element)]
    if not isinstance(value, dict):
        return []
    mine = [value["format"]] if isinstance(value.get("format"), dict) else []
    return mine + [found for name, element in value.items() if name != "format" for found in formats_in(element)]


class Driver:
    """A client of one session, without sockets; time moves only when told to."""

    def __init__(
        self,
        script: Script | None = None,
        config: PeerConfig | None = None,
        *,
        model: str = MODEL,
        library: SpeechLibrary | None = None,
        strict: bool = True,
    ) -> None:
        self.now = 100.0
        self.strict = strict
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.texts: list[str] = []
        self.ends: list[Outgoing] = []
        self.session = RealtimeSession(
            config or PeerConfig(), script or Script(), model=model, now=self.now, unix_time_s=1000.0, library=library
        )
        self.collect()

    def collect(self) -> list[dict[str, Any]]:
        """Take what the session sends; returns the fresh events."""
        fresh = []
        for thing in self.session.take_outgoing():
            if not isinstance(thing, str):
                self.ends.append(thing)
                continue
            self.texts.append(thing)
            if self.strict:
                fresh.append(json.loads(thing))
                assert_as_the_service_sends(fresh[-1])
        self.events += fresh
        self.times += [self.now] * len(fresh)
        return fresh

    def send(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Send an event; returns what comes back at once."""
        return self.send_text(json.dumps({"type": kind, **fields}))

    def send_text(self, text: str | bytes) -> list[dict[str, Any]]:
        self.session.receive(text, self.now)
        return self.collect()

    def update(self, **fields: Any) -> list[dict[str, Any]]:
        """Send a `session.update`."""
        return self.send("session.update", session={"type": "realtime", **fields})

    def use_pcmu(self, **fields: Any) -> None:
        """Ask for mu-law both ways, and whatever else."""
        assert self.update(audio=PCMU_BOTH, **fields)[-1]["type"] == "session.updated"

    def detect_turns(self, **fields: Any) -> None:
        """Ask for mu-law and a server_vad with these settings."""
        audio = {**PCMU_BOTH, "input": {**PCMU_BOTH["input"], "turn_detection": {"type": "server_vad", **fields}}}
        assert self.update(audio=audio)[-1]["type"] == "session.updated"

    def run_until(self, time_s: float) -> list[dict[str, Any]]:
        """Let time pass up to a moment, stopping at everything that is due."""
        start = len(self.events)
        while (due_s := self.session.next_due()) is not None and due_s <= time_s:
            self.now = max(self.now, due_s)
            self.session.advance(self.now)
            self.collect()
        self.now = max(self.now, time_s)
        self.session.advance(self.now)
        self.collect()
        return self.events[start:]

    def run_for(self, seconds: float) -> list[dict[str, Any]]:
        return self.run_until(self.now + seconds)

    def hear(self, ulaw: bytes) -> list[dict[str, Any]]:
        """Append mu-law in real time, a frame every 20 ms."""
        start = len(self.events)
        for offset in range(0, len(ulaw), FRAME_BYTES):
            frame = ulaw[offset : offset + FRAME_BYTES]
            self.send("input_audio_buffer.append", audio=base64.b64encode(frame).decode())
            self.run_for(0.02)
        return self.events[start:]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def last_error(self) -> dict[str, Any]:
        return self.of_type("error")[-1]["error"]

    @property
    def closed_with(self) -> int | None:
        return next((end.code for end in self.ends if isinstance(end, Close)), None)


def types_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def silence(ms: int) -> bytes:
    """Make mu-law silence."""
    return b"\xff" * (8 * ms)


def tone(ms: int, level_dbfs: float = -20.0) -> bytes:
    """Make a mu-law tone of an RMS level."""
    time_s = np.arange(8 * ms) / 8000
    amplitude = 32768 * 10 ** (level_dbfs / 20) * np.sqrt(2)
    return ulaw_encode((amplitude * np.sin(2 * np.pi * 437 * time_s)).astype("<i2").tobytes())


def question() -> bytes:
    """Load the caller's question with enough silence behind it to end the turn."""
    return load_ulaw("caller_question") + silence(600)
