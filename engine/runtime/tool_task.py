"""Running one tool for the model: arguments in, JSON out, whatever happens.

Owns the deadline and the text of errors. Always holds: the result is JSON text of bounded length; only cancellation
gets through.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import trio

from engine.tools import Tool
from engine.wire.realtime import FunctionCalled

# A model reads this aloud or thinks about it; more is a mistake.
OUTPUT_LIMIT_CHARS: Final = 64 * 1024
# The longest name a tool may have; a name that the model made up is cut to it.
NAME_LIMIT_CHARS: Final = 64

_log = logging.getLogger("engine.tools")


async def run_tool(tools: Mapping[str, Tool], call: FunctionCalled, timeout_s: float) -> str:
    """Runs the function that the model called.

    Args:
        tools: By name.
        call: What the model wants.
        timeout_s: How long it may take.

    Returns:
        JSON text: the function's result, or ``{"error": …}``.
    """
    tool = tools.get(call.name)
    if tool is None:
        return _error(f"there is no tool named {call.name[:NAME_LIMIT_CHARS]}")
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:
        return _error(f"the arguments are not JSON: {error}")
    if not isinstance(arguments, dict):
        return _error("the arguments are not a JSON object")
    return await _call(tool, arguments, timeout_s)


async def _call(tool: Tool, arguments: dict[str, Any], timeout_s: float) -> str:
    # The handler is the user's code and this is its root: whatever fails in it is an answer for the model. The deadline
    # lies inside, for a handler's nursery may raise its own errors together with the cancellation.
    try:
        with trio.move_on_after(timeout_s) as deadline:
            output = json.dumps(await tool.handler(**arguments), ensure_ascii=False, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - the root of the user's code
        _log.exception("tool %s failed", tool.name)
        return _error(f"{tool.name} failed: {type(error).__name__}")
    if deadline.cancelled_caught:
        _log.warning("tool %s took longer than %g s", tool.name, timeout_s)
        return _error(f"{tool.name} took longer than {timeout_s:g} seconds")
    if len(output) > OUTPUT_LIMIT_CHARS:
        return _error(f"the result of {tool.name} is too long")
    return output


def _error(text: str) -> str:
    return json.dumps({"error": text}, ensure_ascii=False)
