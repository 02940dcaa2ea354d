"""The version of the engine that runs, as the installed distribution states it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def engine_version() -> str:
    """Give the version of the installed distribution, or "unknown" in a tree that was never installed."""
    try:
        return version("media-engine")
    except PackageNotFoundError:
        return "unknown"
