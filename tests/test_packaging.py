"""What pyproject.toml lists by hand agrees with the files that are there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "engine").rglob("__init__.py")}
    assert set(SETUPTOOLS["packages"]) == packages


def test_the_extension_names_all_that_it_is_made_of() -> None:
    (extension,) = SETUPTOOLS["ext-modules"]
    named = {*extension["sources"], *extension["depends"]}
    made_of = {f"codec_c/{path.name}" for path in (ROOT / "codec_c").iterdir() if path.suffix in {".c", ".h", ".txt"}}
    assert named == made_of | {"build_codec.py"}


def test_every_kind_of_data_file_is_packaged() -> None:
    shipped = {pattern.removeprefix("*") for patterns in SETUPTOOLS["package-data"].values() for pattern in patterns}
    data = {path.suffix or path.name for path in (ROOT / "engine").rglob("*") if path.is_file()}
    assert {kind for kind in data if kind not in {".py", ".pyc", ".so"}} <= shipped | {".typed"}
