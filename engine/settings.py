"""The settings of the engine: their names, meanings, defaults, and the one place that reads the environment.

Each field of `Settings` is one setting; its name in capitals is what users write. A setting comes from a `KEY=value`
argument, else the environment, else the file `.env` in the current directory, else its default. `load_settings` looks
at all of them before it complains, so that one run names every fault. Secrets never appear in the `repr`, in faults,
or in warnings.
"""

from __future__ import annotations

import difflib
import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from engine.errors import ConfigurationError
from engine.setting_values import (
    is_loopback,
    parse_account_sid,
    parse_attribute,
    parse_choice,
    parse_host,
    parse_integer,
    parse_limit,
    parse_seconds,
    parse_secret,
    parse_text,
    parse_url,
)

MEDIA_PATH = "/media-stream"

_INSTRUCTIONS = (
    "You are a friendly assistant on a telephone call. Answer in one or two short sentences, without lists or markup, "
    "and say numbers the way people speak them."
)
_FALLBACK_MESSAGE = "I am sorry, something went wrong on our side. Please call again later. Goodbye."
_BUSY_MESSAGE = "All our lines are busy at the moment. Please call again in a few minutes. Goodbye."
_OPENAI_REALTIME_URL = "wss://api.openai.com/v1/realtime"
_PROVIDERS = ("openai", "async", "openai+async", "echo")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of one setting.

    Attributes:
        name: The name users write, for example `PUBLIC_URL`.
        meaning: What it does, in one line.
        default: The default as users would write it, or a remark in parentheses.
        secret: Its value must never be shown.
        empty_allowed: An empty text is a value of its own; for other settings it means the default.
        internal: Not for users; not shown to them.
        parse: Turns the text into the value; raises `ValueError` with the rest of a sentence.
    """

    name: str
    meaning: str
    default: str
    secret: bool
    empty_allowed: bool
    internal: bool
    parse: Callable[[str], Any]


def _setting(
    parse: Callable[[str], Any],
    default: Any,
    meaning: str,
    *,
    shown: str | None = None,
    secret: bool = False,
    empty_allowed: bool = False,
    internal: bool = False,
) -> Any:
    """Describe a setting beside the field that holds it; the field gives it its name."""
    description = {
        "meaning": meaning,
        "default": ("(none)" if default is None else str(default)) if shown is None else shown,
        "secret": secret,
        "empty_allowed": empty_allowed,
        "internal": internal,
        "parse": parse,
    }
    return field(default=default, repr=not secret, metadata=description)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the engine can be told. Build it with `load_settings`, which checks it.

    Built directly, the values are taken as they are, except that an empty `provider` and `public_url` get their
    defaults from the other settings.
    """

    host: str = _setting(parse_host, "127.0.0.1", "address to listen on")
    port: int = _setting(parse_integer(0, 65535), 8080, "port to listen on; 0 takes any free one")
    public_url: str = _setting(
        parse_url("https", "http"),
        "",
        "https URL under which Twilio reaches this service; signatures are checked against it",
        shown="(http://HOST:PORT on a loopback HOST, otherwise required)",
    )
    workers: int = _setting(parse_integer(1, 256), 1, "processes that share the port")
    max_calls: int | None = _setting(
        parse_limit(100_000), None, "calls that one worker takes at a time; 0 sets no limit", shown="0"
    )
    provider: str = _setting(
        parse_choice(*_PROVIDERS),
        "",
        "who speaks with the caller: openai, or echo (the caller's own voice, for tests)",
        shown="(openai when OPENAI_API_KEY or OPENAI_REALTIME_URL is set, else echo)",
    )
    twilio_account_sid: str | None = _setting(parse_account_sid, None, "sid of your Twilio account, AC...")
    twilio_auth_token: str | None = _setting(
        parse_secret, None, "auth token that signs Twilio's requests; required unless HOST is loopback", secret=True
    )
    twilio_api_url: str = _setting(
        parse_url("https", "http"), "https://api.twilio.com", "Twilio's REST API; only to point at a test server"
    )
    outbound_number: str | None = _setting(parse_text, None, "number that calls are placed from")
    inbound_number: str | None = _setting(parse_text, None, "number that is called")
    openai_api_key: str | None = _setting(parse_secret, None, "OpenAI key", secret=True)
    openai_realtime_url: str = _setting(
        parse_url("wss", "ws", query_allowed=True), _OPENAI_REALTIME_URL, "address of the Realtime API"
    )
    openai_model: str = _setting(parse_text, "gpt-realtime-2.1", "Realtime model")
    openai_voice: str = _setting(parse_text, "marin", "voice of the Realtime model")
    openai_audio: str = _setting(
        parse_choice("pcmu", "pcm24k"), "pcmu", "audio to and from OpenAI: pcmu (as on the telephone) or pcm24k"
    )
    turn_detection: str = _setting(
        parse_choice("server_vad", "semantic_vad"), "server_vad", "how OpenAI hears turns: server_vad or semantic_vad"
    )
    instructions: str = _setting(
        parse_text, _INSTRUCTIONS, "what the model is told to be", shown="(a brief telephone assistant)"
    )
    greeting: str = _setting(
        parse_text,
        "Greet the caller briefly and offer help.",
        "instructions of the first response; empty waits for the caller to speak",
        empty_allowed=True,
    )
    tools: str | None = _setting(parse_attribute, None, "tools that the model may call, as module:attribute")
    tool_timeout_s: float = _setting(parse_seconds(0.1, 300), 20.0, "seconds a tool may take", shown="20")
    sms_handler: str | None = _setting(parse_attribute, None, "what answers text messages, as module:attribute")
    fallback_message: str = _setting(
        parse_text,
        _FALLBACK_MESSAGE,
        "said to the caller when the conversation could not go on; empty says nothing",
        shown="(an apology and goodbye)",
        empty_allowed=True,
    )
    busy_message: str = _setting(
        parse_text,
        _BUSY_MESSAGE,
        "said to a caller who cannot be taken now; empty gives the busy tone instead",
        shown="(all lines are busy)",
        empty_allowed=True,
    )
    async_api_key: str | None = _setting(parse_secret, None, "Async key (not used in this version)", secret=True)
    async_model_id: str | None = _setting(parse_text, None, "Async model (not used in this version)")
    async_voice_id: str | None = _setting(parse_text, None, "Async voice (not used in this version)")
    async_tts_url: str | None = _setting(
        parse_url("wss", "ws", query_allowed=True), None, "Async text to speech (not used in this version)"
    )
    async_stt_url: str | None = _setting(
        parse_url("wss", "ws", query_allowed=True), None, "Async speech to text (not used in this version)"
    )
    frame_ms: int = _setting(parse_integer(10, 200), 20, "audio in one message to Twilio, in ms")
    lead_ms: int = _setting(parse_integer(0, 2000), 200, "audio kept in Twilio's buffer ahead of the caller, in ms")
    drain_s: float = _setting(parse_seconds(0, 86_400), 30.0, "seconds that calls may go on after SIGTERM", shown="30")
    log_level: str = _setting(
        parse_choice("debug", "info", "warning", "error"), "info", "least level that is logged: debug to error"
    )
    worker_index: int | None = _setting(
        parse_integer(0, 255), None, "set by the engine for its own worker processes", internal=True
    )

    def __post_init__(self) -> None:
        """Fill in the defaults that depend on other settings."""
        if not self.public_url and is_loopback(self.host):
            object.__setattr__(self, "public_url", _local_url(self.host, self.port))
        if not self.provider:
            spoken = self.openai_api_key or self.openai_realtime_url != _OPENAI_REALTIME_URL
            object.__setattr__(self, "provider", "openai" if spoken else "echo")

    @property
    def media_url(self) -> str:
        """The address of the media socket as Twilio is told it: `wss://`, or `ws://` for a plain `public_url`."""
        return "ws" + self.public_url.removeprefix("http") + MEDIA_PATH

    @property
    def signatures_required(self) -> bool:
        """Whether requests must be signed by Twilio: always, once there is an auth token."""
        return self.twilio_auth_token is not None

    @property
    def port_shared(self) -> bool:
        """Whether this process is one of several workers, which all listen on the same port."""
        return self.worker_index is not None

    def webhook_url(self, path: str) -> str:
        """Give the public address of one of our routes; `path` begins with a slash."""
        return self.public_url + path

    def bound_to(self, port: int) -> Settings:
        """Give these settings with the port that was really bound; a `public_url` made from `PORT` follows it."""
        return replace(self, port=port, public_url=self._stated_public_url())

    def to_environ(self) -> dict[str, str]:
        """Write every setting as environment text, so that a child process loads exactly these; holds secrets."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["public_url"] = self._stated_public_url()
        return {name.upper(): "" if value is None else str(value) for name, value in values.items()}

    def _stated_public_url(self) -> str:
        """Give `public_url`, or an empty text when it was made from `host` and `port`."""
        return "" if self.public_url == _local_url(self.host, self.port) else self.public_url


def describe_settings() -> tuple[Setting, ...]:
    """Describe every setting, in the order in which they are shown."""
    return tuple(Setting(name=each.name.upper(), **each.metadata) for each in fields(Settings))


def load_settings(
    arguments: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    dotenv_path: Path | None = None,
) -> Settings:
    """Read the settings from arguments, environment and `.env`, in this order, and check them.

    Args:
        arguments: `KEY=value` texts; of two for the same key the later one counts.
        environ: The environment; None means that of this process.
        dotenv_path: The file of further settings; None means `.env` in the current directory. It need not exist.

    Returns:
        The settings, all checked.

    Raises:
        ConfigurationError: With one fault for each thing that is wrong or missing.
    """
    faults: list[str] = []
    given = _read_arguments(arguments, faults)
    environment = dict(os.environ if environ is None else environ)
    remembered = _read_dotenv(Path(".env") if dotenv_path is None else dotenv_path, faults)
    texts = ChainMap(given, environment, remembered)
    values: dict[str, Any] = {}
    wrong: set[str] = set()
    for setting in describe_settings():
        text = texts.get(setting.name)
        if text is None or not (text.strip() or setting.empty_allowed):
            continue
        try:
            values[setting.name.lower()] = setting.parse(text)
        except ValueError as error:
            faults.append(f"{setting.name} {error}.")
            wrong.add(setting.name)
    settings = Settings(**values)
    faults.extend(_cross_faults(settings, wrong))
    if faults:
        raise ConfigurationError(faults)
    return settings


def settings_warnings(settings: Settings) -> tuple[str, ...]:
    """Name what is allowed but probably not meant, one sentence each."""
    warnings = []
    if not settings.signatures_required and not is_loopback(_host_of(settings.public_url)):
        warnings.append(
            "TWILIO_AUTH_TOKEN is not set although PUBLIC_URL is public: anyone who finds the address can start calls."
        )
    if settings.lead_ms < settings.frame_ms:
        warnings.append("LEAD_MS is less than FRAME_MS: the caller will hear gaps.")
    return tuple(warnings)


def _read_arguments(arguments: Sequence[str], faults: list[str]) -> dict[str, str]:
    """Split `KEY=value` texts. Faults show the key only, for the value may be a secret."""
    names = [setting.name for setting in describe_settings()]
    given: dict[str, str] = {}
    for place, argument in enumerate(arguments, start=1):
        name, separator, value = argument.partition("=")
        if not separator:
            faults.append(f"Argument {place} must be written KEY=value, for example PORT=8080.")
        elif name in names:
            given[name] = value
        else:
            close = difflib.get_close_matches(name.upper(), names, n=1)
            advice = f"did you mean {close[0]}?" if close else "serve --help lists the settings."
            faults.append(f"{name} is not a setting; {advice}")
    return given


def _read_dotenv(path: Path, faults: list[str]) -> dict[str, str]:
    """Read a `.env` file, if there is one; names that are not settings belong to others and are left alone."""
    try:
        found = dotenv_values(path, interpolate=False) if path.exists() else {}
    except (OSError, UnicodeDecodeError):
        faults.append(f"{path} cannot be read; make it a readable UTF-8 text file or remove it.")
        return {}
    return {name: value for name, value in found.items() if value is not None}


def _cross_faults(settings: Settings, wrong: set[str]) -> list[str]:
    """Check the rules between settings; a rule about a setting that is `wrong` in itself is not checked."""
    rules = (
        ({"HOST", "TWILIO_AUTH_TOKEN"}, _exposure_fault),
        ({"HOST", "PUBLIC_URL"}, _public_url_fault),
        ({"PROVIDER", "OPENAI_REALTIME_URL", "OPENAI_API_KEY"}, _provider_fault),
        ({"OPENAI_REALTIME_URL", "OPENAI_API_KEY"}, _plain_provider_fault),
        ({"TWILIO_API_URL"}, _plain_twilio_fault),
    )
    found = [rule(settings) for names, rule in rules if not names & wrong]
    return [fault for fault in found if fault]


def _exposure_fault(settings: Settings) -> str:
    if settings.signatures_required or is_loopback(settings.host):
        return ""
    return (
        "TWILIO_AUTH_TOKEN is missing: without it requests cannot be checked and HOST must be a loopback address; "
        "set it from the Twilio console, or use HOST=127.0.0.1."
    )


def _public_url_fault(settings: Settings) -> str:
    if not settings.public_url:
        return "PUBLIC_URL is missing: set it to the https URL under which Twilio reaches this service."
    if settings.public_url.startswith("http://") and not is_loopback(_host_of(settings.public_url)):
        return "PUBLIC_URL must begin with https://; plain http is only for loopback addresses."
    return ""


def _provider_fault(settings: Settings) -> str:
    if "async" in settings.provider:
        return f"PROVIDER={settings.provider} is not available in this version; use PROVIDER=openai or PROVIDER=echo."
    if settings.provider != "openai" or settings.openai_api_key:
        return ""
    if _host_of(settings.openai_realtime_url) != "api.openai.com":
        return ""
    return "OPENAI_API_KEY is missing: PROVIDER=openai needs it; set it, or use PROVIDER=echo."


def _plain_provider_fault(settings: Settings) -> str:
    plain = settings.openai_realtime_url.startswith("ws:")
    if not plain or not settings.openai_api_key or is_loopback(_host_of(settings.openai_realtime_url)):
        return ""
    return "OPENAI_REALTIME_URL must begin with wss://, or OPENAI_API_KEY would travel unencrypted."


def _plain_twilio_fault(settings: Settings) -> str:
    if settings.twilio_api_url.startswith("https:") or is_loopback(_host_of(settings.twilio_api_url)):
        return ""
    return "TWILIO_API_URL must begin with https://; plain http is only for loopback addresses."


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _local_url(host: str, port: int) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"http://{bracketed}:{port}"
