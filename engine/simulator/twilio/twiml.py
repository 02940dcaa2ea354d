"""Strict reading of the TwiML that a webhook answers with.

Owns the verbs that the simulated Twilio can follow, their attributes, and Twilio's error codes for what is wrong with
them (protocols.md A.1, A.4). It is stricter than Twilio in one way: what Twilio only warns of (12200: unknown verb,
attribute or nesting) is an error here, because the warning means that part of the answer is ignored. It refuses verbs
that exist but are not simulated, by name, rather than skip them.

A document that passes is a tuple of frozen verbs; a URL in it is resolved against the URL of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

from engine.errors import RemoteProtocolError
from engine.simulator.twilio.addresses import is_loopback

# "TwiML response body too large" (11750) begins here.
MAX_DOCUMENT_BYTES = 64 * 1024
MAX_PARAMETER_CHARACTERS = 499

RESPONSE_TOO_LARGE = 11750
PARSE_FAILURE = 12100
SCHEMA_VIOLATION = 12200
HANDSHAKE_FAILED = 31920
WRONG_SCHEME = 31922
WRONG_TRACK = 31941


class TwimlError(RemoteProtocolError):
    """The TwiML cannot be followed.

    Attributes:
        code: Twilio's error code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Connect:
    """`<Connect><Stream>`: open a two-way media stream, go on when the server closes it.

    Attributes:
        url: The media socket, ws or wss, exactly as signed.
        name: The stream's name, if one is given.
        parameters: The `<Parameter>` elements, for `start.customParameters`.
        status_callback: Where stream events are posted, if anywhere.
        status_callback_method: POST or GET.
        action: Where new TwiML is fetched when the stream is over; None goes on with the next verb.
        method: POST or GET, for `action`.
    """

    url: str
    name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    status_callback: str | None = None
    status_callback_method: str = "POST"
    action: str | None = None
    method: str = "POST"


@dataclass(frozen=True)
class Say:
    """`<Say>`: words spoken to the caller."""

    text: str
    voice: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Play:
    """`<Play>`: a sound file, or digits, played to the caller."""

    url: str
    digits: str | None = None


@dataclass(frozen=True)
class Pause:
    """`<Pause>`: silence of whole seconds."""

    length_s: int = 1


@dataclass(frozen=True)
class Hangup:
    """`<Hangup>`: the end of the call."""


@dataclass(frozen=True)
class Reject:
    """`<Reject>`: refuse the call without answering it; legal only as the first verb of a call."""

    reason: str = "rejected"


@dataclass(frozen=True)
class Redirect:
    """`<Redirect>`: go on with other TwiML; what follows it is unreachable."""

    url: str
    method: str = "POST"


@dataclass(frozen=True)
class Dial:
    """`<Dial>`: connect the caller with someone else. Recorded, not simulated."""

    target: str


Verb = Connect | Say | Play | Pause | Hangup | Reject | Redirect | Dial


@dataclass(frozen=True)
class Document:
    """Where a document came from, and what its media URLs may be."""

    url: str
    allow_plain_loopback: bool


def read_twiml(body: bytes, url: str, *, allow_plain_loopback: bool = True) -> tuple[Verb, ...]:
    """Reads a TwiML document.

    Args:
        body: The answer's body.
        url: The URL that it came from; relative URLs are resolved against it.
        allow_plain_loopback: Let media URLs be ws:// on loopback hosts. Twilio itself takes wss only.

    Returns:
        The verbs, in order; none for an empty `<Response/>`.

    Raises:
        TwimlError: 11750 too large, 12100 not XML or no `<Response>`, 12200 against the schema, 31920 a media URL with
            a query, 31922 a media URL with another scheme than wss, 31941 an illegal track.
    """
    root = _parse_xml(body)
    if root.tag != "Response":
        raise TwimlError(PARSE_FAILURE, f"the root element is <{root.tag}>, not <Response>")
    _require_attributes(root, set())
    _require_no_text(root)
    document = Document(url, allow_plain_loopback)
    return tuple(_read_verb(element, document) for element in root)


