"""What a benchmark found, as data: tables, plots and sentences, before any of it is drawn.

Owns the shapes that every subcommand fills and every output reads (terminal, JSON, HTML, PNG). Holds no formatting but the
digits a column is worth showing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A table's column; numbers are shown with `digits` decimals."""

    name: str
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, one for each column; None is shown as a dash."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.title}: a row has not one cell for each column")


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LinePlot:
    """Lines over a common axis; `limits` are horizontal lines with a name."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    limits: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class BarPlot:
    """One bar for each label."""

    name: str
    title: str
    x_label: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A value for each pair of settings; `values[y][x]`, None where nothing was measured."""

    name: str
    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[str, ...]
    y_ticks: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    unit: str = ""
    digits: int = 0
    # (x, y) of the cell that is recommended
    chosen: tuple[int, int] | None = None


Plot: TypeAlias = LinePlot | BarPlot | Heatmap


@dataclass(frozen=True, kw_only=True)
class Section:
    """Tables and plots that answer one part of the question."""

    heading: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a subcommand found.

    Attributes:
        command: The subcommand.
        question: What it answers, one sentence.
        conclusions: The answer, one sentence each.
        warnings: Why the figures may not be the engine's.
        figures: Everything measured, for JSON.
    """

    command: str
    question: str
    conclusions: tuple[str, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """All plots, in order."""
        return tuple(plot for section in self.sections for plot in section.plots)

    def to_json(self, machine: Mapping[str, str]) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "command": self.command,
            "question": self.question,
            "machine": dict(machine),
            "conclusions": list(self.conclusions),
            "warnings": list(self.warnings),
            "tables": [asdict(table) for section in self.sections for table in section.tables],
            "figures": dict(self.figures),
        }
