"""Which reply of the script comes next.

Owns a session's place in its script. Passes over tool calls that the session does not offer, repeats one that was cancelled,
and does not move on while a tool's output is awaited.
"""

from __future__ import annotations

from collections.abc import Collection

from engine.simulator.openai.script import CallTool, Reply, Script, Step


class Turns:
    """A session's way through a script.

    Args:
        script: The script.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        # Replies used, and transcripts used.
        self._used = 0
        self._heard = 0
        # Tool calls passed over because they were not offered.
        self.tools_not_offered = 0

    def next_steps(self, *, offered: Collection[str], awaiting_output: bool) -> tuple[Step, ...]:
        """Take the next reply.

        Args:
            offered: Names of the functions that may be called.
            awaiting_output: A called function's output is missing.

        Returns:
            What to say and call; empty if only functions not offered are left.
        """
        if awaiting_output:
            return self._possible(self._script.while_waiting, offered)
        while self._used < len(self._script.replies):
            steps = self._possible(self._script.replies[self._used], offered)
            self._used += 1
            if steps:
                return steps
        return self._possible(self._script.afterwards, offered)

    def take_back(self) -> None:
        """Return to the reply before: its tool call was cancelled."""
        self._used = max(0, self._used - 1)

    def next_heard(self) -> str:
        """Take the transcript of the caller's next turn."""
        heard = self._script.heard[self._heard] if self._heard < len(self._script.heard) else ""
        self._heard += 1
        return heard

    def _possible(self, reply: Reply, offered: Collection[str]) -> tuple[Step, ...]:
        steps = reply if isinstance(reply, tuple) else (reply,)
        possible = tuple(step for step in steps if not isinstance(step, CallTool) or step.name in offered)
        self.tools_not_offered += len(steps) - len(possible)
        return possible
