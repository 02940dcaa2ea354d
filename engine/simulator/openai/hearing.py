"""The input audio buffer: what the caller's audio adds up to, and the turns found in it.

Owns the audio position (ms appended since the session began), what is not committed yet, and the detector that suits the
session. Refuses half samples and commits of less than 100 ms (protocols.md B.3). The position never goes back.
"""

from __future__ import annotations

from typing import Any, Final

from engine.simulator.openai.detector import Detection, DetectorSettings, SpeechDetector
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.formats import AudioFormat, format_named

LEAST_COMMIT_MS = 100

# What semantic detection waits for silence: a quarter of the greatest wait of each eagerness (8, 4 and 2 s, protocols.md B.2).
# Meaning is beyond a simulator; a sentence is taken to sound finished.
_SEMANTIC_SILENCE_MS: Final = {"low": 2000, "medium": 1000, "auto": 1000, "high": 500}


class Hearing:
    """A session's input side.

    Args:
        audio_input: `session.audio.input`.
    """

    def __init__(self, audio_input: dict[str, Any]) -> None:
        self._format = format_named(audio_input["format"]["type"])
        self._turn_detection: dict[str, Any] | None = None
        self._detector: SpeechDetector | None = None
        # Audio appended since the session began, and since the last commit or clear.
        self.position_ms = 0.0
        self.pending_ms = 0.0
        self.configure(audio_input)

    @property
    def speaking(self) -> bool:
        """A turn of the caller is under way."""
        return self._detector is not None and self._detector.speaking

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        """The detection in force; None is manual."""
        return self._turn_detection

    def configure(self, audio_input: dict[str, Any]) -> None:
        """Take over a changed `session.audio.input`; a turn under way is forgotten if detection changes."""
        audio_format = format_named(audio_input["format"]["type"])
        detection = audio_input["turn_detection"]
        if (audio_format, detection) == (self._format, self._turn_detection) and self._detector is not None:
            return
        self._format, self._turn_detection = audio_format, detection
        self._detector = None if detection is None else _detector(detection, audio_format, self.position_ms)

    def append(self, audio: bytes) -> list[Detection]:
        """Take audio in the session's input format.

        Returns:
            The turns that began and ended in it.

        Raises:
            EventRefused: The audio does not consist of whole samples.
        """
        if len(audio) % self._format.sample_bytes:
            message = "Invalid 'audio'. Expected whole 16-bit samples."
            raise EventRefused(message, code="invalid_value", param="audio")
        duration_ms = self._format.duration_ms(len(audio))
        self.position_ms += duration_ms
        self.pending_ms += duration_ms
        return [] if self._detector is None else self._detector.feed(self._format.decode(audio))

    def commit(self) -> float:
        """Take the pending audio as the client's own turn.

        Returns:
            Its length in ms.

        Raises:
            EventRefused: There is less than 100 ms of it.
        """
        if self.pending_ms < LEAST_COMMIT_MS:
            message = (
                "Error committing input audio buffer: buffer too small. "
                f"Expected at least {LEAST_COMMIT_MS}ms of audio, but buffer only has {self.pending_ms:.2f}ms of audio."
            )
            raise EventRefused(message, code="input_audio_buffer_commit_empty")
        return self.clear()

    def clear(self) -> float:
        """Drop the pending audio and a turn under way; returns what was pending, in ms."""
        if self._detector is not None:
            self._detector.forget()
        return self.take_pending()

    def take_pending(self) -> float:
        """Count from zero again; returns what was pending, in ms."""
        pending_ms, self.pending_ms = self.pending_ms, 0.0
        return pending_ms


def _detector(detection: dict[str, Any], audio_format: AudioFormat, origin_ms: float) -> SpeechDetector:
    if detection["type"] == "server_vad":
        names = ("threshold", "prefix_padding_ms", "silence_duration_ms")
        settings = DetectorSettings(**{name: detection[name] for name in names})
    else:
        settings = DetectorSettings(silence_duration_ms=_SEMANTIC_SILENCE_MS[detection["eagerness"]])
    return SpeechDetector(settings, rate_hz=audio_format.rate_hz, origin_ms=origin_ms)
