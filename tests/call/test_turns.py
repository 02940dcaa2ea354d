"""Turns by themselves."""

from __future__ import annotations

from engine.call.turns import MEMORY, RESPONSE_GRACE_S, ResponseTurns


def test_nothing_is_asked_for_that_nobody_wants() -> None:
    turns = ResponseTurns()
    assert not turns.take_create(1.0)
    assert turns.due_at() is None


def test_what_is_wanted_is_asked_for_once() -> None:
    turns = ResponseTurns()
    turns.ask()
    assert turns.take_create(1.0)
    assert turns.is_asking
    turns.ask()
    assert not turns.take_create(1.0)


def test_a_response_under_way_a_running_tool_and_a_speaking_caller_are_waited_for() -> None:
    turns = ResponseTurns()
    turns.response_created("r1")
    turns.ask()
    assert not turns.take_create(1.0)
    turns.tool_called("c1")
    turns.response_done("r1")
    assert not turns.take_create(1.0)
    turns.speech_started()
    turns.tool_finished("c1")
    assert not turns.take_create(1.0)
    turns.speech_stopped(1.0)
    assert turns.due_at() == 1.0 + RESPONSE_GRACE_S
    assert not turns.take_create(1.0 + RESPONSE_GRACE_S - 0.01)
    assert turns.take_create(1.0 + RESPONSE_GRACE_S)


def test_only_the_response_under_way_is_interrupted_by_speech() -> None:
    turns = ResponseTurns()
    turns.response_created("r1")
    turns.response_done("r1")
    turns.response_created("r2")
    turns.speech_started()
    assert turns.wants("r1")
    assert not turns.wants("r2")
    assert turns.wants("r3")


def test_the_end_of_another_response_does_not_end_the_one_under_way() -> None:
    turns = ResponseTurns()
    turns.response_created("r2")
    turns.response_done("r1")
    assert turns.active_response == "r2"


def test_results_nobody_waits_for_change_nothing() -> None:
    turns = ResponseTurns()
    assert not turns.tool_finished("c1")
    assert turns.tool_called("c1")
    assert turns.tool_finished("c1")
    assert not turns.tool_finished("c1")
    assert not turns.tool_called("c1")
    assert turns.take_create(0.0)


def test_a_response_that_began_before_it_could_see_a_result_does_not_answer_it() -> None:
    turns = ResponseTurns()
    turns.ask()
    assert turns.take_create(1.0)
    turns.response_created("of the service itself")
    turns.create_refused(1.1, again=True)
    assert not turns.take_create(1.1)
    turns.response_done("of the service itself")
    assert turns.take_create(1.2)


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    turns = ResponseTurns()
    for n in range(MEMORY + 1):
        turns.interrupt(f"r{n}")
    assert turns.wants("r0")
    assert not turns.wants("r1")
