"""An outcome as one HTML page that needs nothing else: no network, no script, readable on a phone and in the dark."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape

from benchmarks.outcome import Outcome, Plot, Section, Table
from benchmarks.text import format_cell

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --rule: #d5d9e0; --soft: #f2f4f7; --warn: #9a5b00; --bad: #c62828; --good: #1b7f3b }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6eb; --paper: #18191a; --rule: #3a3d42; --soft: #242628; --warn: #ffb74d; --bad: #ff8a80; --good: #7bd88f }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 1rem 0 .3rem }
.answer { border-left: 4px solid var(--good); background: var(--soft); padding: .6rem 1rem; margin: 1rem 0 } .answer p { margin: .2rem 0 }
.warning { border-left-color: var(--warn) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap }
th { font-weight: 600 } td.text, th.text { text-align: left }
td.missed { color: var(--bad); font-weight: 600 } td.met { color: var(--good) }
img { max-width: 100%; height: auto; display: block; margin: .8rem 0; border-radius: 4px } .note, footer { font-size: .85rem; opacity: .8 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85rem } dt { opacity: .7 } dd { margin: 0; overflow-wrap: anywhere }
"""


def render_page(outcome: Outcome, machine: Mapping[str, str], draw: Callable[[Plot, str], bytes]) -> str:
    """The page.

    Args:
        outcome: What to show.
        machine: Where it was measured.
        draw: Gives a plot as PNG, `light` or `dark`.
    """
    title = escape(f"Media engine: {outcome.command}")
    answer = "".join(f"<p>{escape(text)}</p>" for text in outcome.conclusions)
    warned = "".join(f"<p>{escape(text)}</p>" for text in outcome.warnings)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in machine.items())
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1><p>{escape(outcome.question)}</p>",
        f'<div class="answer">{answer}</div>' if answer else "",
        f'<div class="answer warning">{warned}</div>' if warned else "",
        *(_section(section, draw) for section in outcome.sections),
        f"<h2>Machine</h2><dl>{facts}</dl></body></html>",
    ]
    return "".join(parts) + "\n"


def _section(section: Section, draw: Callable[[Plot, str], bytes]) -> str:
    return "".join(
        [
            f"<h2>{escape(section.heading)}</h2>",
            *(f"<p>{escape(text)}</p>" for text in section.text),
            *(_picture(plot, draw) for plot in section.plots),
            *(_table(table) for table in section.tables),
        ]
    )


def _picture(plot: Plot, draw: Callable[[Plot, str], bytes]) -> str:
    light, dark = (base64.b64encode(draw(plot, theme)).decode() for theme in ("light", "dark"))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
        f'<img alt="{escape(plot.title)}" src="data:image/png;base64,{light}"></picture>'
    )


def _table(table: Table) -> str:
    is_text = [any(isinstance(row[index], str) for row in table.rows) for index in range(len(table.columns))]
    head = "".join(
        f"<th{_class('text' if text else '')}>{escape(column.name)}</th>"
        for column, text in zip(table.columns, is_text, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = []
        for cell, column, text in zip(row, table.columns, is_text, strict=True):
            shown = format_cell(cell, column)
            kind = f"text {shown}" if shown in ("met", "missed") else "text" if text else ""
            cells.append(f"<td{_class(kind)}>{escape(shown)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h3>{escape(table.title)}</h3>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{note}'
    )


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""
