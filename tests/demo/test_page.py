"""The page: whole, self-contained, escaped, and readable without seeing it."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from engine.demo.account import Account
from engine.demo.chart import LEFT, RIGHT, WIDTH, Axis, depth_scale_ms, fit_label, time_ticks
from engine.demo.checks import check_call
from engine.demo.figures import measure
from engine.demo.page import render_page, split_heard, transcript

WAV = b"RIFF of no importance"
_VOID = {"meta", "link", "br", "img", "input", "hr"}


class _Document(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def _page(account: Account) -> str:
    figures = measure(account)
    checks = check_call(account, figures)
    return render_page(account, figures, checks, wav=WAV, written_at="21 November 2026, 12:00")


@pytest.fixture(scope="module")
def page(account: Account) -> str:
    return _page(account)


def test_the_page_is_well_formed(page: str) -> None:
    assert _Document(page).open == []


def test_every_drawing_is_well_formed_and_has_a_text_alternative(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 20


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    document = _Document(page)
    for tag, attributes in document.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name)
    assert not list(document.named("link"))
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "http://" not in page
    assert "https://" not in page


def test_the_recording_is_inside(page: str) -> None:
    (sound,) = _Document(page).named("audio")
    source = sound["src"]
    assert source is not None
    assert b64decode(source.removeprefix("data:audio/wav;base64,")) == WAV


def test_the_verdict_is_the_checks_verdict(account: Account, page: str) -> None:
    assert "9 of 9 checks passed" in page
    failed = _page(replace(account, ended=False))
    assert "did not go as scripted: 1 of 9 checks failed" in failed
    assert "✗ failed" in failed


def test_everything_from_outside_is_escaped(account: Account) -> None:
    evil = '<script>alert("x")</script>\'&'
    lines = tuple(replace(line, text=evil) for line in account.lines)
    use = replace(account.provider.tool_uses[0], arguments=evil, output=evil, name=evil)
    replies = tuple(replace(reply, text=evil) for reply in account.provider.replies)
    provider = replace(account.provider, tool_uses=(use,), replies=replies, errors=(evil,))
    page = _page(replace(account, lines=lines, provider=provider, engine_summary={evil: evil}))
    assert len(list(_Document(page).named("script"))) == 1
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_a_call_without_barge_in_still_has_a_page(account: Account) -> None:
    page = _page(replace(account, provider=replace(account.provider, truncations=())))
    assert "from close up" not in page
    assert "nobody was interrupted" in page


def test_the_transcript_is_in_the_order_of_hearing(account: Account) -> None:
    entries = transcript(account, measure(account).hearings)
    assert [entry.who for entry in entries] == [
        "agent", "caller", "agent", "tool", "agent", "caller", "agent", "caller", "agent",
    ]  # fmt: skip
    assert [bool(entry.unheard) for entry in entries].count(True) == 1


@pytest.mark.parametrize(
    ("share", "heard"),
    [(0.0, ""), (0.5, "one two"), (0.6, "one two three"), (0.99, "one two three four"), (1.0, "one two three four")],
)
def test_a_sentence_is_cut_at_the_nearest_word(share: float, heard: str) -> None:
    text = "one two three four"
    assert split_heard(text, share)[0] == heard
    assert " ".join(part for part in split_heard(text, share) if part) == text


def test_the_axis_holds_every_time_inside_the_plot() -> None:
    axis = Axis(10.0, 30.0)
    assert [axis.x(at_s) for at_s in (0, 10, 20, 30, 99)] == [
        LEFT, LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT, WIDTH - RIGHT,
    ]  # fmt: skip
    assert [tick.label for tick in time_ticks(axis)][:2] == ["0 s", "2 s"]


def test_labels_are_cut_to_their_space() -> None:
    assert fit_label("short", 100) == "short"
    assert fit_label("a sentence, of some length", 100) == "a sentence…"
    assert fit_label("sentences of some length", 20) == ""


def test_the_depth_scale_has_room_above_lead_and_data() -> None:
    assert depth_scale_ms([(0, 120)], 100) == 150
    assert depth_scale_ms([], 200) == 300
    assert depth_scale_ms([(0, 90_000)], 100) == 60_000
