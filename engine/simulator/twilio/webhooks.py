"""The HTTP requests that Twilio makes: webhooks for TwiML, and status callbacks.

Owns their parameters (protocols.md A.4, A.5, A.6), signatures and time limits: connect within 5 s, answer within 15 s,
everything within 15 s, one more attempt when the connection could not be made, then the fallback URL. It refuses
answers with another status than 2xx (11200), of another type than XML (12300), or over 64 KiB (11750). HTTP
redirections are not followed.

Every wait is bounded; a callback that fails is written in the record and hurts nothing else.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx2
import trio

from engine.errors import LocalProtocolError
from engine.simulator.twilio.addresses import Address, address_of
from engine.simulator.twilio.config import CallConfig
from engine.simulator.twilio.journal import Journal
from engine.simulator.twilio.signature import WEBHOOK_HEADER, sign_webhook
from engine.simulator.twilio.twiml import MAX_DOCUMENT_BYTES, TwimlError, Verb, read_twiml

RETRIEVAL_FAILED = 11200
CONNECTION_FAILED = 11205
WRONG_CONTENT_TYPE = 12300

_XML_TYPES = frozenset({"text/xml", "application/xml"})
_ATTEMPTS = 2


@dataclass(frozen=True)
class Answer:
    """A server's answer: status, type without parameters, and body (cut just beyond what is allowed)."""

    status: int
    content_type: str
    body: bytes


class WebhookError(TwimlError):
    """A webhook could not be asked, or its answer cannot be used; carries Twilio's code."""


def voice_parameters(config: CallConfig, call_sid: str, call_status: str) -> dict[str, str]:
    """Makes the form parameters that a voice webhook carries (protocols.md A.6)."""
    parameters = {
        "AccountSid": config.account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": call_status,
        "Called": config.to_number,
        "Caller": config.from_number,
        "Direction": config.direction,
        "From": config.from_number,
        "To": config.to_number,
    }
    if config.direction == "inbound":
        parameters["CallToken"] = '{"parentCallInfoToken":"simulated"}'
        parameters["StirVerstat"] = "TN-Validation-Passed-A"
    for whose in ("Called", "Caller", "From", "To"):
        parameters |= {f"{whose}City": "", f"{whose}State": "", f"{whose}Zip": "", f"{whose}Country": "US"}
    return parameters


class Webhooks:
    """The requests of one call."""

    def __init__(self, config: CallConfig, journal: Journal) -> None:
        self._config = config
        self._journal = journal

    async def fetch_twiml(self, url: str, parameters: Mapping[str, str], *, method: str = "POST") -> tuple[Verb, ...]:
        """Asks for TwiML; asks the fallback URL if that fails.

        Raises:
            TwimlError: Both failed, or the only one; what failed first is in the record already if there was a
            fallback.
        """
        try:
            return await self._fetch(url, parameters, method)
        except TwimlError as error:
            fallback = self._config.fallback_url
            if fallback is None or fallback == url:
                raise
            self._journal.error(error.code, str(error))
            reasons = {"ErrorCode": str(error.code), "ErrorUrl": url}
            return await self._fetch(fallback, {**parameters, **reasons}, "POST")

    async def post_callback(self, url: str, parameters: Mapping[str, str], *, method: str = "POST") -> None:
        """Delivers a status callback; a failure is noted as `callback_failed`."""
        try:
            answer = await self._ask(url, parameters, method)
        except WebhookError as error:
            self._journal.note("callback_failed", f"{url}: {error}")
            return
        if not 200 <= answer.status < 300:
            self._journal.note("callback_failed", f"{url}: status {answer.status}")

    async def _fetch(self, url: str, parameters: Mapping[str, str], method: str) -> tuple[Verb, ...]:
        answer = await self._ask(url, parameters, method)
        self._journal.note("webhook", f"{method} {url}: {answer.status}, {len(answer.body)} bytes")
        if not 200 <= answer.status < 300:
            raise WebhookError(RETRIEVAL_FAILED, f"{url} answered with status {answer.status}")
        if answer.status != 204 and answer.content_type not in _XML_TYPES:
            raise WebhookError(WRONG_CONTENT_TYPE, f"{url} answered with type {answer.content_type!r}, not text/xml")
        if not answer.body:
            return ()
        return read_twiml(answer.body, url, allow_plain_loopback=self._config.allow_plain_loopback)

    async def _ask(self, url: str, parameters: Mapping[str, str], method: str) -> Answer:
        with trio.move_on_after(self._config.webhook_timeout_s):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return await self._ask_once(url, parameters, method)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    if attempt == _ATTEMPTS:
                        raise WebhookError(CONNECTION_FAILED, f"{url}: no connection: {error}") from None
                    self._journal.note("webhook_retry", f"{url}: {error}")
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    raise WebhookError(RETRIEVAL_FAILED, f"{url}: {type(error).__name__} {error}") from None
        raise WebhookError(RETRIEVAL_FAILED, f"{url}: no answer within {self._config.webhook_timeout_s:g} s")

    async def _ask_once(self, url: str, parameters: Mapping[str, str], method: str) -> Answer:
        config = self._config
        try:
            address = address_of(url, behind_proxy_at=config.behind_proxy_at, allow_remote=config.allow_remote)
        except LocalProtocolError as error:
            raise WebhookError(RETRIEVAL_FAILED, str(error)) from None
        signed_url = url.partition("#")[0]
        if method == "GET":
            signed_url += ("&" if "?" in signed_url else "?") + urlencode(parameters)
        form = dict(parameters) if method == "POST" else {}
        headers = {"Host": address.host_header, "User-Agent": "TwilioProxy/1.1"}
        if config.auth_token is not None:
            headers[WEBHOOK_HEADER] = sign_webhook(config.auth_token, signed_url, form)
        async with self._open_client(address) as client:
            request = client.stream(method, _at(signed_url, address), data=form or None, headers=headers)
            async with request as response:
                content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                return Answer(response.status_code, content_type, await _read_body(response))

    def _open_client(self, address: Address) -> httpx2.AsyncClient:
        verify: ssl.SSLContext | bool = address.tls
        if address.tls and self._config.ssl_context is not None:
            verify = self._config.ssl_context
        config = self._config
        timeout = httpx2.Timeout(config.webhook_timeout_s, connect=config.webhook_connect_timeout_s)
        return httpx2.AsyncClient(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False)


def _at(url: str, address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    scheme = "https" if address.tls else "http"
    parts = urlsplit(url)
    return urlunsplit((scheme, f"{host}:{address.port}", parts.path or "/", parts.query, ""))


async def _read_body(response: httpx2.Response) -> bytes:
    """Reads a body to its end, so that the connection is left clean, and keeps just more of it than is allowed."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece[: MAX_DOCUMENT_BYTES + 1 - len(body)]
    return bytes(body)
