"""Values that several subcommands take on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def positive_list(kind: type[Number]) -> Callable[[str], tuple[Number, ...]]:
    """Make a parser of positive numbers separated by commas."""
    return _list_parser(kind, lambda number: number > 0, "positive")


def list_from_zero(kind: type[Number]) -> Callable[[str], tuple[Number, ...]]:
    """Make a parser of numbers from zero up, separated by commas."""
    return _list_parser(kind, lambda number: number >= 0, "zero or more")


def _list_parser(
    kind: type[Number], allowed: Callable[[Number], bool], rule: str
) -> Callable[[str], tuple[Number, ...]]:
    def parse(text: str) -> tuple[Number, ...]:
        try:
            numbers = tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 20,40") from None
        if not all(allowed(number) for number in numbers):
            raise argparse.ArgumentTypeError(f"every number in {text!r} must be {rule}")
        return numbers

    return parse
