"""How the simulated Realtime service behaves, whoever calls: keys, models, pace, limits and quirks.

Owns the settings of one peer; what it says and which faults strike stands in the script. Refuses values that make no sense
at once. Nothing here changes after it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

MODELS = (
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-2",
    "gpt-realtime-1.5",
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-10-06",
    "gpt-realtime-mini-2025-12-15",
)
"""Realtime models still served (protocols.md B.1)."""


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """Settings of a simulated Realtime service.

    Attributes:
        api_key: The only key accepted; None accepts any, but one must be sent.
        models: The models that exist.
        refuses_at_handshake: A wrong key or model is answered with an HTTP status (401, 404); else the socket is accepted, an
            `error` event sent, and the socket closed. Both have been seen of the service (protocols.md B.3 lists the codes).
        first_audio_ms: From `response.created` to the first audio.
        speedup: How many times faster than real time audio is sent.
        delta_ms: Least and greatest length of one audio delta; lengths are drawn sample by sample, so that deltas do not
            fall on the 20 ms grid of telephones.
        transcription_delay_ms: From a committed turn to its transcript.
        max_session_s: When `session_expired` ends the session (60 minutes at the service, protocols.md B.3).
        max_event_bytes: Longest client event accepted (15 MiB at the service, protocols.md B.3).
        max_outgoing_events: Events held for a client that does not read; beyond them it is closed with 1008.
        beta_delta_names: Send the three delta events under their old names (protocols.md B.5).
        fragment_bytes: Send each message in WebSocket frames of this many bytes; None sends whole messages.
        late_deltas: Audio deltas still sent after the `response.done` of a cancelled response.
        seed: Seed of every random choice; sessions differ by their index.
        log_entries: Entries kept in each list of a session's log; older ones go first, and are counted.

    Raises:
        ValueError: A value is out of range.
    """

    api_key: str | None = None
    models: tuple[str, ...] = MODELS
    refuses_at_handshake: bool = True
    first_audio_ms: float = 300.0
    speedup: float = 8.0
    delta_ms: tuple[int, int] = (60, 200)
    transcription_delay_ms: float = 250.0
    max_session_s: float = 3600.0
    max_event_bytes: int = 15 * 1024 * 1024
    max_outgoing_events: int = 20_000
    beta_delta_names: bool = False
    fragment_bytes: int | None = None
    late_deltas: int = 0
    seed: int = 0
    log_entries: int = 20_000

    def __post_init__(self) -> None:
        positive = ("speedup", "max_session_s", "max_event_bytes", "max_outgoing_events", "log_entries")
        wrong = [name for name in positive if not getattr(self, name) > 0]
        wrong += [
            name for name in ("first_audio_ms", "transcription_delay_ms", "late_deltas") if getattr(self, name) < 0
        ]
        if not 0 < self.delta_ms[0] <= self.delta_ms[1]:
            wrong.append("delta_ms")
        if self.fragment_bytes is not None and self.fragment_bytes < 1:
            wrong.append("fragment_bytes")
        if wrong:
            raise ValueError(f"out of range: {', '.join(wrong)}")
