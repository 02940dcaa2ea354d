"""``media-engine demo``: a whole conversation, offline, told as it happens and kept as sound and page.

Owns the command's arguments, its output and its exit status: 0 if the conversation went as scripted, else 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import trio

from engine.audio.wav import write_wav
from engine.demo.account import Account
from engine.demo.checks import Check, check_call
from engine.demo.conversation import hold_conversation
from engine.demo.figures import Figures, measure
from engine.demo.page import render_page
from engine.demo.stereo import call_tracks, stereo_wav
from engine.demo.table import Row, figure_rows
from engine.errors import EngineError

# Start, conversation, closing: the whole demonstration stays under a minute, on a slow machine a little more.
_LIMIT_S = 90.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="DIR",
        help="where call.wav, call.html and engine.log are written [demo-output]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Holds the conversation, writes the files, prints figures and verdict.

    Returns:
        0 if every check passed, else 1.
    """
    print("One call through the media engine, with a recorded caller and simulated services\n", flush=True)
    faults: list[str] = []
    try:
        account, log = trio.run(_converse)
        figures = measure(account)
        checks = check_call(account, figures)
        write_files(arguments.output, account, figures, checks, log)
    except* (EngineError, OSError) as group:
        faults += [str(error) for error in _leaves(group)]
    except* trio.TooSlowError:
        faults.append(f"it was not over after {_LIMIT_S:.0f} s")
    if faults:
        print("\nThe demonstration could not be held: " + "; ".join(faults), file=sys.stderr)
        return 1
    print(report(figure_rows(figures), checks))
    print(f"\nListen and look: {arguments.output / 'call.html'}   {arguments.output / 'call.wav'}")
    if all(check.passed for check in checks):
        return 0
    print(f"What the service says: {arguments.output / 'engine.log'}")
    return 1


def report(rows: Sequence[Row], checks: Sequence[Check]) -> str:
    """The figures, the checks and the verdict as plain text."""
    name_width = max(len(row.name) for row in rows)
    value_width = max(len(row.value) for row in rows)
    lines = ["", *(f"  {row.name:<{name_width}}  {row.value:<{value_width}}  {row.meaning}" for row in rows), ""]
    lines += [f"  {'passed' if check.passed else 'FAILED'}  {check.claim} ({check.found})" for check in checks]
    failed = sum(not check.passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    outcome = "did not go" if failed else "went"
    return "\n".join([*lines, "", f"The conversation {outcome} as scripted: {verdict}."])


def write_files(
    directory: Path, account: Account, figures: Figures, checks: Sequence[Check], log: Sequence[str]
) -> None:
    """Writes ``call.wav``, ``call.html`` and ``engine.log``, replacing those of an earlier run.

    Raises:
        OSError: The directory or a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sound = directory / "call.wav"
    write_wav(sound, stereo_wav(*call_tracks(account.record)))
    written_at = f"{datetime.now().astimezone():%d %B %Y, %H:%M}".lstrip("0")
    page = render_page(account, figures, checks, wav=sound.read_bytes(), written_at=written_at)
    (directory / "call.html").write_text(page, encoding="utf-8")
    (directory / "engine.log").write_text("\n".join(log) + "\n", encoding="utf-8")


async def _converse() -> tuple[Account, tuple[str, ...]]:
    with trio.fail_after(_LIMIT_S):
        return await hold_conversation(lambda line: print(line, flush=True))


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors in a group, however deep the nurseries were."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
