"""The C sources by themselves, under the address and undefined-behaviour sanitizers (tests/c has the program)."""

import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
FLAGS = [
    "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
]  # fmt: skip


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100, check=False)


def build(sources: Sequence[Path | str], program: Path) -> None:
    built = run(COMPILER, *FLAGS, "-I", ROOT / "codec_c", "-o", program, *sources)
    assert built.returncode == 0, built.stderr


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    if shutil.which(COMPILER) is None:
        pytest.skip("no C compiler")
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    if run(COMPILER, *FLAGS, "-o", tmp_path / "empty", tmp_path / "empty.c").returncode:
        pytest.skip("this compiler has no sanitizers")
    return sorted((ROOT / "codec_c").glob("*.c"))


def test_the_c_sources_pass_under_the_sanitizers(sources: list[Path], tmp_path: Path) -> None:
    build([ROOT / "tests/c/codec_test.c", *sources, "-lm"], tmp_path / "codec_test")
    ran = run(tmp_path / "codec_test")
    assert ran.returncode == 0, ran.stderr


def build_polyphase_test(directory: Path, polyphase: Path) -> None:
    build([ROOT / "tests/c/polyphase_test.c", polyphase, ROOT / "codec_c/g711.c"], directory / "polyphase_test")


def test_the_polyphase_filters_pass_under_the_sanitizers(sources: list[Path], tmp_path: Path) -> None:
    build_polyphase_test(tmp_path, ROOT / "codec_c/polyphase.c")
    ran = run(tmp_path / "polyphase_test")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("INT16_MAX ? INT16_MAX", "INT16_MAX ? INT16_MIN", "failed"),
        (
            "to->copy(output, block.outputs, owed)",
            "to->copy(output, block.outputs, owed + (owed > 0))",
            "heap-buffer-overflow",
        ),
        ("start * from->bytes, piece)", "start * from->bytes, piece + 1)", "AddressSanitizer"),
    ],
    ids=["saturation", "flush", "input"],
)
def test_the_polyphase_test_notices_a_fault(
    sources: list[Path], tmp_path: Path, right: str, wrong: str, complaint: str
) -> None:
    faulty = tmp_path / "polyphase.c"
    original = (ROOT / "codec_c/polyphase.c").read_text()
    assert original.count(right) == 1
    faulty.write_text(original.replace(right, wrong))
    build_polyphase_test(tmp_path, faulty)
    ran = run(tmp_path / "polyphase_test")
    assert ran.returncode != 0
    assert complaint in ran.stderr


def test_the_c_test_notices_one_sample_too_many(sources: list[Path], tmp_path: Path) -> None:
    faulty = tmp_path / "g711.c"
    original = (ROOT / "codec_c/g711.c").read_text()
    assert "ulaw_sample[ulaw[i]]" in original
    faulty.write_text(original.replace("i < n; i++", "i < n + (n > 0); i++"))
    build([ROOT / "tests/c/codec_test.c", faulty, ROOT / "codec_c/frame_timer.c"], tmp_path / "codec_test")
    ran = run(tmp_path / "codec_test")
    assert ran.returncode != 0
    assert "heap-buffer-overflow" in ran.stderr


def build_hot_path(name: str, directory: Path, faulty: Path | None = None) -> Path:
    """Builds a program of tests/c with the sources of the hot path, one of them perhaps replaced."""
    names = ("base64", "g711", "leg", "media_text", "outbox", "pacer", "polyphase", "websocket_frame")
    replaced = () if faulty is None else (faulty.stem,)
    parts = [ROOT / f"codec_c/{part}.c" for part in names if part not in replaced]
    build([ROOT / f"tests/c/{name}.c", *parts, *([] if faulty is None else [faulty]), "-lm"], directory / name)
    return directory / name


def test_the_hot_path_passes_under_the_sanitizers(sources: list[Path], tmp_path: Path) -> None:
    ran = run(build_hot_path("hot_path_test", tmp_path))
    assert ran.returncode == 0, ran.stderr


def test_a_leg_hands_on_or_carries_every_byte_of_some_thousand_spoilt_streams(
    sources: list[Path], tmp_path: Path
) -> None:
    ran = run(build_hot_path("fuzz_leg", tmp_path), "5000", "1")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        ("leg", "            leg->stopped = 1;", "            leg->stopped = 0;"),
        ("leg", "if (n - at < size)", "if (n - at + 1 < size)"),
        ("leg", "memmove(leg->rest, leg->rest + done, leg->rest_size);", "(void)done;"),
        ("leg", "scratch->batch + gone, n - gone", "scratch->batch, n - gone"),
        ("websocket_frame", "if (n < header->size)", "if (n + 1 < header->size)"),
        ("media_text", "while (c->at < c->end && (*c->at == ' '", "while (c->at <= c->end && (*c->at == ' '"),
        ("base64", "if (n % 4 != 0)", "if (n % 4 == 7)"),
    ],
)
def test_the_tests_of_the_hot_path_notice_a_fault(
    sources: list[Path], tmp_path: Path, source: str, right: str, wrong: str
) -> None:
    original = (ROOT / f"codec_c/{source}.c").read_text()
    assert original.count(right) == 1
    faulty = tmp_path / f"{source}.c"
    faulty.write_text(original.replace(right, wrong))
    programs = {name: build_hot_path(name, tmp_path, faulty) for name in ("hot_path_test", "fuzz_leg")}
    failed = [run(programs["hot_path_test"]).returncode, run(programs["fuzz_leg"], "5000", "1").returncode]
    assert any(failed)
