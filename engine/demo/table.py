"""The figures as rows of a table: what they are called, how they read, and what the design aims at.

Owns wording and rounding, for the terminal and the page alike; measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.demo.figures import Figures, Spread

NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: what was measured, what came out, and what it means."""

    name: str
    value: str
    meaning: str


def figure_rows(figures: Figures) -> tuple[Row, ...]:
    """All figures of a call as text."""
    return (
        Row(
            name="Connected",
            value=_ms(figures.connected_ms),
            meaning="from the webhook's POST to the media stream's start",
        ),
        Row(
            name="First agent audio",
            value=_ms(figures.first_audio_ms),
            meaning=f"to the greeting's first frame at Twilio; the model itself took {_ms(figures.thinking_ms)} of it",
        ),
        Row(
            name="Added latency, caller to provider",
            value=_spread(figures.up),
            meaning="from a frame leaving the telephone to its last byte at the provider",
        ),
        Row(
            name="Added latency, provider to caller",
            value=_typical_and_worst(figures.down),
            meaning="from a reply's first delta to its first frame at Twilio",
        ),
        *_barge_in_rows(figures),
        Row(
            name="Frame lateness",
            value=_spread(figures.lateness),
            meaning="arrival at Twilio against the 20 ms schedule",
        ),
        Row(
            name="Lead",
            value=_typical_and_worst(figures.depth),
            meaning=f"audio waiting at Twilio once a frame has come; the engine aims at {figures.lead_ms:.0f} ms before it",
        ),
        Row(
            name="Underruns",
            value=str(figures.underruns),
            meaning="times the telephone ran dry in the middle of speech",
        ),
        Row(name="Violations", value=str(figures.violations), meaning="messages that break Twilio's protocol"),
    )


def _barge_in_rows(figures: Figures) -> tuple[Row, ...]:
    barge_in = figures.barge_in
    if barge_in is None:
        return (Row(name="Barge-in", value=NOT_MEASURED, meaning="nobody was interrupted"),)
    return (
        Row(
            name="Silence after barge-in",
            value=_ms(barge_in.clear_ms),
            meaning="from the provider's speech_started to clear at Twilio",
        ),
        Row(
            name="Heard at barge-in",
            value=f"{barge_in.reported_ms:,} ms told, {barge_in.hearing.heard_ms:,.0f} ms true",
            meaning=f"off by {barge_in.error_ms:+.1f} ms; the provider had sent {barge_in.hearing.reply.audio_ms:,.0f} ms",
        ),
    )


def _ms(value_ms: float | None) -> str:
    if value_ms is None:
        return NOT_MEASURED
    return f"{value_ms:.2f} ms" if value_ms < 10 else f"{value_ms:.0f} ms"


def _spread(spread: Spread | None) -> str:
    return NOT_MEASURED if spread is None else f"p50 {_ms(spread.median_ms)}, p99 {_ms(spread.p99_ms)}"


def _typical_and_worst(spread: Spread | None) -> str:
    return NOT_MEASURED if spread is None else f"median {_ms(spread.median_ms)}, most {_ms(spread.worst_ms)}"


def headlines(figures: Figures) -> tuple[Row, ...]:
    """The four figures that say most, short enough for tiles."""
    barge_in = figures.barge_in
    return (
        Row(name="Added on the way up", value=_median(figures.up), meaning="caller to provider, median"),
        Row(name="Added on the way down", value=_median(figures.down), meaning="provider to caller, median"),
        Row(
            name="Silent after barge-in",
            value=_ms(None if barge_in is None else barge_in.clear_ms),
            meaning="speech noticed to buffer cleared",
        ),
        Row(
            name="Error of what was heard",
            value=NOT_MEASURED if barge_in is None else f"{abs(barge_in.error_ms):.1f} ms",
            meaning="told to the provider against the truth",
        ),
    )


def _median(spread: Spread | None) -> str:
    return _ms(None if spread is None else spread.median_ms)
