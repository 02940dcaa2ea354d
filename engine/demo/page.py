"""The call as one self-contained web page: to be opened from disk, kept, or sent.

Owns the words of the conversation as shown and the rendering of ``page.html``. Everything is escaped by the template
engine; the page refers to nothing outside itself: styles, drawings, script and sound are inside.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2

from engine.demo.account import Account, ToolUse
from engine.demo.checks import Check
from engine.demo.drawing import draw_close_up, draw_timeline, plot_margins
from engine.demo.figures import Figures
from engine.demo.hearing import Hearing
from engine.demo.stereo import call_tracks
from engine.demo.table import Row, figure_rows, headlines


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One entry of the transcript.

    Attributes:
        who: ``caller``, ``agent`` or ``tool``.
        at_s: Seconds since the stream began.
        text: What was said and heard.
        unheard: The rest, which the caller cut off; the word at the boundary is an estimate.
        note: What else is worth saying about it.
    """

    who: str
    at_s: float
    text: str
    unheard: str = ""
    note: str = ""


def render_page(account: Account, figures: Figures, checks: Sequence[Check], *, wav: bytes, written_at: str) -> str:
    """Writes the page.

    Args:
        account: The call.
        figures: Measured from it.
        checks: Judged from both.
        wav: The stereo recording, a whole WAV file; it is embedded.
        written_at: When, in words for the reader.

    Returns:
        A complete HTML document.
    """
    caller, agent = call_tracks(account.record)
    barge_in = figures.barge_in
    plot_left, plot_width = plot_margins()
    return _template().render(
        account=account,
        figures=figures,
        checks=checks,
        passed=all(check.passed for check in checks),
        failed_count=sum(not check.passed for check in checks),
        rows=figure_rows(figures),
        headlines=headlines(figures),
        timeline=draw_timeline(account, figures, caller, agent),
        barge_in=barge_in,
        close_up=None if barge_in is None else draw_close_up(account, barge_in, caller, agent),
        transcript=transcript(account, figures.hearings),
        summary=summary_rows(account.engine_summary),
        duration_s=account.record.ended_at_s - account.record.started_at_s,
        plot_left=plot_left,
        plot_width=plot_width,
        wav_base64=b64encode(wav).decode("ascii"),
        written_at=written_at,
    )


def transcript(account: Account, hearings: Sequence[Hearing]) -> tuple[Utterance, ...]:
    """Everything that was said, in the order in which it was heard, with the tool calls between."""
    origin_s = account.record.started_at_s
    entries = [Utterance(who="caller", at_s=line.started_at_s - origin_s, text=line.text) for line in account.lines]
    entries += [_tool_entry(use, origin_s) for use in account.provider.tool_uses]
    entries += [_agent_entry(hearing, origin_s) for hearing in hearings]
    return tuple(sorted(entries, key=lambda entry: entry.at_s))


def split_heard(text: str, share: float) -> tuple[str, str]:
    """Cuts a sentence where the caller stopped hearing it: at the word nearest to `share` of its letters.

    Returns:
        The heard and the unheard part; joined with a space (if both are there) they are the text again.
    """
    if share >= 1:
        return text, ""
    words = text.split()
    reach, heard = share * len(text), 0
    length = 0
    for word in words:
        if length + len(word) / 2 > reach:
            break
        length += len(word) + 1
        heard += 1
    return " ".join(words[:heard]), " ".join(words[heard:])


def summary_rows(summary: Mapping[str, object] | None) -> tuple[Row, ...]:
    """The engine's own account as rows; nested values as compact JSON."""
    if summary is None:
        return ()
    return tuple(Row(name=name, value=_plain(value), meaning="") for name, value in summary.items())


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _agent_entry(hearing: Hearing, origin_s: float) -> Utterance:
    heard, unheard = split_heard(hearing.reply.text, hearing.heard_ms / hearing.reply.audio_ms)
    note = (
        f"interrupted after {hearing.heard_ms / 1000:.2f} s of {hearing.reply.audio_ms / 1000:.2f} s" if unheard else ""
    )
    return Utterance(who="agent", at_s=hearing.started_at_s - origin_s, text=heard, unheard=unheard, note=note)


def _tool_entry(use: ToolUse, origin_s: float) -> Utterance:
    took = "never answered" if use.answered_at_s is None else f"{(use.answered_at_s - use.called_at_s) * 1000:.0f} ms"
    return Utterance(
        who="tool",
        at_s=use.called_at_s - origin_s,
        text=f"{use.name}({use.arguments}) → {use.output or 'nothing'}",
        note=took,
    )


def _template() -> jinja2.Template:
    source = resources.files("engine.demo").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["clock"] = _clock
    return environment.from_string(source)


def _clock(at_s: float) -> str:
    """Seconds as minutes and seconds, to a tenth: ``0:07.3``."""
    tenths = round(max(at_s, 0.0) * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
