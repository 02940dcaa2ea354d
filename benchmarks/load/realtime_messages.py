"""What the engine may send to the voice provider (protocols.md B.2, B.4): the client events of the GA interface.

Checks key sets and types exactly; a field the service would refuse is a breach. Appends, fifty a second, take a fast
path as in `carrier_messages`.
"""

import binascii
import json
from collections.abc import Callable

from .carrier_messages import unique_keys

_FULL_CHECK_EVERY = 16
_FORMATS = {"pcmu": {"type": "audio/pcmu"}, "pcm24k": {"type": "audio/pcm", "rate": 24_000}}
_SESSION_KEYS = {
    "type",
    "model",
    "instructions",
    "output_modalities",
    "audio",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_output_tokens",
    "truncation",
    "include",
    "prompt",
    "tracing",
}
_INPUT_KEYS = {"format", "noise_reduction", "transcription", "turn_detection"}
_OUTPUT_KEYS = {"format", "voice", "speed"}
# Keys each client event must have and may have, beside `type` and `event_id`.
_EVENT_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "session.update": ({"session"}, set()),
    "input_audio_buffer.append": ({"audio"}, set()),
    "conversation.item.create": ({"item"}, {"previous_item_id"}),
    "conversation.item.truncate": ({"item_id", "content_index", "audio_end_ms"}, set()),
    "conversation.item.delete": ({"item_id"}, set()),
    "response.create": (set(), {"response"}),
    "response.cancel": (set(), {"response_id"}),
}


class RealtimeMessages:
    """Checks the client events of one provider session."""

    def __init__(self, audio: str, breach: Callable[[str, bytes], None], *, strict: bool = False) -> None:
        self._format = _FORMATS[audio]
        self._breach = breach
        self._trusted = 0 if strict else _FULL_CHECK_EVERY - 1
        self._prefix, self._suffix = b"\0", b"\0"
        self._countdown = 0

    def read(self, text: bytes) -> bytes | dict[str, object] | None:
        """Audio of an append as bytes, another event as an object, None for a breach (already reported)."""
        if self._countdown and text.startswith(self._prefix) and text.endswith(self._suffix):
            self._countdown -= 1
            try:
                audio = binascii.a2b_base64(text[len(self._prefix) : -len(self._suffix)], strict_mode=True)
            except binascii.Error:
                audio = b""
            if audio:
                return audio
        return self._read_in_full(text)

    @property
    def around(self) -> tuple[bytes, bytes]:
        """Text before and after the payload of audio, as learnt."""
        return self._prefix, self._suffix

    def grant(self) -> int:
        """Give away how many messages may be compared only; the next one read here is checked in full."""
        granted, self._countdown = self._countdown, 0
        return granted

    def _read_in_full(self, text: bytes) -> bytes | dict[str, object] | None:
        try:
            event = json.loads(text.decode(), object_pairs_hook=unique_keys)
        except ValueError as error:
            self._breach(f"provider: not JSON ({type(error).__name__})", text)
            return None
        if not isinstance(event, dict) or event.get("type") not in _EVENT_KEYS:
            self._breach("provider: unexpected event", text)
            return None
        required, allowed = _EVENT_KEYS[event["type"]]
        keys = event.keys() - {"type"}
        if not required <= keys <= required | allowed | {"event_id"}:
            self._breach("provider: missing or unknown fields", text)
            return None
        if "event_id" in event and not isinstance(event["event_id"], str):
            self._breach("provider: event_id not a string", text)
            return None
        if event["type"] == "input_audio_buffer.append":
            return self._append(event["audio"], text)
        fault = self._fault(event)
        if fault:
            self._breach(f"provider: {fault}", text)
            return None
        return event

    def _append(self, audio: object, text: bytes) -> bytes | None:
        try:
            decoded = binascii.a2b_base64(audio.encode() if isinstance(audio, str) else b"-", strict_mode=True)
        except (binascii.Error, UnicodeEncodeError):
            self._breach("provider: append without base64", text)
            return None
        payload = str(audio).encode()
        start = text.find(payload)
        if payload and start > 0 and start + len(payload) < len(text):
            self._prefix, self._suffix = text[:start], text[start + len(payload) :]
            self._countdown = self._trusted
        return decoded

    def _fault(self, event: dict[str, object]) -> str:
        """What is wrong with an event whose keys are right; empty if nothing."""
        kind = event["type"]
        if kind == "session.update":
            return self._session_fault(event["session"])
        if kind == "conversation.item.truncate":
            end_ms = event["audio_end_ms"]
            if type(end_ms) is not int or end_ms < 0 or event["content_index"] != 0:
                return "truncate with wrong values"
        if kind in ("conversation.item.truncate", "conversation.item.delete") and not isinstance(event["item_id"], str):
            return "item_id not a string"
        if kind == "conversation.item.create" and not isinstance(event["item"], dict):
            return "item not an object"
        return ""

    def _session_fault(self, session: object) -> str:
        if not isinstance(session, dict) or session.get("type") != "realtime" or session.keys() - _SESSION_KEYS:
            return "session.update with wrong or unknown fields"
        audio = session.get("audio")
        if not isinstance(audio, dict) or audio.keys() - {"input", "output"}:
            return "session.update without audio"
        caller, voice = audio.get("input"), audio.get("output")
        if not isinstance(caller, dict) or caller.keys() - _INPUT_KEYS or caller.get("format") != self._format:
            return f"session.audio.input is not {self._format}"
        if not isinstance(voice, dict) or voice.keys() - _OUTPUT_KEYS or voice.get("format") != self._format:
            return f"session.audio.output is not {self._format}"
        if session.get("output_modalities", ["audio"]) != ["audio"]:
            return "session.output_modalities is not audio"
        return ""
