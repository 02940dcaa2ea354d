"""The parcel desk's one tool: where is my order?

The engine under demonstration loads `TOOLS` by name and runs the handler for real, in the call's own tool task; only the
order book is made up.
"""

from __future__ import annotations

from typing import Final

import trio

from engine.tools import Tool

# A warehouse system that answers at once would show nothing: this long, the caller's audio must keep flowing.
LOOKUP_S = 0.4

_ORDERS: Final = {
    "4711": {"status": "out for delivery", "stops_before": 11, "window": "14:00 to 16:00"},
}


async def lookup_order(order_number: str) -> dict[str, object]:
    """Looks an order up in the warehouse's book.

    Args:
        order_number: What the caller said, digits with or without spaces.

    Returns:
        ``found`` and, if so, ``status``, ``stops_before`` and ``window``.
    """
    await trio.sleep(LOOKUP_S)
    number = "".join(character for character in order_number if character.isdigit())
    order = _ORDERS.get(number)
    return {"order_number": number, "found": order is not None, **(order or {})}


TOOLS = (
    Tool(
        name="lookup_order",
        description="Finds out where an order is. Call it whenever the caller asks about a delivery.",
        parameters={
            "type": "object",
            "properties": {"order_number": {"type": "string", "description": "The order's number, digits only"}},
            "required": ["order_number"],
            "additionalProperties": False,
        },
        handler=lookup_order,
    ),
)
