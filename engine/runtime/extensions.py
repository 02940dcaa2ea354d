"""The user's own code, named in the settings: tools and the handler of text messages."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from engine.errors import ConfigurationError
from engine.tools import Tool
from engine.web.collaborators import SmsHandler


def load_tools(name: str | None) -> tuple[Tool, ...]:
    """Loads what ``TOOLS`` names.

    Args:
        name: ``module:attribute`` of a sequence of :class:`~engine.tools.Tool`; None for none.

    Raises:
        ConfigurationError: It cannot be loaded, is something else, or two tools have the same name.
    """
    if name is None:
        return ()
    value = _load("TOOLS", name)
    if not isinstance(value, Sequence) or not all(isinstance(tool, Tool) for tool in value):
        raise ConfigurationError([f"TOOLS={name} is not a sequence of engine.tools.Tool."])
    names = [tool.name for tool in value]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise ConfigurationError([f"TOOLS={name} has several tools of one name: {', '.join(twice)}."])
    return tuple(value)


def load_sms_handler(name: str | None) -> SmsHandler | None:
    """Loads what ``SMS_HANDLER`` names.

    Args:
        name: ``module:attribute`` of an async function that takes a
            :class:`~engine.web.collaborators.TextMessage` and returns the reply; None for none.

    Raises:
        ConfigurationError: It cannot be loaded or is not async.
    """
    if name is None:
        return None
    value = _load("SMS_HANDLER", name)
    if not inspect.iscoroutinefunction(value) and not inspect.iscoroutinefunction(type(value).__call__):
        raise ConfigurationError([f"SMS_HANDLER={name} is not an async function."])
    return cast(SmsHandler, value)


def _load(setting: str, name: str) -> object:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the user's module lies where the service is started
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the module is the user's code and this is its root
        raise ConfigurationError([f"{setting}={name} cannot be loaded: {type(error).__name__}: {error}."]) from error