def _parse_xml(body: bytes) -> ElementTree.Element:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise TwimlError(RESPONSE_TOO_LARGE, f"{len(body)} bytes of TwiML, {MAX_DOCUMENT_BYTES} are allowed")
    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse_doctype
    try:
        checker.Parse(body, True)
        return ElementTree.fromstring(body)  # noqa: S314 - without a document type there are no entities to abuse
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:  # an encoding nobody knows
        raise TwimlError(PARSE_FAILURE, f"not well-formed XML: {error}") from None


def _refuse_doctype(*_: object) -> None:
    raise TwimlError(PARSE_FAILURE, "a document type declaration is not allowed")


def _read_verb(element: ElementTree.Element, document: Document) -> Verb:
    reader = _READERS.get(element.tag)
    if reader is None:
        known = ", ".join(f"<{name}>" for name in _READERS)
        raise TwimlError(SCHEMA_VIOLATION, f"<{element.tag}> is no verb that is simulated; known are {known}")
    return reader(element, document)


def _read_connect(element: ElementTree.Element, document: Document) -> Connect:
    _require_attributes(element, {"action", "method"})
    _require_no_text(element)
    if [child.tag for child in element] != ["Stream"]:
        raise TwimlError(SCHEMA_VIOLATION, "<Connect> must hold exactly one <Stream>")
    stream = element[0]
    _require_attributes(stream, {"url", "name", "track", "statusCallback", "statusCallbackMethod"})
    _require_no_text(stream)
    if (track := stream.get("track", "inbound_track")) != "inbound_track":
        raise TwimlError(WRONG_TRACK, f"track {track!r} is not allowed in <Connect>, only inbound_track")
    return Connect(
        url=_media_url(stream, document),
        name=stream.get("name"),
        parameters=_parameters(stream),
        status_callback=_optional_url(stream, "statusCallback", document),
        status_callback_method=_method(stream, "statusCallbackMethod"),
        action=_optional_url(element, "action", document),
        method=_method(element, "method"),
    )


def _media_url(stream: ElementTree.Element, document: Document) -> str:
    url = stream.get("url")
    if not url:
        raise TwimlError(SCHEMA_VIOLATION, "<Stream> lacks url")
    if "://" not in url:
        url = urljoin(document.url, url).replace("http", "ws", 1)
    check_media_url(url, allow_plain_loopback=document.allow_plain_loopback)
    return url


