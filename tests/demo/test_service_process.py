"""The real service as a subprocess: started, asked, stopped, and never left behind."""

from __future__ import annotations

import os

import pytest
import trio

from engine.demo.service_process import open_service
from engine.errors import ConnectionFailed

SECRETS = {"TWILIO_AUTH_TOKEN": "your_auth_token"}


async def test_the_service_starts_and_stops_as_an_operator_would_have_it() -> None:
    with trio.fail_after(30):
        async with open_service({"PROVIDER": "echo", "LOG_LEVEL": "info"}, SECRETS) as service:
            assert service.status is None
            assert service.url.startswith("http://127.0.0.1:")
            assert await service.stop() == 0
    assert any("listening" in line for line in service.log)


async def test_a_service_that_cannot_start_says_why() -> None:
    with trio.fail_after(30), pytest.raises(ExceptionGroup) as caught:
        async with open_service({"PROVIDER": "nobody"}, SECRETS):
            pytest.fail("there is no such provider")
    (error,) = caught.value.exceptions
    assert isinstance(error, ConnectionFailed)
    assert "PROVIDER" in str(error)


async def test_the_users_own_settings_do_not_reach_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER", "nobody")
    monkeypatch.setenv("MAX_CALLS", "not a number")
    with trio.fail_after(30):
        async with open_service({"PROVIDER": "echo"}, SECRETS) as service:
            assert await service.stop() == 0


async def test_the_process_is_gone_when_the_demonstration_fails() -> None:
    with trio.fail_after(30), pytest.raises(ExceptionGroup):
        async with open_service({"PROVIDER": "echo"}, SECRETS) as service:
            identity = service.process_id
            raise ValueError("the scene fell apart")
    with pytest.raises(ProcessLookupError):
        os.kill(identity, 0)
