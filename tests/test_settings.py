"""Settings: where they come from, what is refused, and that secrets stay secret."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError
from engine.settings import Settings, describe_settings, load_settings, settings_warnings

TOKEN = "your_auth_token"
PUBLIC = {"HOST": "0.0.0.0", "PUBLIC_URL": "https://voice.example.com", "TWILIO_AUTH_TOKEN": TOKEN}


@pytest.fixture
def dotenv_path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def load(*arguments: str, environ: dict[str, str] | None = None, dotenv_path: Path = Path("/nonexistent")) -> Settings:
    return load_settings(arguments, environ=environ or {}, dotenv_path=dotenv_path)


def faults_of(*arguments: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, environ=environ)
    return caught.value.faults


def test_nothing_set_gives_a_loopback_echo_service() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.provider) == ("127.0.0.1", 8080, "echo")
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.media_url == "ws://127.0.0.1:8080/media-stream"
    assert settings.max_calls is None
    assert not settings.signatures_required


def test_arguments_win_over_environment_over_file_over_defaults(dotenv_path: Path) -> None:
    dotenv_path.write_text("PORT=1\nLEAD_MS=1\nFRAME_MS=11\nSOMETHING_ELSE=9\nUNSET\n")
    settings = load("PORT=3", environ={"PORT": "2", "LEAD_MS": "2"}, dotenv_path=dotenv_path)
    assert (settings.port, settings.lead_ms, settings.frame_ms, settings.workers) == (3, 2, 11, 1)


def test_the_file_is_taken_literally(dotenv_path: Path) -> None:
    dotenv_path.write_text("INSTRUCTIONS='cost ${PORT}'\n")
    assert load(environ={"PORT": "1"}, dotenv_path=dotenv_path).instructions == "cost ${PORT}"


def test_a_file_that_cannot_be_read_is_a_fault(dotenv_path: Path) -> None:
    dotenv_path.write_bytes(b"INSTRUCTIONS=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(dotenv_path=dotenv_path)


def test_an_empty_text_means_the_default_and_hides_lower_sources() -> None:
    assert load("PORT=", environ={"PORT": "99"}).port == 8080
    assert load(environ={"OPENAI_API_KEY": " "}).openai_api_key is None


@pytest.mark.parametrize("name", ["greeting", "fallback_message", "busy_message"])
def test_an_empty_message_is_a_value(name: str) -> None:
    assert getattr(load(), name)
    assert getattr(load(f"{name.upper()}="), name) == ""


def test_every_fault_is_named_in_one_run() -> None:
    faults = faults_of("HOST=0.0.0.0", "PORT=x", "FRAME_MS=5", "PROVIDER=openai", "LEAD=1", "what")
    assert sorted(fault.split()[0] for fault in faults) == [
        "Argument",
        "FRAME_MS",
        "LEAD",
        "OPENAI_API_KEY",
        "PORT",
        "PUBLIC_URL",
        "TWILIO_AUTH_TOKEN",
    ]
    assert "LEAD is not a setting; did you mean LEAD_MS?" in faults
    assert all(fault.endswith((".", "?")) for fault in faults)


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("PORT=65536", "from 0 to 65535, not 65536"),
        ("PORT=-1", "from 0 to 65535"),
        ("FRAME_MS=9", "from 10 to 200"),
        ("FRAME_MS=201", "from 10 to 200"),
        ("FRAME_MS=20.5", "whole number"),
        ("LEAD_MS=2001", "from 0 to 2000"),
        ("DRAIN_S=nan", "number of seconds"),
        ("DRAIN_S=soon", "number of seconds"),
        ("OPENAI_AUDIO=opus", "one of pcmu, pcm24k"),
        ("PROVIDER=async", "not available in this version"),
        ("PROVIDER=openai+async", "not available in this version"),
        ("PROVIDER=azure", "one of openai, async"),
        ("TOOLS=my tools", "module:attribute"),
        ("TOOLS=module", "module:attribute"),
        ("HOST=http://localhost", "without a port"),
        ("TWILIO_ACCOUNT_SID=SK1", 'begin with "AC"'),
        ("PUBLIC_URL=http://voice.example.com", "only for loopback"),
        ("PUBLIC_URL=voice.example.com", "scheme and a host"),
        ("PUBLIC_URL=ftp://voice.example.com", "begin with https://"),
        ("PUBLIC_URL=https://voice.example.com?", "without ? or #"),
        ("PUBLIC_URL=https://voice.example.com/#a", "without ? or #"),
        ("PUBLIC_URL=https://me@voice.example.com", "user name"),
        ("PUBLIC_URL=https://", "scheme and a host"),
        ("PUBLIC_URL=https://a b", "scheme and a host"),
        ("PUBLIC_URL=https://a:99999", "scheme and a host"),
        ("OPENAI_REALTIME_URL=https://a", "begin with wss://"),
        ("TWILIO_API_URL=http://api.example.com", "only for loopback"),
        ("WORKERS=0", "from 1 to 256"),
        ("TURN_DETECTION=none", "server_vad"),
    ],
)
def test_a_wrong_value_is_refused_with_advice(argument: str, advice: str) -> None:
    (fault,) = faults_of(argument)
    assert fault.startswith(argument.partition("=")[0])
    assert advice in fault


@pytest.mark.parametrize("port", ["0", "65535"])
@pytest.mark.parametrize("frame_ms", ["10", "200"])
def test_the_ends_of_a_range_are_allowed(port: str, frame_ms: str) -> None:
    settings = load(f"PORT={port}", f"FRAME_MS={frame_ms}")
    assert (settings.port, settings.frame_ms) == (int(port), int(frame_ms))


def test_max_calls_zero_lifts_the_limit() -> None:
    assert load("MAX_CALLS=0").max_calls is None
    assert load("MAX_CALLS=7").max_calls == 7


def test_a_public_service_loads_and_speaks_https() -> None:
    settings = load("PUBLIC_URL=https://voice.example.com/twilio/", environ=PUBLIC)
    assert settings.media_url == "wss://voice.example.com/twilio/media-stream"
    assert settings.webhook_url("/incoming-call") == "https://voice.example.com/twilio/incoming-call"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example.com"])
def test_without_a_token_only_a_loopback_address_is_allowed(host: str) -> None:
    (fault,) = faults_of(environ={**PUBLIC, "TWILIO_AUTH_TOKEN": "", "HOST": host})
    assert fault.startswith("TWILIO_AUTH_TOKEN is missing")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_a_loopback_address_needs_neither_token_nor_public_url(host: str) -> None:
    assert load(f"HOST={host}").public_url.startswith("http://")


def test_openai_needs_a_key_unless_the_address_is_another() -> None:
    assert faults_of("PROVIDER=openai")[0].startswith("OPENAI_API_KEY is missing")
    assert faults_of("PROVIDER=openai", "OPENAI_REALTIME_URL=wss://API.openai.com/v1/x")
    assert load("PROVIDER=openai", "OPENAI_REALTIME_URL=ws://127.0.0.1:9/v1/realtime").openai_api_key is None
    assert load("OPENAI_API_KEY=your_openai_key").provider == "openai"
    assert load("OPENAI_REALTIME_URL=ws://127.0.0.1:9/v1/realtime").provider == "openai"


def test_a_key_never_travels_unencrypted() -> None:
    (fault,) = faults_of("OPENAI_API_KEY=your_openai_key", "OPENAI_REALTIME_URL=ws://example.com/v1/realtime")
    assert fault.startswith("OPENAI_REALTIME_URL must begin with wss://")
    assert load("OPENAI_API_KEY=your_openai_key", "OPENAI_REALTIME_URL=ws://localhost:9/v1/realtime")


SECRETS = [setting.name for setting in describe_settings() if setting.secret]


def test_the_secrets_are_known() -> None:
    assert SECRETS == ["TWILIO_AUTH_TOKEN", "OPENAI_API_KEY", "ASYNC_API_KEY"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_never_shown(name: str) -> None:
    assert "hushhush" not in repr(load(f"{name}=hushhush"))
    assert all("hushhush" not in fault for fault in faults_of(f"{name}=hushhush and more"))
    assert all("hushhush" not in fault for fault in faults_of(f"{name}X=hushhush", "hushhush"))


def test_a_port_that_was_bound_replaces_the_one_asked_for() -> None:
    assert load("PORT=0", "HOST=::1").bound_to(5060).public_url == "http://[::1]:5060"
    stated = load("PORT=0", "PUBLIC_URL=https://voice.example.com").bound_to(5060)
    assert (stated.port, stated.public_url) == (5060, "https://voice.example.com")


def test_a_public_address_without_a_token_is_warned_about() -> None:
    (warning,) = settings_warnings(load("PUBLIC_URL=https://voice.example.com"))
    assert "TWILIO_AUTH_TOKEN" in warning
    assert settings_warnings(load()) == ()
    assert settings_warnings(load(environ=PUBLIC)) == ()


def test_every_setting_is_described_and_its_shown_default_is_the_default() -> None:
    for setting in describe_settings():
        assert setting.meaning
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", setting.name)
        if not setting.default.startswith("("):
            assert load(f"{setting.name}={setting.default}") == load()


@given(
    greeting=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    port=st.integers(0, 65535),
    max_calls=st.none() | st.integers(1, 100_000),
    drain_s=st.floats(0, 86_400),
)
def test_a_child_process_loads_the_same_settings(
    greeting: str, key: str, port: int, max_calls: int | None, drain_s: float
) -> None:
    settings = Settings(
        greeting=greeting, openai_api_key=key, port=port, max_calls=max_calls, drain_s=drain_s, worker_index=0
    )
    assert load(environ=settings.to_environ()) == settings