def check_media_url(url: str, *, allow_plain_loopback: bool) -> None:
    """Applies Twilio's rules for media URLs (protocols.md A.1).

    Raises:
        TwimlError: 31922 for the scheme, 31920 for a query string or a missing host.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise TwimlError(HANDSHAKE_FAILED, f"media URL {url!r} names no host")
    plain_allowed = allow_plain_loopback and is_loopback(parts.hostname)
    if parts.scheme != "wss" and not (parts.scheme == "ws" and plain_allowed):
        raise TwimlError(WRONG_SCHEME, f"media URL {url!r} is not wss://")
    if parts.query or "?" in url:
        raise TwimlError(HANDSHAKE_FAILED, f"media URL {url!r} has a query string; use <Parameter> instead")
    if parts.fragment:
        raise TwimlError(HANDSHAKE_FAILED, f"media URL {url!r} has a fragment")


def _parameters(stream: ElementTree.Element) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter":
            raise TwimlError(SCHEMA_VIOLATION, f"<{child.tag}> is not allowed in <Stream>")
        _require_attributes(child, {"name", "value"})
        _require_leaf(child)
        name, value = child.get("name"), child.get("value")
        if not name or value is None:
            raise TwimlError(SCHEMA_VIOLATION, "<Parameter> needs name and value")
        if len(name) + len(value) > MAX_PARAMETER_CHARACTERS:
            raise TwimlError(SCHEMA_VIOLATION, f"<Parameter> {name!r}: name and value must be under 500 characters")
        if name in parameters:
            raise TwimlError(SCHEMA_VIOLATION, f"<Parameter> {name!r} appears twice")
        parameters[name] = value
    return MappingProxyType(parameters)


def _read_say(element: ElementTree.Element, _document: Document) -> Say:
    _require_attributes(element, {"voice", "language", "loop"})
    return Say(_required_text(element), element.get("voice"), element.get("language"))


def _read_play(element: ElementTree.Element, document: Document) -> Play:
    _require_attributes(element, {"loop", "digits"})
    if (digits := element.get("digits")) is not None:
        return Play("", digits)
    return Play(urljoin(document.url, _required_text(element)))


def _read_pause(element: ElementTree.Element, _document: Document) -> Pause:
    _require_attributes(element, {"length"})
    _require_leaf(element)
    length = element.get("length", "1")
    if not (length.isascii() and length.isdigit()):
        raise TwimlError(SCHEMA_VIOLATION, f"<Pause> length {length!r} is no whole number of seconds")
    return Pause(int(length))


def _read_hangup(element: ElementTree.Element, _document: Document) -> Hangup:
    _require_attributes(element, set())
    _require_leaf(element)
    return Hangup()


def _read_reject(element: ElementTree.Element, _document: Document) -> Reject:
    _require_attributes(element, {"reason"})
    _require_leaf(element)
    if (reason := element.get("reason", "rejected")) not in ("rejected", "busy"):
        raise TwimlError(SCHEMA_VIOLATION, f"<Reject> reason {reason!r} is neither rejected nor busy")
    return Reject(reason)


def _read_redirect(element: ElementTree.Element, document: Document) -> Redirect:
    _require_attributes(element, {"method"})
    return Redirect(urljoin(document.url, _required_text(element)), _method(element, "method"))


_DIAL_ATTRIBUTES = frozenset(
    [
        "action",
        "method",
        "timeout",
        "hangupOnStar",
        "timeLimit",
        "callerId",
        "record",
        "trim",
        "recordingStatusCallback",
        "answerOnBridge",
        "ringTone",
        "recordingStatusCallbackMethod",
        "recordingStatusCallbackEvent",
        "recordingTrack",
        "sequential",
        "referUrl",
        "referMethod",
    ]
)
_DIAL_NOUNS = frozenset({"Number", "Sip", "Client", "Queue", "Conference"})


def _read_dial(element: ElementTree.Element, _document: Document) -> Dial:
    _require_attributes(element, _DIAL_ATTRIBUTES)
    if unknown := [child.tag for child in element if child.tag not in _DIAL_NOUNS]:
        raise TwimlError(SCHEMA_VIOLATION, f"<{unknown[0]}> is not allowed in <Dial>")
    targets = [f"{child.tag}:{(child.text or '').strip()}" for child in element]
    target = (element.text or "").strip() or ", ".join(targets)
    if not target:
        raise TwimlError(SCHEMA_VIOLATION, "<Dial> names nobody")
    return Dial(target)


def _optional_url(element: ElementTree.Element, name: str, document: Document) -> str | None:
    value = element.get(name)
    return urljoin(document.url, value) if value else None


def _method(element: ElementTree.Element, name: str) -> str:
    if (method := element.get(name, "POST")) not in ("GET", "POST"):
        raise TwimlError(SCHEMA_VIOLATION, f"<{element.tag}> {name} {method!r} is neither GET nor POST")
    return method


def _require_attributes(element: ElementTree.Element, allowed: set[str] | frozenset[str]) -> None:
    if unknown := sorted(set(element.keys()) - allowed):
        raise TwimlError(SCHEMA_VIOLATION, f"attribute {unknown[0]!r} is not allowed in <{element.tag}>")


def _require_no_text(element: ElementTree.Element) -> None:
    if any((text or "").strip() for text in (element.text, *(child.tail for child in element))):
        raise TwimlError(SCHEMA_VIOLATION, f"text is not allowed in <{element.tag}>")


def _require_leaf(element: ElementTree.Element) -> None:
    _require_no_text(element)
    if len(element):
        raise TwimlError(SCHEMA_VIOLATION, f"<{element[0].tag}> is not allowed in <{element.tag}>")


def _required_text(element: ElementTree.Element) -> str:
    if len(element):
        raise TwimlError(SCHEMA_VIOLATION, f"<{element[0].tag}> in <{element.tag}> is not simulated")
    if not (text := (element.text or "").strip()):
        raise TwimlError(SCHEMA_VIOLATION, f"<{element.tag}> is empty")
    return text


_READERS: Mapping[str, Callable[[ElementTree.Element, Document], Verb]] = MappingProxyType(
    {
        "Connect": _read_connect,
        "Say": _read_say,
        "Play": _read_play,
        "Pause": _read_pause,
        "Hangup": _read_hangup,
        "Reject": _read_reject,
        "Redirect": _read_redirect,
        "Dial": _read_dial,
    }
)
