"""Who may talk to us: the check of Twilio's signature on webhooks and on the media socket (protocols.md A.7).

The signed address is always made from the settings, never from `Host` or `X-Forwarded-*`, which the sender of a
request chooses. What is refused is logged with the reason, without the signature itself. Without an auth token
nothing is checked; the settings allow that on a loopback address only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from twilio.request_validator import SIGNATURE_HEADER, SIGNATURE_SETTINGS_HEADER, RequestValidator
from werkzeug.datastructures import MultiDict

from engine.settings import Settings

logger = logging.getLogger(__name__)

Headers = Iterable[tuple[str, str]]


def check_webhook_signature(
    settings: Settings, headers: Headers, *, path: str, query: str, form: MultiDict[str, str]
) -> bool:
    """Tell whether a webhook was signed by Twilio, or needs no signature.

    Args:
        settings: Holds the public address and the auth token.
        headers: All headers of the request, as name and value; names in any case.
        path: The path of our route, beginning with a slash.
        query: The query exactly as it was sent, still percent-encoded, without the question mark.
        form: The form fields of the body, with every value of each.

    Returns:
        False if the request must be refused; the reason has been logged.
    """
    url = settings.webhook_url(path) + (f"?{query}" if query else "")
    return _check(settings, list(headers), urls=[url], form=form, what=path)


def check_media_signature(settings: Settings, headers: Headers) -> bool:
    """Tell whether the handshake of a media socket was signed by Twilio, or needs no signature.

    Twilio signs the stream's URL as the TwiML had it, without parameters; some report one more slash at its end.

    Args:
        settings: Holds the public address and the auth token.
        headers: All headers of the handshake, as name and value; names in any case.

    Returns:
        False if the handshake must be refused (with 403); the reason has been logged.
    """
    urls = [settings.media_url, settings.media_url + "/"]
    return _check(settings, list(headers), urls=urls, form=MultiDict(), what="the media socket")


def _check(
    settings: Settings, headers: list[tuple[str, str]], *, urls: list[str], form: MultiDict[str, str], what: str
) -> bool:
    if settings.twilio_auth_token is None:
        return True
    signatures = _values(headers, SIGNATURE_HEADER)
    if len(signatures) != 1:
        logger.warning("Refused a request for %s: it has %d signatures, not one", what, len(signatures))
        return False
    validator = RequestValidator(settings.twilio_auth_token)
    if any(validator.validate(url, form, signatures[0]) for url in urls):
        return True
    # A signature made with a shared key can only fail here. Say so: the token and the URL may well be right.
    if _values(headers, SIGNATURE_SETTINGS_HEADER):
        logger.warning("Refused a request for %s: it is signed with a shared key, only the auth token is known", what)
    else:
        logger.warning("Refused a request for %s: its signature is not that of %s under our auth token", what, urls[0])
    return False


def _values(headers: list[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in headers if name.lower() == wanted.lower()]
