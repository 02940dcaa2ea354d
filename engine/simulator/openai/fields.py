"""Strict checks of JSON fields, in the service's words.

Owns small checks that combine: each takes a value and its path, and raises `EventRefused` or returns nothing. What a check
does not allow is refused, unknown fields above all: the service refuses them too, while pydantic models let them pass
(protocols.md B.6). Checks hold no state and never change what they look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from engine.errors import RemoteProtocolError

Check: TypeAlias = Callable[[Any, str], None]
"""Looks at a value found at a path such as `session.audio.input.format.rate`."""


class EventRefused(RemoteProtocolError):
    """A client event breaks the service's rules; answered with an `error` event.

    Attributes:
        message: For people.
        code: For programs, as in `error.code`; may be None.
        param: Path of the field at fault, or None.
        type: As in `error.type`; `kind` when it is made.
    """

    def __init__(
        self, message: str, *, code: str | None, param: str | None = None, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.type = kind


def unsupported(value: object, path: str, choices: tuple[Any, ...]) -> EventRefused:
    """Make the refusal of a value that is not among the choices."""
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return EventRefused(f"Invalid value: '{value}'. Supported values are: {listed}.", code="invalid_value", param=path)


def missing(path: str) -> EventRefused:
    """Make the refusal of an event that lacks a field."""
    return EventRefused(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def _type_refused(value: object, path: str, expected: str) -> EventRefused:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
    }
    got = "null" if value is None else names.get(type(value), type(value).__name__)
    message = f"Invalid type for '{path}': expected {expected}, but got {got} instead."
    return EventRefused(message, code="invalid_type", param=path)


def text(*, longest: int | None = None, pattern: str | None = None, shortest: int = 0) -> Check:
    """Allow strings, of a length and a pattern."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _type_refused(value, path, "a string")
        if longest is not None and len(value) > longest:
            message = f"Invalid '{path}': string too long. Expected at most {longest} characters, but got {len(value)}."
            raise EventRefused(message, code="string_above_max_length", param=path)
        if len(value) < shortest:
            raise EventRefused(f"Invalid '{path}': empty string.", code="empty_string", param=path)
        if pattern is not None and re.fullmatch(pattern, value) is None:
            message = f"Invalid '{path}': string does not match pattern '{pattern}'."
            raise EventRefused(message, code="invalid_value", param=path)

    return check


def boolean(value: Any, path: str) -> None:
    """Allow true and false."""
    if not isinstance(value, bool):
        raise _type_refused(value, path, "a boolean")


def integer(*, least: int | None = None, most: int | None = None) -> Check:
    """Allow whole numbers of a range; true is not one."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _type_refused(value, path, "an integer")
        _check_range(value, path, least, most)

    return check


def number(*, least: float | None = None, most: float | None = None) -> Check:
    """Allow numbers of a range."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _type_refused(value, path, "a decimal")
        _check_range(value, path, least, most)

    return check


def _check_range(value: float, path: str, least: float | None, most: float | None) -> None:
    if least is not None and value < least:
        message = f"Invalid '{path}': below minimum value. Expected a value >= {least}, but got {value} instead."
        raise EventRefused(message, code="integer_below_min_value", param=path)
    if most is not None and value > most:
        message = f"Invalid '{path}': above maximum value. Expected a value <= {most}, but got {value} instead."
        raise EventRefused(message, code="integer_above_max_value", param=path)


def one_of(*choices: str) -> Check:
    """Allow these strings."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _type_refused(value, path, "a string")
        if value not in choices:
            raise unsupported(value, path, choices)

    return check


def nullable(inner: Check) -> Check:
    """Allow null as well."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def array(inner: Check, *, longest: int | None = None) -> Check:
    """Allow arrays whose every element passes."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _type_refused(value, path, "an array")
        if longest is not None and len(value) > longest:
            message = f"Invalid '{path}': array too long. Expected at most {longest} elements, but got {len(value)}."
            raise EventRefused(message, code="array_above_max_length", param=path)
        for index, element in enumerate(value):
            inner(element, f"{path}[{index}]")

    return check


def anything(value: Any, path: str) -> None:
    """Allow any value."""


def free_object(value: Any, path: str) -> None:
    """Allow objects with any fields."""
    if not isinstance(value, dict):
        raise _type_refused(value, path, "an object")


def record(fields: Mapping[str, Check], *, required: tuple[str, ...] = ()) -> Check:
    """Allow objects with these fields and no others."""

    def check(value: Any, path: str) -> None:
        free_object(value, path)
        prefix = f"{path}." if path else ""
        for name in required:
            if name not in value:
                raise missing(prefix + name)
        for name, inner in value.items():
            if name not in fields:
                raise EventRefused(
                    f"Unknown parameter: '{prefix}{name}'.", code="unknown_parameter", param=prefix + name
                )
            fields[name](inner, prefix + name)

    return check


def tagged(tag: str, variants: Mapping[str, Check]) -> Check:
    """Allow objects of several shapes, told apart by the string in one field."""

    def check(value: Any, path: str) -> None:
        free_object(value, path)
        prefix = f"{path}." if path else ""
        if tag not in value:
            raise missing(prefix + tag)
        one_of(*variants)(value[tag], prefix + tag)
        variants[value[tag]](value, path)

    return check
