"""Tables, pages and the command line."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmarks import command
from benchmarks.codec.measure import alias_db, delay_ms, snr_db, tone
from benchmarks.load import __main__ as load
from benchmarks.outcome import BarPlot, Column, Heatmap, LinePlot, Outcome, Plot, Section, Series, Table
from benchmarks.page import render_page
from benchmarks.peer import Load, LoadFailed, run_load
from benchmarks.plots import PlotsUnavailable, draw, require_plots
from benchmarks.text import render, render_table

NASTY = '<script src="http://example.com/x.js"></script> & "quoted"'
TABLE = Table(
    title=NASTY,
    columns=(Column(name="way"), Column(name=NASTY, digits=1), Column(name="verdict")),
    rows=((NASTY, 1234.56, "met"), ("plain", None, "missed")),
    note=NASTY,
)
PLOTS: tuple[Plot, ...] = (
    LinePlot(
        name="line",
        title=NASTY,
        x_label="x",
        y_label="y",
        series=(Series(name="a", x=(1, 2), y=(1, 3)),),
        limits=(("l", 2),),
    ),
    BarPlot(name="bar", title="bars", x_label="us", labels=("a", "b"), values=(1.0, 2.0)),
    Heatmap(
        name="heat",
        title="heat",
        x_label="x",
        y_label="y",
        x_ticks=("1", "2"),
        y_ticks=("1",),
        values=((1.0, None),),
        chosen=(0, 0),
    ),
)
OUTCOME = Outcome(
    command="codec",
    question=NASTY,
    conclusions=(NASTY,),
    warnings=(NASTY,),
    sections=(Section(heading=NASTY, text=(NASTY,), tables=(TABLE,), plots=PLOTS),),
    figures={"value": 1},
)
MACHINE = {"processor": NASTY}
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """What a browser would be asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]


def test_the_page_asks_for_nothing_and_escapes_everything() -> None:
    html = render_page(OUTCOME, MACHINE, lambda plot, theme: PNG)
    page = Page()
    page.feed(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_suits_a_phone_and_the_dark() -> None:
    html = render_page(OUTCOME, MACHINE, lambda plot, theme: PNG + theme.encode())
    assert '<meta name="viewport" content="width=device-width' in html
    assert "prefers-color-scheme: dark" in html
    assert "overflow-x: auto" in html
    assert html.count("<picture>") == len(PLOTS)
    assert len(set(re.findall(r"base64,([\w+/=]+)", html))) == 2


def test_verdicts_are_marked_on_the_page() -> None:
    html = render_page(OUTCOME, MACHINE, lambda plot, theme: PNG)
    assert '<td class="text met">met</td>' in html
    assert '<td class="text missed">missed</td>' in html


def test_tables_align_and_show_what_is_missing() -> None:
    lines = render_table(
        Table(title="t", columns=(Column(name="a"), Column(name="b", digits=1)), rows=(("x", 1234.56), ("yy", None)))
    )
    assert lines == ["t", "  a         b", "  --  -------", "  x   1,234.6", "  yy        -"]


def test_rows_must_fit_their_columns() -> None:
    with pytest.raises(ValueError, match="column"):
        Table(title="t", columns=(Column(name="a"),), rows=((1, 2),))


def test_the_text_ends_with_the_answer() -> None:
    assert render(OUTCOME).splitlines()[-1] == f"=> {NASTY}"


def test_outcomes_survive_json() -> None:
    found = json.loads(json.dumps(OUTCOME.to_json(MACHINE)))
    assert found["figures"] == {"value": 1}
    assert found["tables"][0]["rows"][0][1] == 1234.56


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_plots_are_drawn(plot: Plot, theme: str) -> None:
    pytest.importorskip("matplotlib")
    assert draw(plot, theme).startswith(PNG)


def test_a_report_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = command.write_report(OUTCOME, MACHINE, tmp_path / "deep" / "report")
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in page.parent.glob("*.png")) == sorted(
        f"codec-{plot.name}{suffix}.png" for plot in PLOTS for suffix in ("", "-dark")
    )


def test_missing_matplotlib_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsUnavailable):
        require_plots()
    assert command.main(["codec", "--quick", "--report"]) == 2
    shown = capsys.readouterr()
    assert "media-engine[plots]" in shown.err
    assert not shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["codec", "--provider-hz", "44100"],
        ["latency", "--calls", "ten"],
        ["latency", "--calls", "0"],
        ["pacing", "--lead-ms", "-20"],
        ["pacing", "--frame-ms", "20,,40"],
        ["capacity", "--audio", "opus"],
    ],
)
def test_wrong_command_lines_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m benchmarks" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["codec", "pacer", "latency", "pacing", "capacity"])
def test_every_subcommand_has_help_and_an_expected_time(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([name, "--help"])
    assert stopped.value.code == 0
    assert "--report" in capsys.readouterr().out
    options = command.make_parser().parse_args([name, "--quick"])
    assert 0 < command.find_benchmark(name).expected_s(options) < 600


def test_load_is_reached_as_a_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    for main, arguments in ((command.main, ["load", "--calls", "0"]), (load.main, ["--calls", "0"])):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "must be positive" in capsys.readouterr().err


def test_a_run_without_figures_says_why() -> None:
    with pytest.raises(LoadFailed, match="must be positive"):
        run_load(Load(calls=0, seconds=1))


def test_a_runs_command_line_names_every_condition() -> None:
    load = Load(calls=7, seconds=2, tls=True, legs="up", stall_ms=50, network_delay_ms=10, engine_core=0, load_core=1)
    arguments = load.arguments()
    for name, value in (("--calls", "7"), ("--legs", "up"), ("--stall-ms", "50"), ("--pin-engine", "0")):
        assert arguments[arguments.index(name) + 1] == value
    assert "--tls" in arguments


# ------------------------------------------------------------------------------------------------------------- codec


def test_the_signal_to_noise_ratio_of_a_known_noise() -> None:
    clean = np.frombuffer(tone(1004.0, 8000), "<i2").astype(float)
    noise = np.random.default_rng(1).normal(0, 16_000 / 2**0.5 / 1000, clean.size)
    assert snr_db(clean + noise, 1004.0, 8000) == pytest.approx(60, abs=0.5)
    assert alias_db(clean, 8000) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("held_frames", [0, 1, 3])
def test_the_delay_is_what_is_held_back(held_frames: int) -> None:
    held: list[bytes] = []

    def convert(frame: bytes) -> bytes:
        held.append(frame)
        return held.pop(0) if len(held) > held_frames else b""

    assert delay_ms(convert, input_hz=8000, output_hz=8000) == pytest.approx(20 * held_frames, abs=0.01)


def test_a_shift_is_delay_too() -> None:
    rest = bytes(2 * 40)

    def convert(frame: bytes) -> bytes:
        nonlocal rest
        out, rest = (rest + frame)[: len(frame)], (rest + frame)[len(frame) :]
        return out

    assert delay_ms(convert, input_hz=8000, output_hz=8000) == pytest.approx(5, abs=0.01)


def test_a_quick_codec_run_measures_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "codec.json"
    assert command.main(["codec", "--quick", "--quiet", "--json", str(found)]) == 0
    tables = json.loads(found.read_text())["tables"]
    assert len(tables) == 9
    assert all(row[1] > 0 for table in tables for row in table["rows"])
    assert "=> transcoding both ways" in capsys.readouterr().out
