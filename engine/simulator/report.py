"""Records of calls, told: as a table, as JSON, and as files to listen to.

Owns the summary of a call that people and programs read. Stereo files hold the caller left and what it heard right,
both in true time from `start` on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.audio.g711 import ULAW_SILENCE, ulaw_decode
from engine.audio.wav import Wav, write_wav
from engine.simulator.record import ULAW_BYTES_PER_S, CallRecord, Chunk

_COLUMNS = (
    ("call", "call_sid"),
    ("ended by", "ended_by"),
    ("set-up ms", "setup_ms"),
    ("first audio ms", "first_audio_ms"),
    ("sent", "frames_sent"),
    ("received", "messages_received"),
    ("heard s", "heard_s"),
    ("depth max ms", "depth_max_ms"),
    ("underruns", "underruns"),
    ("late max ms", "late_max_ms"),
    ("violations", "violations"),
    ("errors", "errors"),
)


def served_well(record: CallRecord) -> bool:
    """Says whether the call got a media stream and nothing broke in it."""
    return record.went_well and bool(record.stream_sid)


def summary_of(record: CallRecord) -> dict[str, Any]:
    """Sums a call up in plain values, rounded for reading."""
    return {
        "call_sid": record.call_sid,
        "well": served_well(record),
        "ended_by": record.ended_by,
        "lasted_s": round(record.ended_at_s - record.dialed_at_s, 3),
        "setup_ms": _rounded(record.setup_ms),
        "first_audio_ms": _rounded(record.first_audio_ms),
        "frames_sent": record.frames_sent,
        "frames_lost": record.frames_lost,
        "frames_congested": record.frames_congested,
        "frames_late": record.frames_late,
        "late_max_ms": round(record.late_max_ms, 1),
        "messages_received": len(record.received),
        "heard_s": round(sum(len(chunk.ulaw) for chunk in record.played) / ULAW_BYTES_PER_S, 2),
        "depth_max_ms": round(record.depth_max_ms, 1),
        "underruns": len(record.underruns),
        "pauses_at_marks": len(record.gaps) - len(record.underruns),
        "marks_received": record.marks_received,
        "marks_returned": record.marks_returned,
        "clears": record.clears,
        "violations": len(record.violations),
        "errors": [f"{error.code} {error.message}" for error in record.errors],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def table_of(records: Sequence[CallRecord]) -> str:
    """Lays the calls out as a table, with what went wrong and a total below it."""
    rows = [
        [title for title, _ in _COLUMNS],
        *([_cell(summary_of(record), key) for _, key in _COLUMNS] for record in records),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([*(line.rstrip() for line in lines), *_complaints(records), _total(records)])


def _cell(summary: dict[str, Any], key: str) -> str:
    value = summary[key]
    if isinstance(value, list):
        return str(len(value))
    return "-" if value is None else str(value)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)


def _complaints(records: Sequence[CallRecord]) -> list[str]:
    lines = []
    for record in records:
        lines += [f"{record.call_sid}: error {error.code}: {error.message}" for error in record.errors]
        lines += [f"{record.call_sid}: violation {wrong.code}: {wrong.reason}" for wrong in record.violations[:3]]
    return lines


def _total(records: Sequence[CallRecord]) -> str:
    well = sum(map(served_well, records))
    underruns = sum(len(record.underruns) for record in records)
    late_ms = max((record.late_max_ms for record in records), default=0.0)
    verdict = f"{well} of {len(records)} calls went well; {underruns} underruns"
    return f"{verdict}; the simulator was late by {late_ms:.1f} ms at worst"


def save_record(record: CallRecord, directory: Path) -> None:
    """Writes `<call sid>.json` and, if there was a stream, `<call sid>.wav`.

    The JSON has everything but the sound, times in seconds from `start`; the sound is stereo, see `stereo_of`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(record), indent=1)
    (directory / f"{record.call_sid}.json").write_text(text + "\n", encoding="utf-8")
    if record.stream_sid:
        write_wav(directory / f"{record.call_sid}.wav", stereo_of(record))


def _plain(record: CallRecord) -> dict[str, Any]:
    origin_s = record.started_at_s

    def since(items: Sequence[Any]) -> list[dict[str, Any]]:
        rows = [dataclasses.asdict(item) for item in items]
        return [{**row, "at_s": round(row["at_s"] - origin_s, 6)} for row in rows]

    return {
        **summary_of(record),
        "stream_sid": record.stream_sid,
        "events": since(record.events),
        "gaps": since(record.gaps),
        "violation_list": since(record.violations),
        "error_list": since(record.errors),
        "received": [[round(at_s - origin_s, 6), size] for at_s, size in record.received],
        "depth": [[round(at_s - origin_s, 6), round(depth_ms, 3)] for at_s, depth_ms in record.depth],
    }


def stereo_of(record: CallRecord) -> Wav:
    """Renders a call: 8000 Hz, two channels, caller left, agent right, from `start` to the end of the call."""
    samples = round((record.ended_at_s - record.started_at_s) * ULAW_BYTES_PER_S)
    left = _render(record.caller, record.started_at_s, samples)
    right = _render(record.played, record.started_at_s, samples)
    pcm = np.stack([left, right], axis=1).astype("<i2").tobytes()
    return Wav(sample_rate_hz=ULAW_BYTES_PER_S, channels=2, pcm=pcm)


def _render(chunks: Sequence[Chunk], origin_s: float, samples: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    ulaw = bytearray([ULAW_SILENCE]) * samples
    over = 0
    for chunk in chunks:
        # Frames that left late were spoken on time: what would overlap follows, what is a hair apart joins.
        begin = round((chunk.at_s - origin_s) * ULAW_BYTES_PER_S)
        begin = over if abs(begin - over) < ULAW_BYTES_PER_S // 50 else max(begin, over)
        taken = chunk.ulaw[: max(samples - begin, 0)]
        ulaw[begin : begin + len(taken)] = taken
        over = begin + len(taken)
    return np.frombuffer(ulaw_decode(bytes(ulaw)), dtype="<i2")
