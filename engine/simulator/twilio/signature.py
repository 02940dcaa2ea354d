"""Signing as Twilio signs: webhooks over URL and parameters, media sockets over the wss URL alone (protocols.md A.7).

The HMAC itself is computed by Twilio's own SDK, so that a mistake of the engine's cannot be repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping

from twilio.request_validator import RequestValidator

WEBHOOK_HEADER = "X-Twilio-Signature"
# Twilio sends the media socket's header in lower case (protocols.md A.7).
SOCKET_HEADER = "x-twilio-signature"


def sign_webhook(auth_token: str, url: str, parameters: Mapping[str, str]) -> str:
    """Signs a webhook.

    Args:
        auth_token: The account's auth token.
        url: The URL with its query string as sent; an override fragment is not part of what is signed.
        parameters: The form parameters of a POST; empty for a GET, whose parameters are in the URL.

    Returns:
        base64 of HMAC-SHA1.
    """
    return str(RequestValidator(auth_token).compute_signature(url.partition("#")[0], dict(parameters)))


def sign_socket(auth_token: str, url: str) -> str:
    """Signs a media socket's URL, exactly as the TwiML wrote it.

    Returns:
        base64 of HMAC-SHA1.
    """
    return str(RequestValidator(auth_token).compute_signature(url, {}))
