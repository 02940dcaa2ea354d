"""What a simulated call is told before it is placed, checked at once."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from engine.errors import ConfigurationError
from engine.simulator.twilio.faults import Faults

CALL_STATUS_EVENTS = ("initiated", "ringing", "answered", "completed")


def new_sid(prefix: str) -> str:
    """Makes a fresh sid: two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class CallConfig:
    """One simulated call.

    Attributes:
        url: A webhook (http, https) to ask for TwiML, or a media socket (ws, wss) to connect to at once.
        auth_token: Signs webhooks and the media socket; None sends no signatures.
        account_sid: The account.
        call_sid: The call; made up if None.
        from_number: The caller, E.164.
        to_number: The called number, E.164.
        direction: `inbound`, or `outbound-api` for a call that the server asked for.
        method: How the webhook is asked, POST or GET.
        fallback_url: Asked when `url` fails.
        status_callback: Where call status events are posted, if anywhere.
        status_events: Which ones: of `CALL_STATUS_EVENTS`.
        parameters: Custom parameters of `start` when `url` is a media socket.
        stream_status_callback: Where stream events are posted when `url` is a media socket.
        allow_plain_loopback: Let media URLs be ws:// on loopback hosts; Twilio itself takes wss only.
        allow_remote: Let connections leave this machine.
        behind_proxy_at: Host and port where the server really listens, in plain TCP, when its URLs are those of a TLS
            proxy that does not exist here: URLs, `Host` and signatures stay public.
        ssl_context: Checks the server's certificate; None for the system's authorities.
        strict: End the call at the first violation of the protocol. Twilio warns once per stream and ignores the
            message.
        faults: What goes wrong on the line.
        time_limit_s: The call is ended after this; bounds the record's memory.
        connect_timeout_s: For TCP, TLS and the handshake of a media socket each; Twilio's is not documented.
        webhook_connect_timeout_s: Twilio's 5 s (protocols.md A.6).
        webhook_timeout_s: Twilio's 15 s for an answer, and for all attempts together.
    """

    url: str
    auth_token: str | None = None
    account_sid: str = "AC" + "0" * 32
    call_sid: str | None = None
    from_number: str = "+15005550100"
    to_number: str = "+15005550199"
    direction: str = "inbound"
    method: str = "POST"
    fallback_url: str | None = None
    status_callback: str | None = None
    status_events: tuple[str, ...] = ("completed",)
    parameters: Mapping[str, str] = field(default_factory=dict)
    stream_status_callback: str | None = None
    allow_plain_loopback: bool = True
    allow_remote: bool = False
    behind_proxy_at: tuple[str, int] | None = None
    ssl_context: ssl.SSLContext | None = None
    strict: bool = False
    faults: Faults = field(default_factory=Faults)
    time_limit_s: float = 600.0
    connect_timeout_s: float = 5.0
    webhook_connect_timeout_s: float = 5.0
    webhook_timeout_s: float = 15.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: Names every fault.
        """
        faults = []
        if urlsplit(self.url).scheme not in ("http", "https", "ws", "wss"):
            faults.append(f"url {self.url!r} must be an http, https, ws or wss URL")
        if self.method not in ("GET", "POST"):
            faults.append(f"method {self.method!r} must be GET or POST")
        if self.direction not in ("inbound", "outbound-api"):
            faults.append(f"direction {self.direction!r} must be inbound or outbound-api")
        if unknown := set(self.status_events) - set(CALL_STATUS_EVENTS):
            faults.append(f"status_events {sorted(unknown)} must be of {', '.join(CALL_STATUS_EVENTS)}")
        if self.time_limit_s <= 0:
            faults.append("time_limit_s must be positive")
        if faults:
            raise ConfigurationError(faults)

    @property
    def is_direct(self) -> bool:
        """Whether `url` is a media socket."""
        return urlsplit(self.url).scheme in ("ws", "wss")
