"""`python -m benchmarks`: one subcommand for each question.

Owns the command line and where results go: a table on the terminal, JSON, a page with plots. Standard output holds the
result only; what is going on is told on standard error. Exit status: 0 measured, 1 the engine or the load generator
failed, 2 a wrong command line or a missing optional package, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from benchmarks import latency
from benchmarks.capacity import command as capacity
from benchmarks.codec import command as codec
from benchmarks.load import __main__ as load
from benchmarks.machine import busy_warnings, describe_machine
from benchmarks.outcome import Outcome
from benchmarks.pacer import command as pacer
from benchmarks.pacing import command as pacing
from benchmarks.page import render_page
from benchmarks.peer import LoadFailed
from benchmarks.plots import PlotsUnavailable, draw, require_plots
from benchmarks.progress import Progress
from benchmarks.text import render

DESCRIPTION: Final = "Measure the media engine on this machine, and find the settings that suit it."
REPORT_DIRECTORY: Final = "benchmark-report"


class Benchmark(Protocol):
    """What a module with a subcommand offers."""

    SUMMARY: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the subcommand's own options."""

    def expected_s(self, options: argparse.Namespace) -> float:
        """About how long it takes, in seconds."""

    def measure(self, options: argparse.Namespace, progress: Progress) -> Outcome:
        """Do it."""


def _benchmarks() -> Mapping[str, Benchmark]:
    return {"codec": codec, "pacer": pacer, "latency": latency, "pacing": pacing, "capacity": capacity}


def find_benchmark(name: str) -> Benchmark:
    """The subcommand of this name."""
    return _benchmarks()[name]


def make_parser() -> argparse.ArgumentParser:
    """The command line, all subcommands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, benchmark in _benchmarks().items():
        command = commands.add_parser(name, help=benchmark.SUMMARY, description=benchmark.SUMMARY)
        benchmark.add_options(command)
        command.add_argument("--quick", action="store_true", help="shorter and coarser: a try, not a measurement")
        command.add_argument("--json", metavar="PATH", help="write everything measured to PATH, - for standard output")
        command.add_argument(
            "--report",
            nargs="?",
            const=REPORT_DIRECTORY,
            type=Path,
            metavar="DIR",
            help=f"write an HTML page and its plots as PNG into DIR (default {REPORT_DIRECTORY}); needs matplotlib",
        )
        command.add_argument("--quiet", action="store_true", help="say nothing on standard error while measuring")
    summary = "one run of the load generator, every byte checked (python -m benchmarks.load --help)"
    commands.add_parser("load", help=summary, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; gives the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["load"]:
        return load.main(given[1:])
    options = make_parser().parse_args(given)
    benchmark = find_benchmark(options.command)
    progress = Progress(quiet=options.quiet)
    try:
        if options.report is not None:
            require_plots()
        machine = describe_machine()
        progress.say(f"about {_duration(benchmark.expected_s(options))}")
        outcome = benchmark.measure(options, progress)
        _give_out(outcome, machine, options, progress)
    except PlotsUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    except (LoadFailed, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _give_out(outcome: Outcome, machine: dict[str, str], options: argparse.Namespace, progress: Progress) -> None:
    warned = (*outcome.warnings, *busy_warnings(machine))
    if warned != outcome.warnings:
        outcome = Outcome(**{**vars(outcome), "warnings": warned})
    to_stdout = options.json == "-"
    print(render(outcome), file=sys.stderr if to_stdout else sys.stdout)
    if options.json is not None:
        written = json.dumps(outcome.to_json(machine), indent=2)
        if to_stdout:
            print(written)
        else:
            Path(options.json).write_text(written + "\n")
    if options.report is not None:
        progress.say(f"report: {write_report(outcome, machine, options.report)}")


def write_report(outcome: Outcome, machine: Mapping[str, str], directory: Path) -> Path:
    """Write the page and its plots; gives the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {(plot.name, theme): draw(plot, theme) for plot in outcome.plots for theme in ("light", "dark")}
    for (name, theme), png in drawn.items():
        suffix = "" if theme == "light" else "-dark"
        (directory / f"{outcome.command}-{name}{suffix}.png").write_bytes(png)
    page = directory / f"{outcome.command}.html"
    page.write_text(render_page(outcome, machine, lambda plot, theme: drawn[plot.name, theme]))
    return page
