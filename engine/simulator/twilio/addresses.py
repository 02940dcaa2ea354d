"""Where the simulated Twilio may connect, and where it really connects.

Owns the rule that a simulator stays on this machine unless told otherwise, and the way around a TLS proxy that does
not exist: a server configured with a public URL is dialed at its own address while URLs, `Host` headers and signatures
stay public.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from engine.errors import LocalProtocolError

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, kw_only=True)
class Address:
    """A server to connect to.

    Attributes:
        host: Name or IP address to connect to.
        port: TCP port.
        tls: Whether the connection is TLS.
        host_header: What the `Host` header says: the host that the URL names, with its port unless it is the scheme's
            own.
        server_name: The name that the certificate must hold.
    """

    host: str
    port: int
    tls: bool
    host_header: str
    server_name: str


def is_loopback(host: str) -> bool:
    """Says whether a host name or address means this machine; names other than `localhost` are not looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_of(url: str, *, behind_proxy_at: tuple[str, int] | None = None, allow_remote: bool = False) -> Address:
    """Finds where to connect for a URL.

    Args:
        url: An http, https, ws or wss URL.
        behind_proxy_at: Host and port of the server, plain TCP, if the URL's own host is a proxy that does not exist.
        allow_remote: Let the connection leave this machine.

    Raises:
        LocalProtocolError: The URL is none of these, or the connection would leave this machine and may not.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise LocalProtocolError(f"{url!r} has no valid port") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise LocalProtocolError(f"{url!r} is no http, https, ws or wss URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host_header = host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    if behind_proxy_at is not None:
        connect_host, connect_port, tls = *behind_proxy_at, False
    else:
        connect_host, connect_port = parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
        tls = parts.scheme in ("https", "wss")
    if not allow_remote and not is_loopback(connect_host):
        raise LocalProtocolError(f"{connect_host} is not this machine, and calls to other machines were not allowed")
    return Address(host=connect_host, port=connect_port, tls=tls, host_header=host_header, server_name=parts.hostname)
