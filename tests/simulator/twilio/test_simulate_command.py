"""The command `simulate`, run in a thread beside a server of the test's own."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from engine.audio.wav import Wav, read_wav, write_wav
from engine.errors import ConfigurationError
from engine.simulator.command import add_arguments, run


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


async def listen(request: WebSocketRequest) -> None:
    socket = await request.accept()
    with pytest.raises(ConnectionClosed):
        while True:
            await socket.get_message()


async def refuse(request: WebSocketRequest) -> None:
    await request.reject(503)


async def simulate(handler: object, *arguments: str) -> int:
    """Runs the command against a media socket served by `handler`."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, handler, "127.0.0.1", 0, None))
            url = f"ws://127.0.0.1:{server.port}/media"
            status = await trio.to_thread.run_sync(run, parsed(url, *arguments))
            nursery.cancel_scope.cancel()
    return int(status)


@pytest.fixture
def word(tmp_path: Path) -> str:
    path = tmp_path / "word.wav"
    write_wav(path, Wav(sample_rate_hz=16_000, channels=1, pcm=b"\x00\x20" * 1600))
    return str(path)


async def test_calls_that_go_well_give_status_0_and_a_table(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = await simulate(
        listen, "--calls", "3", "--rate", "50", "--seconds", "0.2", "--wav", word, "--dtmf", "1#@0.1"
    )
    out, err = capsys.readouterr()
    assert status == 0
    assert "3 of 3 calls went well" in out
    assert out.count("caller_hung_up") == 3
    assert "3/3" in err


async def test_a_refusing_server_gives_status_1_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert await simulate(refuse, "--seconds", "0.2") == 1
    out, _ = capsys.readouterr()
    assert "0 of 1 calls went well" in out
    assert "error 31920" in out
    assert "503" in out


async def test_json_and_records_tell_the_same_call(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "calls"
    assert await simulate(listen, "--seconds", "0.3", "--wav", word, "--json", "--record", str(folder)) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    saved = json.loads((folder / f"{summary['call_sid']}.json").read_text())
    assert saved["frames_sent"] == summary["frames_sent"] >= 10
    assert "start" in [event["kind"] for event in saved["events"]]
    wav = read_wav(folder / f"{summary['call_sid']}.wav")
    assert (wav.sample_rate_hz, wav.channels) == (8000, 2)
    assert wav.duration_s == pytest.approx(0.3, abs=0.2)


async def test_a_drop_fault_ends_the_call_halfway(capsys: pytest.CaptureFixture[str]) -> None:
    assert await simulate(listen, "--seconds", "0.4", "--faults", "drop", "--json") == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["ended_by"] == "caller_dropped"
    assert summary["frames_sent"] <= 15


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["ftp://127.0.0.1/"], "must begin with"),
        (["wss://voice.example.com/media"], "--allow-remote"),
        (["http://127.0.0.1:1/in", "--param", "a=b"], "--param is for media sockets"),
        (["ws://127.0.0.1:1/m", "--wav", "/nonexistent.wav"], "nonexistent.wav"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: list[str], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        run(parsed(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--calls", "0"],
        ["--rate", "-1"],
        ["--seconds", "x"],
        ["--dtmf", "12x"],
        ["--dtmf", "@3"],
        ["--param", "=b"],
        ["--faults", "flood"],
    ],
)
def test_arguments_of_the_wrong_form_end_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("ws://127.0.0.1:1/m", *arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
