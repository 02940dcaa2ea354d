"""Whose turn it is: responses, interruptions and tool results of a session that answers by itself.

Owns three rules of OpenAI Realtime sessions (protocols.md B.3, B.4). Audio of a response that the caller interrupted
is dropped, however late it comes. Each function call is run once. After function results exactly one
``response.create`` follows: not while a response is under way, not while another tool of the call is running, and not
while the caller speaks, because the service answers speech by itself and then sees the results too.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# Ids remembered to recognise late audio and repeated calls; a session has a few a minute.
MEMORY: Final = 256
# The service creates its response right after the caller falls silent. If it does not, we ask for one after all.
RESPONSE_GRACE_S: Final = 1.5


class ResponseTurns:
    """The turns of one session."""

    def __init__(self) -> None:
        # the response under way, empty when there is none
        self._active = ""
        self._interrupted: OrderedDict[str, None] = OrderedDict()
        self._called: OrderedDict[str, None] = OrderedDict()
        # the calls of tools whose results are awaited
        self._running: set[str] = set()
        # results were given that no response has seen yet
        self._wanted = False
        # a response.create of ours is on its way
        self._asked = False
        self._caller_speaks = False
        # until when the service may still answer by itself
        self._grace_until = float("-inf")

    @property
    def is_asking(self) -> bool:
        """Whether a ``response.create`` of ours has no answer yet."""
        return self._asked

    @property
    def active_response(self) -> str:
        """The id of the response under way; empty when there is none."""
        return self._active

    def response_created(self, response_id: str) -> None:
        """A response began; it sees every result given so far."""
        self._active = response_id
        self._wanted = self._asked = False
        self._grace_until = float("-inf")

    def response_done(self, response_id: str) -> None:
        """A response ended."""
        if self._active in (response_id, ""):
            self._active = ""

    def speech_started(self) -> None:
        """The caller began to speak: whatever the response under way still sends is not wanted."""
        self._caller_speaks = True
        if self._active:
            self.interrupt(self._active)

    def interrupt(self, response_id: str) -> None:
        """Takes a response's audio for unwanted from now on."""
        _remember(self._interrupted, response_id)

    def speech_stopped(self, now: float) -> None:
        """The caller fell silent: the service will answer by itself."""
        self._caller_speaks = False
        self._grace_until = now + RESPONSE_GRACE_S

    def wants(self, response_id: str) -> bool:
        """Whether audio of this response is still to be played."""
        return response_id not in self._interrupted

    def tool_called(self, call_id: str) -> bool:
        """A function is to be run; False if this call was already taken."""
        if call_id in self._called:
            return False
        _remember(self._called, call_id)
        self._running.add(call_id)
        return True

    def tool_finished(self, call_id: str) -> bool:
        """A function has its result or error; False if none was awaited from this call."""
        if call_id not in self._running:
            return False
        self._running.remove(call_id)
        self._wanted = True
        return True

    def ask(self) -> None:
        """Wants a response for something that was put into the conversation otherwise than by voice."""
        self._wanted = True

    def retry(self, now: float) -> None:
        """Wants another response in place of one that failed, a moment later."""
        self._wanted = True
        self._grace_until = now + RESPONSE_GRACE_S

    def create_refused(self, now: float, *, again: bool) -> None:
        """Our response.create was refused.

        Args:
            now: The time, in seconds.
            again: Whether it met a response under way, so that it is to be sent again when that one is done. That
                response may have been announced meanwhile; it began before it could see what we asked about.
        """
        if self._asked:
            # nothing was announced since, so the response that was in our way may still be
            self._grace_until = now + RESPONSE_GRACE_S
        self._asked = False
        self._wanted = self._wanted or again

    def take_create(self, now: float) -> bool:
        """Whether ``response.create`` is to be sent now. Ask after every change and at :meth:`due_at`."""
        blocked = self._active or self._running or self._asked or self._caller_speaks or now < self._grace_until
        if blocked or not self._wanted:
            return False
        self._wanted = False
        self._asked = True
        return True

    def due_at(self) -> float | None:
        """When :meth:`take_create` may change its mind without an event, in seconds."""
        waiting = self._wanted and not (self._active or self._running or self._asked or self._caller_speaks)
        return self._grace_until if waiting else None


def _remember(memory: OrderedDict[str, None], key: str) -> None:
    memory[key] = None
    if len(memory) > MEMORY:
        memory.popitem(last=False)
