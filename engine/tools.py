"""What the model may call: a tool is a name, a JSON schema, and an async function.

Owns the shape of a tool and the check that it can be offered at all. Running tools (task, deadline, error text for the
model) belongs to the call. A `Tool` that exists is valid: the name is one that the Realtime API accepts, the schema
describes an object, and the handler is an async function.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigurationError

# The API's own rule for function names: letters, digits, underscore and dash, at most 64 of them.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """One function that the model may call during a conversation.

    Args:
        name: What the model calls it: 1 to 64 letters, digits, ``_`` or ``-``.
        description: When and why to call it; the model reads this.
        parameters: JSON schema of the arguments; its ``type`` is ``object``.
        handler: Async function that gets the arguments by keyword and returns something `json.dumps` accepts.

    Raises:
        ConfigurationError: Names every fault of this tool at once.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    handler: Callable[..., Awaitable[Any]]

    def __post_init__(self) -> None:
        faults = []
        if not _NAME.fullmatch(self.name):
            faults.append(f"tool {self.name!r}: a name is 1 to 64 letters, digits, '_' or '-'")
        if not self.description.strip():
            faults.append(f"tool {self.name!r}: the description is empty, the model would not know when to call it")
        if self.parameters.get("type") != "object":
            faults.append(f"tool {self.name!r}: parameters must be a JSON schema of type 'object'")
        if not _is_async(self.handler):
            faults.append(f"tool {self.name!r}: the handler must be an async function")
        if faults:
            raise ConfigurationError(faults)


def _is_async(handler: object) -> bool:
    """Whether calling it gives a coroutine: an async function, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
