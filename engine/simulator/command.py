"""The command `simulate`: place simulated Twilio calls at a service and say how each went.

Owns the command's arguments and its output: progress on standard error, the result on standard output. It calls this
machine only, unless told otherwise, and its exit status is 0 only if every call got a media stream and nothing broke.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import trio

from engine.errors import AudioFileError, ConfigurationError
from engine.simulator.batch import BatchPlan, place_calls
from engine.simulator.record import CallRecord
from engine.simulator.report import save_record, served_well, summary_of, table_of
from engine.simulator.twilio.addresses import is_loopback
from engine.simulator.twilio.faults import Faults
from engine.simulator.twilio.script import Dtmf
from engine.simulator.twilio.sound import RecordedAudio, sound_from_wav
from engine.simulator.voices.recordings import load_ulaw

_FAULTS = ("gap", "bunch", "drop", "marks", "playout", "hostile")
_DROP_AFTER_MS = 5000.0

_EPILOG = """\
faults:
  gap      100 ms of the caller's audio are lost every 2 s; timestamps jump
  bunch    frames are held back for 200 ms every 1.5 s, then come at once
  drop     the connection breaks after half of --seconds (5 s without it), with no stop message
  marks    marks come back 150 ms late
  playout  playout starts 20 to 150 ms after the audio that begins it
  hostile  a message that Twilio never sends, every second

examples:
  media-engine simulate http://127.0.0.1:8080/incoming-call
  media-engine simulate ws://127.0.0.1:8080/media-stream --calls 20 --rate 2 --seconds 30
  media-engine simulate http://127.0.0.1:8080/incoming-call --dtmf 12#@4 --faults gap,bunch --record calls

exit status: 0 every call went well, 1 some did not, 2 wrong arguments
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", metavar="URL", help="a webhook (http, https) or a media socket (ws, wss)")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="what the callers say [a built-in voice]")
    parser.add_argument("--calls", type=_positive(int), default=1, metavar="N", help="how many calls [1]")
    parser.add_argument(
        "--rate", type=_positive(float), default=5.0, metavar="CPS", help="calls started per second [5]"
    )
    parser.add_argument(
        "--seconds",
        type=_positive(float),
        metavar="S",
        help="repeat the sound and hang up after S seconds [say it once, listen to the answer, hang up]",
    )
    parser.add_argument("--auth-token", metavar="T", help="sign webhooks and media sockets with this token [unsigned]")
    parser.add_argument(
        "--param",
        type=_parameter,
        action="append",
        default=[],
        metavar="K=V",
        help="a custom parameter of the start message, for media sockets",
    )
    parser.add_argument(
        "--dtmf", type=_keys, action="append", default=[], metavar="DIGITS[@S]", help="keys to press, S seconds in [1]"
    )
    parser.add_argument(
        "--faults", type=_fault_names, default=(), metavar="LIST", help="what goes wrong, comma-separated; see below"
    )
    parser.add_argument("--record", type=Path, metavar="DIR", help="save each call there: JSON, and stereo sound")
    parser.add_argument("--strict", action="store_true", help="end a call at the server's first protocol violation")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--allow-remote", action="store_true", help="allow calls to other machines than this one")


def run(arguments: argparse.Namespace) -> int:
    """Places the calls.

    Returns:
        0 if every call went well, else 1.

    Raises:
        ConfigurationError: The arguments do not fit together, or the sound cannot be used.
    """
    plan = _plan_of(arguments)
    ended = 0

    def tell(record: CallRecord) -> None:
        nonlocal ended
        ended += 1
        verdict = "well" if served_well(record) else "NOT WELL"
        print(f"{ended}/{plan.calls} {record.call_sid} {verdict}: {record.ended_by}", file=sys.stderr, flush=True)
        if arguments.record is not None:
            save_record(record, arguments.record)

    records = trio.run(place_calls, plan, tell)
    if arguments.json:
        print(json.dumps([summary_of(record) for record in records], indent=1))
    else:
        print(table_of(records))
    return 0 if all(map(served_well, records)) else 1


def _plan_of(arguments: argparse.Namespace) -> BatchPlan:
    faults = []
    parts = urlsplit(arguments.url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        faults.append(f"URL {arguments.url!r} must begin with http://, https://, ws:// or wss:// and name a host")
    elif not arguments.allow_remote and not is_loopback(parts.hostname):
        faults.append(f"{parts.hostname} is not this machine; give --allow-remote if you may call it")
    if arguments.param and parts.scheme in ("http", "https"):
        faults.append("--param is for media sockets; a webhook's TwiML brings its own parameters")
    if faults:
        raise ConfigurationError(faults)
    return BatchPlan(
        url=arguments.url,
        sound=_sound_of(arguments.wav),
        calls=arguments.calls,
        rate_cps=arguments.rate,
        seconds=arguments.seconds,
        digits=arguments.dtmf,
        auth_token=arguments.auth_token,
        parameters=dict(arguments.param),
        faults=_faults_of(arguments.faults, arguments.seconds),
        strict=arguments.strict,
        allow_remote=arguments.allow_remote,
    )


def _sound_of(path: Path | None) -> RecordedAudio:
    try:
        return RecordedAudio(load_ulaw("caller")) if path is None else sound_from_wav(path)
    except AudioFileError as error:
        raise ConfigurationError([str(error)]) from None


def _faults_of(names: tuple[str, ...], seconds: float | None) -> Faults:
    drop_at_ms = _DROP_AFTER_MS if seconds is None else seconds * 500
    return Faults(
        gap_every_ms=2000.0 if "gap" in names else None,
        bunch_every_ms=1500.0 if "bunch" in names else None,
        drop_at_ms=drop_at_ms if "drop" in names else None,
        mark_delay_ms=150.0 if "marks" in names else 0.0,
        playout_start_ms=(20.0, 150.0) if "playout" in names else (0.0, 0.0),
        hostile_every_ms=1000.0 if "hostile" in names else None,
    )


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not positive, or too much")
        return value

    return read


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _keys(text: str) -> tuple[float, str]:
    digits, _, at = text.partition("@")
    try:
        return float(at or 1), Dtmf(digits).digits
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be keys (0-9 * # A-D), then @ and seconds if you like"
        ) from None


def _fault_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := sorted(set(names) - set(_FAULTS)):
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; there are {', '.join(_FAULTS)}")
    return names
