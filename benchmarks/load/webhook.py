"""The webhook a call begins with: posts /incoming-call as the carrier does, checks and reads the TwiML it answers."""

import base64
import hashlib
import hmac
import http.client
import urllib.parse
from collections.abc import Callable
from xml.etree import ElementTree

from .carrier import MediaUrl

_TIMEOUT_S = 15.0


def _signature(url: str, fields: dict[str, str], token: str) -> str:
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def stream_parameters(
    url: MediaUrl, public_url: str, call_sid: str, breach: Callable[[str, str], None]
) -> dict[str, str]:
    """Parameters of the `<Stream>` in the TwiML for one incoming call (protocols.md A.1); reports what is wrong with it."""
    fields = {
        "AccountSid": f"AC{0:032x}",
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": "+15005550006",
        "To": "+15005550001",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if url.auth_token:
        headers["X-Twilio-Signature"] = _signature(f"{public_url}/incoming-call", fields, url.auth_token)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", "/incoming-call", urllib.parse.urlencode(fields), headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        breach("webhook: no answer", repr(error))
        return {}
    finally:
        connection.close()
    content_type = answer.getheader("Content-Type", "")
    if answer.status != 200 or not content_type.startswith(("text/xml", "application/xml")):
        breach("webhook: not 200 with XML", f"{answer.status} {content_type} {body[:200]!r}")
        return {}
    return _read_twiml(body, breach)


def _read_twiml(body: bytes, breach: Callable[[str, str], None]) -> dict[str, str]:
    try:
        # Written by the engine under test, on loopback.
        stream = ElementTree.fromstring(body).find("Connect/Stream")  # noqa: S314
    except ElementTree.ParseError as error:
        breach("webhook: not XML", str(error))
        return {}
    if stream is None:
        breach("webhook: no <Connect><Stream>", body.decode(errors="replace"))
        return {}
    address = urllib.parse.urlsplit(stream.get("url", ""))
    if address.query or not address.path.endswith("/media-stream"):
        breach("webhook: <Stream> url with a query, or elsewhere", stream.get("url", ""))
    parameters = {parameter.get("name", ""): parameter.get("value", "") for parameter in stream.findall("Parameter")}
    if any(len(name) + len(value) >= 500 for name, value in parameters.items()):
        breach("webhook: <Parameter> of 500 characters or more", str(parameters))
    return parameters
