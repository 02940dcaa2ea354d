"""The transcript: what was said, as far as it was heard."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.call.transcript import LINE_LIMIT, Transcript

TEN = "one two three four five six seven eight nine ten"


def texts(transcript: Transcript) -> list[str]:
    return [line.text for line in transcript.lines]


@pytest.mark.parametrize(
    ("heard_ms", "words"), [(0, 0), (40, 0), (60, 1), (500, 5), (940, 9), (960, 10), (1000, 10), (1200, 10)]
)
@pytest.mark.parametrize("said_first", [True, False])
def test_a_line_is_cut_at_the_last_word_heard(heard_ms: int, words: int, said_first: bool) -> None:
    transcript = Transcript()
    if said_first:
        transcript.assistant_said("a", TEN)
        transcript.assistant_heard("a", heard_ms, 1000)
    else:
        transcript.assistant_heard("a", heard_ms, 1000)
        transcript.assistant_said("a", TEN)
    assert texts(transcript) == ([" ".join(TEN.split()[:words])] if words else [])


def test_an_item_without_audio_was_not_heard() -> None:
    transcript = Transcript()
    transcript.assistant_said("a", TEN)
    transcript.assistant_heard("a", 0, 0)
    assert texts(transcript) == []


def test_a_line_is_cut_also_when_the_callers_words_came_behind_it() -> None:
    transcript = Transcript()
    transcript.assistant_said("a", TEN)
    transcript.caller_said("wait")
    transcript.assistant_heard("a", 200, 1000)
    assert texts(transcript) == ["one two", "wait"]


def test_each_of_several_items_is_cut_at_its_own_place() -> None:
    transcript = Transcript()
    transcript.assistant_said("a", TEN)
    transcript.assistant_said("b", "eleven twelve")
    transcript.assistant_heard("a", 500, 1000)
    transcript.assistant_heard("b", 0, 1000)
    assert texts(transcript) == ["one two three four five"]


def test_cutting_an_item_without_words_leaves_the_line_before_it() -> None:
    transcript = Transcript()
    transcript.assistant_said("a", TEN)
    transcript.assistant_said("b", "  ")
    transcript.assistant_heard("b", 0, 1000)
    assert texts(transcript) == [TEN]


def test_silence_is_no_line() -> None:
    transcript = Transcript()
    transcript.caller_said("  \n")
    transcript.caller_said(" yes ")
    assert texts(transcript) == ["yes"]


def test_only_the_last_lines_are_kept_and_replayed() -> None:
    transcript = Transcript()
    for n in range(LINE_LIMIT + 10):
        transcript.assistant_said(f"i{n}", f"line {n}")
    transcript.assistant_heard("i0", 0, 100)
    replayed = [json.loads(event)["item"]["content"][0] for event in transcript.replay()]
    assert replayed[0] == {"type": "output_text", "text": "line 10"}
    assert len(replayed) == LINE_LIMIT


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("caller"), st.text(max_size=20)),
            st.tuples(st.just("said"), st.sampled_from("abcdef"), st.text(max_size=20)),
            st.tuples(st.just("heard"), st.sampled_from("abcdef"), st.integers(0, 99), st.integers(0, 99)),
        ),
        max_size=60,
    )
)
def test_no_order_of_words_and_cuts_loses_the_callers_words(steps: list[tuple]) -> None:
    transcript, caller = Transcript(), []
    for kind, *what in steps:
        if kind == "caller":
            transcript.caller_said(*what)
            caller += [what[0].strip()] if what[0].strip() else []
        elif kind == "said":
            transcript.assistant_said(*what)
        else:
            transcript.assistant_heard(*what)
    kept = [line.text for line in transcript.lines if line.speaker == "caller"]
    assert kept == caller[len(caller) - len(kept) :]
    if len(steps) <= LINE_LIMIT:
        assert kept == caller


def test_a_line_is_cut_once() -> None:
    transcript = Transcript()
    transcript.assistant_heard("a", 500, 1000)
    transcript.assistant_said("a", TEN)
    transcript.assistant_heard("a", 500, 1000)
    assert texts(transcript) == ["one two three four five"]
