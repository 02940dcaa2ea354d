"""The command's files and words, from a staged call."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from engine.audio.wav import read_wav
from engine.demo.account import Account
from engine.demo.checks import check_call
from engine.demo.command import add_arguments, report, write_files
from engine.demo.figures import measure
from engine.demo.table import figure_rows


def test_the_files_are_written_where_they_are_wanted(account: Account, tmp_path: Path) -> None:
    figures = measure(account)
    target = tmp_path / "new" / "place"
    write_files(target, account, figures, check_call(account, figures), ["a line of the log"])
    assert sorted(path.name for path in target.iterdir()) == ["call.html", "call.wav", "engine.log"]
    wav = read_wav(target / "call.wav")
    assert (wav.sample_rate_hz, wav.channels) == (8000, 2)
    assert wav.duration_s == pytest.approx(account.record.ended_at_s - account.record.started_at_s, abs=1e-3)


def test_the_report_ends_with_the_verdict(account: Account) -> None:
    figures = measure(account)
    text = report(figure_rows(figures), check_call(account, figures))
    assert text.endswith("The conversation went as scripted: all 9 checks passed.")
    assert "FAILED" not in text
    broken = replace(account, ended=False)
    text = report(figure_rows(figures), check_call(broken, measure(broken)))
    assert text.endswith("The conversation did not go as scripted: 1 of 9 checks failed.")
    assert text.count("FAILED") == 1


def test_the_output_directory_has_a_default() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).output == Path("demo-output")
    assert parser.parse_args(["--output", "there"]).output == Path("there")
