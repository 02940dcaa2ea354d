"""Signatures against the known answers of protocols.md A.7, all under the token 12345."""

from __future__ import annotations

import pytest

from engine.simulator.twilio.signature import SOCKET_HEADER, sign_socket, sign_webhook

TOKEN = "12345"


@pytest.mark.parametrize(
    ("url", "number", "expected"),
    [
        ("https://mycompany.com/myapp.php?foo=1&bar=2", "+14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("https://mycompany.com/myapp", "+12349013030", "3KI2uRuYyAdhZIJXcpU0izDUzWI="),
        ("https://mycompany.com/myapp#rc=2&ct=2000", "+12349013030", "3KI2uRuYyAdhZIJXcpU0izDUzWI="),
    ],
)
def test_webhooks_are_signed_over_url_and_sorted_parameters(url: str, number: str, expected: str) -> None:
    parameters = {
        "To": "+18005551212",
        "From": number,
        "Digits": "1234",
        "Caller": number,
        "CallSid": "CA1234567890ABCDE",
    }
    assert sign_webhook(TOKEN, url, parameters) == expected


def test_sockets_are_signed_over_the_wss_url_alone() -> None:
    assert sign_socket(TOKEN, "wss://example.com/media") == "7PR3qMkpDyEJtMrVOY/LDyNq8J8="
    assert SOCKET_HEADER == "x-twilio-signature"
