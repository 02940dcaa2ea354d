"""The command line: `media-engine` and `python -m engine`.

Owns the names of the commands and their exit statuses: 0 done, 1 failed, 2 the command line or the configuration is
wrong, 130 interrupted. Each command's code is loaded only when the command is given, so that `--help` is quick and a
fault in one command leaves the others usable.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from engine.errors import ConfigurationError
from engine.settings import Settings, describe_settings, load_settings, settings_warnings
from engine.version import engine_version

CONFIGURATION_STATUS = 2
INTERRUPTED_STATUS = 130

# Where the commands live that bring their own arguments: `add_arguments(parser)` and `run(arguments) -> int`.
_MODULES: Final = {"demo": "engine.demo.command", "simulate": "engine.simulator.command"}
_MEANINGS: Final = {
    "demo": "hold a whole conversation offline and show what was heard",
    "serve": "answer calls",
    "simulate": "place simulated Twilio calls at a service",
    "check": "tell whether the settings and the installation are right",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments behind the program's name; None means those of this process.

    Returns:
        The exit status.
    """
    arguments_given = list(sys.argv[1:] if argv is None else argv)
    status = INTERRUPTED_STATUS
    try:
        return _run(_parse(arguments_given))
    except* ConfigurationError as group:  # alone, or out of the nurseries of a service
        _print_faults(group)
        status = CONFIGURATION_STATUS
    except* KeyboardInterrupt:
        pass
    return status


def settings_help() -> str:
    """Describe every setting with its default, for the end of a help text."""
    lines = ["settings, as KEY=value, from the environment, or from a file .env in the current directory:", ""]
    for setting in describe_settings():
        if not setting.internal:
            text = f"{setting.meaning} [{setting.default}]"
            lines += [f"  {setting.name}", textwrap.fill(text, 78, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(lines)


def _print_faults(group: BaseExceptionGroup[ConfigurationError]) -> None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _print_faults(error)
        else:
            for fault in error.faults:
                print(f"media-engine: {fault}", file=sys.stderr)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; settings may stand before and behind options, where argparse alone loses them."""
    parser = _make_parser(argv)
    arguments, rest = parser.parse_known_args(argv)
    unknown = [argument for argument in rest if argument.startswith("-") or arguments.command in _MODULES]
    if unknown:  # by name only, for a value may be a secret
        parser.error(f"unrecognized arguments: {' '.join(argument.partition('=')[0] for argument in unknown)}")
    if rest:
        arguments.settings = [*arguments.settings, *rest]
    return arguments


def _make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="media-engine", description="Holds Twilio phone calls with AI voices.")
    parser.add_argument("--version", action="version", version=f"media-engine {engine_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, meaning in _MEANINGS.items():
        command = commands.add_parser(
            name, help=meaning, description=meaning, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name not in _MODULES:
            _add_settings(command)
        elif name == chosen:
            importlib.import_module(_MODULES[name]).add_arguments(command)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="*", metavar="KEY=value", help="a setting")
    parser.add_argument("--workers", metavar="N", help="the same as WORKERS=N")
    parser.epilog = settings_help()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command in _MODULES:
        status = importlib.import_module(_MODULES[arguments.command]).run(arguments)
        return int(status)
    workers = [] if arguments.workers is None else [f"WORKERS={arguments.workers}"]
    settings = load_settings([*arguments.settings, *workers])
    return _check(settings) if arguments.command == "check" else _serve(settings)


def _serve(settings: Settings) -> int:
    _set_up_logging(settings)
    if settings.worker_index is None:
        for warning in settings_warnings(settings):
            logging.getLogger("engine").warning(warning)
    if settings.workers > 1 and settings.worker_index is None:
        return int(importlib.import_module("engine.runtime.workers").run_workers(settings))
    if settings.worker_index is not None:
        importlib.import_module("engine.runtime.workers").end_with_parent()
    return int(importlib.import_module("engine.runtime.service").run(settings))


def _set_up_logging(settings: Settings) -> None:
    worker = "" if settings.worker_index is None else f" worker {settings.worker_index}"
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s{worker} %(name)s: %(message)s"
    )
    # These write a line for each request, with addresses that are not theirs to tell.
    for name in ("httpx2", "httpcore2", "twilio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _check(settings: Settings) -> int:
    return int(importlib.import_module("engine.check").run_check(settings))
