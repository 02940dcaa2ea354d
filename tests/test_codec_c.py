"""The C sources by themselves, under the address and undefined-behaviour sanitizers (tests/c has the program)."""

import shlex
import shutil
import subprocess
import sysconfig
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


def build(sources: list[Path], program: Path) -> None:
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
    build([ROOT / "tests/c/codec_test.c", *sources], tmp_path / "codec_test")
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
