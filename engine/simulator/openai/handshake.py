"""Whom the simulated service lets in.

Owns the rules of the upgrade request (protocols.md B.1): path, model, key, and the beta header that is refused since the beta
ended. Decides only; sends nothing. How a wrong key or model is told, by HTTP status or by an `error` event and a close, is the
configuration's choice: both have been seen of the service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from engine.simulator.openai.config import PeerConfig
from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.script import Script

PATH = "/v1/realtime"
FATAL_CLOSE_CODE = 4000
"""Seen of the service for `beta_api_shape_disabled`; taken for the other fatal errors too."""


@dataclass(frozen=True, kw_only=True)
class Welcomed:
    """The session may begin, with this model."""

    model: str


@dataclass(frozen=True, kw_only=True)
class TurnedAway:
    """The upgrade is answered with an HTTP status and a JSON error."""

    status: int
    error: EventRefused

    def body(self) -> bytes:
        """Write the JSON body, in the form of the service's HTTP errors."""
        fields = ("message", "type", "param", "code")
        return json.dumps({"error": {name: getattr(self.error, name) for name in fields}}).encode()


@dataclass(frozen=True, kw_only=True)
class ShownOut:
    """The upgrade is accepted, an `error` event sent, and the socket closed with `FATAL_CLOSE_CODE`."""

    error: EventRefused


Verdict: TypeAlias = Welcomed | TurnedAway | ShownOut


def judge_request(target: str, headers: Mapping[str, str], config: PeerConfig, script: Script) -> Verdict:
    """Decide on an upgrade request.

    Args:
        target: Path and query.
        headers: Header values by lower-case name.
        config: The service.
        script: The session's script, for a scripted refusal.
    """
    url = urlsplit(target)
    if url.path != PATH:
        error = EventRefused(f"Invalid URL (GET {url.path})", code="unknown_url")
        return TurnedAway(status=404, error=error)
    refusal = script.refusal()
    if refusal is not None:
        return TurnedAway(status=refusal.status, error=EventRefused(refusal.message, code=None, kind="server_error"))
    key_error = _judge_key(headers.get("authorization"), config.api_key)
    if key_error is not None:
        return _refuse(401, key_error, config)
    if "realtime=v1" in headers.get("openai-beta", ""):
        message = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
        return ShownOut(error=EventRefused(message, code="beta_api_shape_disabled"))
    model = parse_qs(url.query).get("model", [""])[0]
    if not model:
        return _refuse(400, EventRefused("You must provide a model parameter.", code="missing_model"), config)
    if model not in config.models:
        message = f"The model '{model}' does not exist or you do not have access to it."
        return _refuse(404, EventRefused(message, code="model_not_found"), config)
    return Welcomed(model=model)


def _refuse(status: int, error: EventRefused, config: PeerConfig) -> Verdict:
    return TurnedAway(status=status, error=error) if config.refuses_at_handshake else ShownOut(error=error)


def _judge_key(authorization: str | None, api_key: str | None) -> EventRefused | None:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        return EventRefused("Missing bearer authentication in header", code="invalid_api_key")
    if api_key is not None and key != api_key:
        return EventRefused("Incorrect API key provided.", code="invalid_api_key")
    return None
