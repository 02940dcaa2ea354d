"""An outcome as text for a terminal."""

from __future__ import annotations

from benchmarks.outcome import Cell, Column, Outcome, Table


def format_cell(cell: Cell, column: Column) -> str:
    """A cell as it is shown, in a terminal and on a page."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:,.{column.digits}f}"


def render_table(table: Table) -> list[str]:
    """A table's lines: columns aligned, text left, numbers right."""
    names = [column.name for column in table.columns]
    cells = [[format_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    # a column is text if anything in it is
    is_text = [any(isinstance(row[index], str) for row in table.rows) for index in range(len(names))]

    def line(values: list[str]) -> str:
        aligned = zip(values, widths, is_text, strict=True)
        return "  ".join(value.ljust(width) if text else value.rjust(width) for value, width, text in aligned).rstrip()

    lines = [table.title, "  " + line(names), "  " + "  ".join("-" * width for width in widths)]
    lines += ["  " + line(row) for row in cells]
    if table.note:
        lines.append(f"  {table.note}")
    return lines


def render(outcome: Outcome) -> str:
    """The whole outcome."""
    lines = [outcome.question, ""]
    for section in outcome.sections:
        for table in section.tables:
            lines += [*render_table(table), ""]
        lines += [*section.text, ""] if section.text else []
    lines += [f"WARNING: {warning}" for warning in outcome.warnings]
    lines += [f"=> {conclusion}" for conclusion in outcome.conclusions]
    return "\n".join(lines)
