"""The texts that settings may hold: each function turns one text into a value.

Owns the rules that need only the one text; rules between settings are in `engine.settings`. Every function raises
`ValueError` with the rest of a sentence that begins with the setting's name ("must be ..."). No message repeats an
address or a secret, for both may hold passwords.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


def is_loopback(host: str) -> bool:
    """Tell whether `host` (a name or an address, IPv6 without brackets) can only be reached from this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_text(text: str) -> str:
    """Take any text as it stands, except that no environment can hold a NUL."""
    if "\0" in text:
        raise ValueError("must not hold NUL characters")
    return text


def parse_host(text: str) -> str:
    """Take the name or address to listen on; IPv6 may come in brackets."""
    host = text.strip().removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(host):
        raise ValueError("must be a host name or an IP address without a port, for example 127.0.0.1")
    return host


def parse_secret(text: str) -> str:
    """Take a key or token: printable ASCII without spaces, as it must fit into an HTTP header."""
    secret = text.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("must be printable ASCII without spaces; copy it again from the vendor's console")
    return secret


def parse_account_sid(text: str) -> str:
    """Take a Twilio account sid, which always begins with AC."""
    sid = parse_secret(text)
    if not sid.startswith("AC"):
        raise ValueError('must begin with "AC", as the account sid in the Twilio console does')
    return sid


def parse_attribute(text: str) -> str:
    """Take the place of a Python object, `module:attribute`."""
    place = text.strip()
    if not _ATTRIBUTE.fullmatch(place):
        raise ValueError("must name a Python object as module:attribute, for example my_app.tools:TOOLS")
    return place


def parse_integer(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from `low` to `high`, both allowed."""

    def parse(text: str) -> int:
        try:
            number = int(text.strip())
        except ValueError:
            raise ValueError(f"must be a whole number from {low} to {high}") from None
        if not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {number}")
        return number

    return parse


def parse_limit(high: int) -> Callable[[str], int | None]:
    """Make a parser of limits from 1 to `high`; 0 lifts the limit and gives None."""
    parse_number = parse_integer(0, high)
    return lambda text: parse_number(text) or None


def parse_seconds(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of durations from `low` to `high` seconds, both allowed."""

    def parse(text: str) -> float:
        try:
            seconds = float(text.strip())
        except ValueError:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}") from None
        if not low <= seconds <= high:  # also refuses "nan"
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}, not {seconds:g}")
        return seconds

    return parse


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Make a parser that takes one of `choices`, in any case, and gives it in lower case."""

    def parse(text: str) -> str:
        choice = text.strip().lower()
        if choice not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return choice

    return parse


def parse_url(secure: str, plain: str, *, query_allowed: bool = False) -> Callable[[str], str]:
    """Make a parser of addresses with the scheme `secure`, or `plain`; a trailing slash is taken off.

    Whether `plain` is safe depends on other settings, so it is not judged here.
    """

    def parse(text: str) -> str:
        url = text.strip()
        parts = _split_url(url)
        if parts.scheme not in (secure, plain):
            raise ValueError(f"must begin with {secure}://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user name or password")
        if "#" in url or ("?" in url and not query_allowed):
            raise ValueError("must end with the host or path" + ("" if query_allowed else ", without ? or #"))
        return url.rstrip("/")

    return parse


def _split_url(url: str) -> SplitResult:
    """Split an address whose host must be there and whose port, if any, must be a port."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must be a whole address with a scheme and a host, for example https://voice.example.com")
    return parts
