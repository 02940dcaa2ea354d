"""`codec`: what a 20 ms frame costs to decode, resample, encode and frame, and what is lost on the way."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from benchmarks.codec import contenders, paths
from benchmarks.codec.contenders import Contender
from benchmarks.codec.measure import alias_db, cut, delay_ms, snr_db, time_per_frame_us, tone
from benchmarks.outcome import BarPlot, Cell, Column, Outcome, Section, Table
from benchmarks.progress import Progress
from engine.audio.g711 import ulaw_decode, ulaw_encode

SUMMARY: Final = "what a 20 ms frame costs to decode, resample, encode and put on the wire"
QUESTION: Final = "What does a 20 ms frame cost, against what a Python user would take otherwise, and what is lost?"
FRAMES_PER_S: Final = 50
_TELEPHONE_HZ: Final = 8000
_TONE_HZ: Final = 1004.0
# An image of it at 8 kHz - 3 kHz, and what it would be aliased from: hard, and within the telephone band.
_HARD_TONE_HZ: Final = 3004.0
_ABOVE_BAND_HZ: Final = 5004.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "--provider-hz", type=int, default=24000, choices=(16000, 24000), help="rate of the provider's PCM"
    )


def expected_s(options: argparse.Namespace) -> float:
    """About how long it takes."""
    return 8.0 if options.quick else 45.0


def measure(options: argparse.Namespace, progress: Progress) -> Outcome:
    """Measure every step."""
    batch_s = 0.01 if options.quick else 0.15
    provider_hz: int = options.provider_hz
    progress.say("mu-law")
    laws = _laws(batch_s)
    progress.say("resampling")
    rates = [_resampling(*way, batch_s) for way in ((_TELEPHONE_HZ, provider_hz), (provider_hz, _TELEPHONE_HZ))]
    progress.say("whole conversions")
    whole = _whole(provider_hz, batch_s)
    progress.say("base64 and framing")
    wire = _wire(batch_s)
    sections = (
        Section(heading="A transcoded call, there and back", tables=whole, plots=_plots(whole)),
        Section(heading="Resampling", tables=tuple(rates), plots=_plots(rates)),
        Section(heading="Mu-law", tables=laws),
        Section(heading="On the wire", tables=wire),
    )
    return Outcome(
        command="codec",
        question=QUESTION,
        conclusions=_conclusions(whole, wire),
        sections=sections,
        figures={"quick": options.quick, "provider_hz": provider_hz},
    )


_TIME = (
    Column(name="way", digits=0),
    Column(name="us per frame", digits=2),
    Column(name="ms per call-second", digits=3),
)


def _timed(found: Sequence[Contender], frames: Sequence[bytes], batch_s: float) -> list[tuple[str, float, float]]:
    timed = []
    for contender in found:
        frame_us = time_per_frame_us(contender.make, frames, batch_s)
        timed.append((contender.name, frame_us, frame_us * FRAMES_PER_S / 1000))
    return timed


def _laws(batch_s: float) -> tuple[Table, ...]:
    pcm = tone(_TONE_HZ, _TELEPHONE_HZ)
    columns = (*_TIME, Column(name="SNR dB", digits=1))
    decoded = [
        (*row, _law_snr(ulaw_encode, each.make(), pcm))
        for row, each in _beside(contenders.decoders(), cut(ulaw_encode(pcm), _TELEPHONE_HZ, 1), batch_s)
    ]
    encoded = [
        (*row, _law_snr(each.make(), ulaw_decode, pcm))
        for row, each in _beside(contenders.encoders(), cut(pcm, _TELEPHONE_HZ, 2), batch_s)
    ]
    note = "SNR there and back through mu-law, tone of 1004 Hz"
    return (
        Table(title="mu-law to PCM", columns=columns, rows=tuple(decoded), note=note),
        Table(title="PCM to mu-law", columns=columns, rows=tuple(encoded), note=note),
    )


def _beside(
    found: list[Contender], frames: Sequence[bytes], batch_s: float
) -> list[tuple[tuple[str, float, float], Contender]]:
    return list(zip(_timed(found, frames, batch_s), found, strict=True))


def _law_snr(encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes], pcm: bytes) -> float:
    return snr_db(np.frombuffer(decode(encode(pcm)), "<i2").astype(np.float64), _TONE_HZ, _TELEPHONE_HZ)


def _resampling(input_hz: int, output_hz: int, batch_s: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for row, each in _beside(
        contenders.resamplers(input_hz, output_hz), cut(tone(_TONE_HZ, input_hz), input_hz, 2), batch_s
    ):
        late_ms = delay_ms(each.make(), input_hz=input_hz, output_hz=output_hz)
        plain_db, hard_db = (_stream_snr(each, hz, input_hz, output_hz) for hz in (_TONE_HZ, _HARD_TONE_HZ))
        alias: float | None = None
        if input_hz > output_hz:
            signal = _stream(each, tone(_ABOVE_BAND_HZ, input_hz), input_hz)
            alias = alias_db(signal, output_hz)
        rows.append((*row, late_ms, plain_db, hard_db, alias))
    return Table(
        title=f"{input_hz} Hz to {output_hz} Hz, PCM",
        columns=(
            *_TIME,
            Column(name="delay ms", digits=1),
            Column(name="SNR dB, 1 kHz", digits=1),
            Column(name="SNR dB, 3 kHz", digits=1),
            Column(name="alias of 5 kHz dB", digits=1),
        ),
        rows=tuple(rows),
        note="delay: the worst over a second's frames; SNR against everything that is not the tone, images too",
    )


def _stream(each: Contender, pcm: bytes, input_hz: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    convert = each.make()
    out = b"".join(convert(frame) for frame in cut(pcm, input_hz, 2))
    return np.frombuffer(out, "<i2").astype(np.float64)


def _stream_snr(each: Contender, frequency_hz: float, input_hz: int, output_hz: int) -> float:
    return snr_db(_stream(each, tone(frequency_hz, input_hz), input_hz), frequency_hz, output_hz)


def _whole(provider_hz: int, batch_s: float) -> tuple[Table, ...]:
    up_frames = cut(ulaw_encode(tone(_TONE_HZ, _TELEPHONE_HZ)), _TELEPHONE_HZ, 1)
    down_frames = cut(tone(_TONE_HZ, provider_hz), provider_hz, 2)
    up = _timed(paths.upward(provider_hz), up_frames, batch_s)
    down = _timed(paths.downward(provider_hz), down_frames, batch_s)
    return (
        Table(title=f"caller to provider: mu-law 8000 Hz to PCM {provider_hz} Hz", columns=_TIME, rows=tuple(up)),
        Table(title=f"provider to caller: PCM {provider_hz} Hz to mu-law 8000 Hz", columns=_TIME, rows=tuple(down)),
    )


def _wire(batch_s: float) -> tuple[Table, ...]:
    ulaw = cut(ulaw_encode(tone(_TONE_HZ, _TELEPHONE_HZ)), _TELEPHONE_HZ, 1)
    coded = [contenders.base64_encoders()[0].make()(frame) for frame in ulaw]
    parts = (
        ("base64 of 160 bytes", contenders.base64_encoders(), ulaw),
        ("160 bytes from base64", contenders.base64_decoders(), coded),
        ("mu-law to Twilio's WebSocket frame", contenders.framers(), ulaw),
    )
    return tuple(
        Table(title=title, columns=_TIME, rows=tuple(_timed(found, frames, batch_s))) for title, found, frames in parts
    )


def _plots(tables: Sequence[Table]) -> tuple[BarPlot, ...]:
    return tuple(
        BarPlot(
            name="-".join(
                word for word in table.title.lower().replace(":", "").replace(",", "").split() if word != "hz"
            ),
            title=table.title,
            x_label="microseconds per 20 ms frame",
            labels=tuple(str(row[0]) for row in table.rows),
            values=tuple(float(row[1] or 0.0) for row in table.rows),
        )
        for table in tables
    )


def _conclusions(whole: Sequence[Table], wire: Sequence[Table]) -> tuple[str, ...]:
    best_us = [min((float(row[1] or 0.0), str(row[0])) for row in table.rows) for table in whole]
    per_call_ms = sum(us for us, _ in best_us) * FRAMES_PER_S / 1000
    framing_us = float(wire[2].rows[0][1] or 0.0)
    transcoding = (
        f"transcoding both ways costs {per_call_ms:.2f} ms of CPU per call-second at best ({best_us[0][1]} up, "
        f"{best_us[1][1]} down); pass-through (OPENAI_AUDIO=pcmu) costs none of it"
    )
    return (
        transcoding,
        f"framing for Twilio costs {framing_us * FRAMES_PER_S / 1000:.2f} ms per call-second at FRAME_MS=20",
    )
