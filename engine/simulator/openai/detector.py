"""When the caller speaks: the service's voice activity detection, by energy.

Owns the decision for one session and one audio format, on the time base the service reports: milliseconds of audio
appended, not of the clock (protocols.md B.3). Refuses nothing; any samples are heard. A begin and an end alternate, and the
result does not depend on how the audio is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

WINDOW_MS = 20
ONSET_MS = 60
"""Loud windows in a row that make speech; a click is shorter."""

# The service's threshold is a probability of 0 to 1. Here 0.5 is -40 dBFS and the whole scale spans 30 dB.
_QUIETEST_DBFS = -55.0
_SCALE_DB = 30.0
_FULL_SCALE = 32768.0


@dataclass(frozen=True, kw_only=True)
class SpeechBegan:
    """The caller began to speak; `audio_ms` is where, the padding before it included."""

    audio_ms: int


@dataclass(frozen=True, kw_only=True)
class SpeechEnded:
    """The caller has been silent long enough; `audio_ms` is the end of the turn, that silence included."""

    audio_ms: int


Detection: TypeAlias = SpeechBegan | SpeechEnded


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """The `server_vad` settings of protocols.md B.2."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200


class SpeechDetector:
    """Finds the caller's turns in a stream of samples.

    Args:
        settings: Threshold, padding and silence.
        rate_hz: Rate of the samples.
        origin_ms: Audio time of the first sample to come.
    """

    def __init__(self, settings: DetectorSettings, *, rate_hz: int, origin_ms: float = 0.0) -> None:
        self._settings = settings
        self._origin_ms = origin_ms
        self._window_samples = rate_hz * WINDOW_MS // 1000
        level_dbfs = _QUIETEST_DBFS + _SCALE_DB * settings.threshold
        # Energy of one window at the threshold.
        self._loud = self._window_samples * (_FULL_SCALE * 10 ** (level_dbfs / 20)) ** 2
        # Samples that do not fill a window yet.
        self._rest: NDArray[np.int16] = np.zeros(0, dtype=np.int16)
        # Windows judged since the origin.
        self._windows = 0
        # Loud windows in a row, and quiet ones.
        self._loud_run = 0
        self._quiet_run = 0
        # Audio time before which no turn may begin: the end of the one before.
        self._floor_ms = origin_ms
        self.speaking = False

    def feed(self, samples: NDArray[np.int16]) -> list[Detection]:
        """Hear more samples.

        Args:
            samples: int16, mono, at the detector's rate.

        Returns:
            What was noticed, in order.
        """
        waiting = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(waiting) // self._window_samples * self._window_samples
        self._rest = waiting[whole:]
        detections: list[Detection] = []
        for start in range(0, whole, self._window_samples):
            window = waiting[start : start + self._window_samples].astype(np.float32)
            detection = self._judge(loud=bool(np.dot(window, window) >= self._loud))
            if detection is not None:
                detections.append(detection)
        return detections

    def forget(self) -> None:
        """Drop a turn that has begun, as when the client commits or clears the buffer itself."""
        self.speaking = False
        self._loud_run = self._quiet_run = 0
        self._floor_ms = self._now_ms()

    def _now_ms(self) -> float:
        return self._origin_ms + self._windows * WINDOW_MS

    def _judge(self, *, loud: bool) -> Detection | None:
        self._windows += 1
        self._loud_run = self._loud_run + 1 if loud else 0
        self._quiet_run = 0 if loud else self._quiet_run + 1
        if self.speaking:
            return self._maybe_ended()
        if self._loud_run * WINDOW_MS < ONSET_MS:
            return None
        self.speaking = True
        start_ms = self._now_ms() - self._loud_run * WINDOW_MS - self._settings.prefix_padding_ms
        return SpeechBegan(audio_ms=round(max(start_ms, self._floor_ms)))

    def _maybe_ended(self) -> SpeechEnded | None:
        if self._quiet_run * WINDOW_MS < max(self._settings.silence_duration_ms, WINDOW_MS):
            return None
        self.speaking = False
        self._loud_run = 0
        self._floor_ms = self._now_ms()
        return SpeechEnded(audio_ms=round(self._floor_ms))
