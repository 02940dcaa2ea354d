"""Whom the service lets in (protocols.md B.1, B.3)."""

from __future__ import annotations

import json

import pytest

from engine.simulator.openai import PeerConfig, RefuseHandshake, Script
from engine.simulator.openai.handshake import ShownOut, TurnedAway, Welcomed, judge_request

TARGET = "/v1/realtime?model=gpt-realtime-2.1"
KEY = {"authorization": "Bearer your_api_key"}
CONFIG = PeerConfig(api_key="your_api_key")


def test_the_right_key_and_a_known_model_are_welcome() -> None:
    assert judge_request(TARGET, KEY, CONFIG, Script()) == Welcomed(model="gpt-realtime-2.1")


def test_any_key_will_do_when_none_is_configured_but_one_is_needed() -> None:
    assert isinstance(judge_request(TARGET, {"authorization": "Bearer x"}, PeerConfig(), Script()), Welcomed)
    assert isinstance(judge_request(TARGET, {}, PeerConfig(), Script()), TurnedAway)


@pytest.mark.parametrize(
    ("target", "headers", "status", "code"),
    [
        (TARGET, {}, 401, "invalid_api_key"),
        (TARGET, {"authorization": "Bearer another"}, 401, "invalid_api_key"),
        (TARGET, {"authorization": "Basic your_api_key"}, 401, "invalid_api_key"),
        ("/v1/realtime", KEY, 400, "missing_model"),
        ("/v1/realtime?model=gpt-imaginary", KEY, 404, "model_not_found"),
    ],
)
def test_a_wrong_key_or_model_is_refused_either_way(
    target: str, headers: dict[str, str], status: int, code: str
) -> None:
    verdict = judge_request(target, headers, CONFIG, Script())
    assert isinstance(verdict, TurnedAway)
    assert verdict.status == status
    assert json.loads(verdict.body())["error"]["code"] == code
    later = PeerConfig(api_key="your_api_key", refuses_at_handshake=False)
    shown_out = judge_request(target, headers, later, Script())
    assert isinstance(shown_out, ShownOut)
    assert shown_out.error.code == code


def test_another_path_is_not_found() -> None:
    verdict = judge_request("/v1/live/sessions?model=gpt-realtime-2.1", KEY, CONFIG, Script())
    assert isinstance(verdict, TurnedAway)
    assert verdict.status == 404


def test_the_beta_header_is_shown_out() -> None:
    verdict = judge_request(TARGET, {**KEY, "openai-beta": "realtime=v1"}, CONFIG, Script())
    assert isinstance(verdict, ShownOut)
    assert verdict.error.code == "beta_api_shape_disabled"


def test_a_script_can_refuse() -> None:
    verdict = judge_request(TARGET, KEY, CONFIG, Script(faults=(RefuseHandshake(status=429),)))
    assert isinstance(verdict, TurnedAway)
    assert verdict.status == 429
