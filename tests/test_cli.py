"""The command line: its commands, exit statuses, and what it prints."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import main, settings_help
from engine.settings import describe_settings

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in describe_settings():
        monkeypatch.delenv(setting.name, raising=False)


def exit_status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.mark.usefixtures("clean_environment")
def test_faults_go_to_standard_error_and_give_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "PORT=eighty", "HOTS=1"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "PORT must be a whole number" in printed.err
    assert "did you mean HOST?" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.usefixtures("clean_environment")
def test_check_reports_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "TWILIO_AUTH_TOKEN=hushhush", "PORT=99"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert lines["PORT"] == "99"
    assert lines["TWILIO_AUTH_TOKEN"] == "set"
    assert lines["OPENAI_API_KEY"] == "not set"
    assert "hushhush" not in str(lines)


@pytest.mark.usefixtures("clean_environment")
def test_settings_may_stand_before_and_behind_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "PORT=99", "--workers", "3", "LEAD_MS=77", "FRAME_MS=33"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert (lines["PORT"], lines["WORKERS"], lines["LEAD_MS"], lines["FRAME_MS"]) == ("99", "3", "77", "33")


def test_an_unknown_option_is_named_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("serve", "PORT=99", "--openai-api-key=hushhush") == 2
    printed = capsys.readouterr().err
    assert "--openai-api-key" in printed
    assert "hushhush" not in printed


@pytest.mark.usefixtures("clean_environment")
def test_check_names_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "HOST=0.0.0.0"]) == 2
    assert "PUBLIC_URL is missing" in capsys.readouterr().err


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_a_fault_like_any_other(workers: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "engine", "serve", f"PORT={port}", "--workers", workers],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert run.returncode == 2
    assert "Address already in use" in run.stderr
    assert "Traceback" not in run.stderr


def test_help_lists_every_setting_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("serve", "--help") == 0
    printed = capsys.readouterr().out
    assert settings_help() in printed
    for setting in describe_settings():
        assert (f"  {setting.name}\n" in printed) is not setting.internal


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--help") == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("demo", "serve", "simulate", "check"))


@pytest.mark.parametrize("arguments", [(), ("call",), ("serve", "--nonsense")])
def test_a_wrong_command_line_gives_status_two(arguments: tuple[str, ...]) -> None:
    assert exit_status(*arguments) == 2


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "engine", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0
    assert run.stdout.startswith("media-engine ")


def test_help_loads_no_command(tmp_path: Path) -> None:
    code = (
        "import sys, engine.cli\n"
        "try: engine.cli.main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'trio', 'numpy', 'quart', 'twilio'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
