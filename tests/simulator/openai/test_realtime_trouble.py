"""Faults on request, and the ends of a session (protocols.md B.3)."""

from __future__ import annotations

import json

import pytest
from realtime_driver import Driver, types_of

from engine.simulator.openai import (
    NOT_JSON,
    UNKNOWN_EVENT,
    Abort,
    Die,
    PeerConfig,
    ReportError,
    Script,
    SendText,
    Speak,
    Stall,
    expire_session,
)
from engine.simulator.openai.script import Fault

START_S = 100.0


def troubled(*faults: Fault, config: PeerConfig | None = None, strict: bool = True) -> Driver:
    script = Script(replies=(Speak(seconds=20.0),), faults=faults)
    driver = Driver(script, config or PeerConfig(speedup=4.0), strict=strict)
    driver.use_pcmu() if strict else None
    return driver


def test_a_session_that_dies_sends_nothing_more() -> None:
    driver = troubled(Die(at_s=2.0))
    driver.send("response.create")
    driver.run_for(10)
    assert driver.ends == [Abort()]
    assert max(driver.times) <= START_S + 2.0
    assert (driver.session.log.closed_by, driver.session.log.closed_at_s) == ("dropped", START_S + 2.0)
    assert driver.send("response.create") == []
    assert driver.session.next_due() is None


def test_what_a_dying_session_still_held_is_lost() -> None:
    driver = troubled(Die(at_s=2.0))
    driver.session.receive('{"type": "response.create"}', START_S + 1.0)
    driver.session.advance(START_S + 2.0)
    assert driver.session.take_outgoing() == [Abort()]


def test_a_fault_can_count_from_the_first_audio() -> None:
    driver = troubled(Die(at_s=0.5, since="first_delta"))
    driver.run_for(30)
    assert driver.ends == []
    driver.send("response.create")
    first_delta_s = driver.now + 0.3
    driver.run_for(10)
    assert driver.session.log.closed_at_s == pytest.approx(first_delta_s + 0.5)


def test_a_reported_error_leaves_the_session_alive() -> None:
    driver = troubled(ReportError(at_s=1.0, code="rate_limit_exceeded"))
    driver.run_for(2)
    assert (driver.last_error()["code"], driver.last_error()["type"]) == ("rate_limit_exceeded", "server_error")
    assert types_of(driver.update()) == ["session.updated"]


def test_a_fatal_error_closes_behind_itself() -> None:
    driver = troubled(ReportError(at_s=1.0, code="insufficient_quota", close_code=4000))
    driver.run_for(2)
    assert driver.last_error()["code"] == "insufficient_quota"
    assert driver.closed_with == 4000


@pytest.mark.parametrize("config", [PeerConfig(max_session_s=5.0), None], ids=["by age", "by script"])
def test_a_session_expires_with_an_error_and_a_close(config: PeerConfig | None) -> None:
    driver = troubled(*([] if config else [expire_session(5.0)]), config=config)
    driver.run_for(4.9)
    assert driver.of_type("error") == []
    driver.run_for(0.2)
    assert driver.last_error()["code"] == "session_expired"
    assert driver.closed_with == 1001


def test_a_stall_holds_everything_back_and_releases_it_in_order() -> None:
    driver = troubled(Stall(at_s=1.0, for_s=3.0))
    driver.send("response.create")
    driver.run_until(START_S + 1.0)
    assert driver.session.reading_resumes_s(driver.now) == START_S + 4.0
    count = len(driver.events)
    driver.run_until(START_S + 3.9)
    assert len(driver.events) == count
    released = driver.run_until(START_S + 4.0)
    assert len(released) > 20
    assert driver.session.reading_resumes_s(driver.now) is None
    indexes = [event["event_id"] for event in driver.events]
    assert indexes == sorted(indexes)


def test_reading_may_stall_while_sending_goes_on() -> None:
    driver = troubled(Stall(at_s=1.0, for_s=3.0, sending=False))
    driver.send("response.create")
    driver.run_until(START_S + 1.0)
    assert driver.session.reading_resumes_s(driver.now) == START_S + 4.0
    assert len(driver.run_until(START_S + 2.0)) > 5


def test_malformed_json_and_unknown_events_go_out_as_they_stand() -> None:
    driver = troubled(SendText(at_s=1.0, text=NOT_JSON), SendText(at_s=2.0, text=UNKNOWN_EVENT), strict=False)
    driver.run_for(3)
    assert driver.texts[-2:] == [NOT_JSON, UNKNOWN_EVENT]
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(NOT_JSON)
    assert json.loads(UNKNOWN_EVENT)["type"] == "response.tomorrow.delta"


def test_a_client_that_does_not_read_is_closed() -> None:
    driver = Driver(config=PeerConfig(max_outgoing_events=50))
    for _ in range(60):
        driver.session.receive("{}", driver.now)
    driver.collect()
    assert driver.closed_with == 1008
    assert len(driver.of_type("error")) == 50
    assert driver.send("response.create") == []


@pytest.mark.parametrize(
    "wrong", [{"speedup": 0}, {"delta_ms": (0, 10)}, {"delta_ms": (20, 10)}, {"late_deltas": -1}, {"fragment_bytes": 0}]
)
def test_a_senseless_configuration_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PeerConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{}, {"recording": "nobody"}, {"seconds": 0.0}, {"recording": "caller", "seconds": 1}]
)
def test_a_senseless_step_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"recording|seconds"):
        Speak(**wrong)  # type: ignore[arg-type]
