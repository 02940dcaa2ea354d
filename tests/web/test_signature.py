"""Twilio's signature: known answers, and Twilio's own validator as the signer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from engine.settings import Settings
from engine.web.signature import check_media_signature, check_webhook_signature

TOKEN = "12345"


def settings_for(public_url: str) -> Settings:
    return Settings(public_url=public_url, twilio_auth_token=TOKEN)


def sign(url: str, form: MultiDict[str, str] | None = None, token: str = TOKEN) -> str:
    return str(RequestValidator(token).compute_signature(url, form))


def is_media_allowed(signed_url: str, public_url: str = "https://voice.example.com", token: str = TOKEN) -> bool:
    headers = [("Host", "elsewhere"), ("x-twilio-signature", sign(signed_url, token=token))]
    return check_media_signature(settings_for(public_url), headers)


@pytest.mark.parametrize(
    ("public_url", "path", "query", "form", "signature"),
    [
        (
            "https://mycompany.com",
            "/myapp.php",
            "foo=1&bar=2",
            {
                "CallSid": "CA1234567890ABCDE",
                "Caller": "+14158675309",
                "Digits": "1234",
                "From": "+14158675309",
                "To": "+18005551212",
            },
            "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        ),
        (
            "https://mycompany.com",
            "/myapp",
            "",
            {
                "CallSid": "CA1234567890ABCDE",
                "Caller": "+12349013030",
                "Digits": "1234",
                "From": "+12349013030",
                "To": "+18005551212",
            },
            "3KI2uRuYyAdhZIJXcpU0izDUzWI=",
        ),
    ],
)
def test_known_answers_of_webhooks(
    public_url: str, path: str, query: str, form: dict[str, str], signature: str
) -> None:
    settings = settings_for(public_url)
    headers = [("X-Twilio-Signature", signature)]
    assert check_webhook_signature(settings, headers, path=path, query=query, form=MultiDict(form))
    assert not check_webhook_signature(settings, headers, path=path, query=query + "x=1", form=MultiDict(form))
    assert not check_webhook_signature(settings, headers, path=path, query=query, form=MultiDict({**form, "x": ""}))
    assert not check_webhook_signature(settings, headers, path=path + "x", query=query, form=MultiDict(form))


def test_known_answer_of_a_media_socket() -> None:
    assert sign("wss://example.com/media") == "7PR3qMkpDyEJtMrVOY/LDyNq8J8="


def test_the_media_socket_is_signed_with_the_address_of_the_stream() -> None:
    assert is_media_allowed("wss://voice.example.com/media-stream")
    assert is_media_allowed("wss://voice.example.com/media-stream/")
    assert is_media_allowed("wss://voice.example.com/p/media-stream", public_url="https://voice.example.com/p")
    assert is_media_allowed("wss://voice.example.com:8443/media-stream", public_url="https://voice.example.com:8443")
    assert is_media_allowed("ws://127.0.0.1:8080/media-stream", public_url="http://127.0.0.1:8080")


@pytest.mark.parametrize(
    "signed_url",
    [
        "https://voice.example.com/media-stream",
        "ws://voice.example.com/media-stream",
        "wss://elsewhere/media-stream",
        "wss://voice.example.com/media-stream?x=1",
        "wss://voice.example.com/",
        "",
    ],
)
def test_the_signature_of_another_address_is_refused(signed_url: str) -> None:
    assert not is_media_allowed(signed_url)


def test_the_signature_of_another_token_is_refused() -> None:
    assert not is_media_allowed("wss://voice.example.com/media-stream", token="54321")


@pytest.mark.parametrize("values", [[], [""], ["x"], ["\xe9"], ["x", "y"]])
def test_missing_empty_wrong_or_several_signatures_are_refused(
    values: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    headers = [("X-Twilio-Signature", value) for value in values]
    assert not check_media_signature(settings_for("https://voice.example.com"), headers)
    assert "Refused a request for the media socket" in caplog.text
    assert TOKEN not in caplog.text


def test_a_right_signature_beside_another_is_refused() -> None:
    right = ("X-Twilio-Signature", sign("wss://voice.example.com/media-stream"))
    assert not check_media_signature(settings_for("https://voice.example.com"), [right, right])


def test_a_signature_by_shared_key_is_refused_and_named(caplog: pytest.LogCaptureFixture) -> None:
    url = "https://voice.example.com/call-status"
    signature = RequestValidator("another").compute_signature(url, {}, "HMAC_SHA256")
    headers = [
        ("X-Twilio-Signature", signature),
        ("X-Twilio-Webhooks-Signature-Settings", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"),
    ]
    settings = settings_for("https://voice.example.com")
    assert not check_webhook_signature(settings, headers, path="/call-status", query="", form=MultiDict())
    assert "shared key" in caplog.text


def test_without_a_token_nothing_is_checked() -> None:
    assert check_media_signature(Settings(), [])
    assert check_webhook_signature(Settings(), [], path="/call-status", query="", form=MultiDict())


FORMS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=8).map(MultiDict)


@given(form=FORMS, query=st.text(st.sampled_from("a=&%20+;é/?:"), max_size=20))
def test_whatever_twilio_signs_is_allowed_and_a_further_field_is_not(form: MultiDict[str, str], query: str) -> None:
    settings = settings_for("https://voice.example.com")
    url = "https://voice.example.com/incoming-sms" + (f"?{query}" if query else "")
    headers = [("X-Twilio-Signature", sign(url, form))]
    assert check_webhook_signature(settings, headers, path="/incoming-sms", query=query, form=form)
    more = MultiDict([*form.items(multi=True), ("another", "field")])
    assert not check_webhook_signature(settings, headers, path="/incoming-sms", query=query, form=more)
