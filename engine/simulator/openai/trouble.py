"""The faults of a script, each at its time.

Owns when a timed fault strikes, and the stalls that follow. Refuses nothing and touches no socket: what strikes goes out through
the session's outlet, and a stall is a state that session and shell look at. Each fault strikes once.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.simulator.openai.fields import EventRefused
from engine.simulator.openai.outlet import Outlet
from engine.simulator.openai.script import Die, ReportError, SendText, Stall, TimedFault


class Trouble:
    """The faults of one session.

    Args:
        faults: What is to go wrong.
        outlet: Where it shows.
        opened_at_s: The session's start.
    """

    def __init__(self, faults: Sequence[TimedFault], outlet: Outlet, *, opened_at_s: float) -> None:
        self._waiting = list(faults)
        self._outlet = outlet
        self._opened_at_s = opened_at_s
        # Until when nothing is read, and nothing sent.
        self._reading_stalled_until_s = self._sending_stalled_until_s = opened_at_s

    def reading_resumes_s(self, now: float) -> float | None:
        """When reading goes on; None if it is not stalled."""
        return self._reading_stalled_until_s if self._reading_stalled_until_s > now else None

    def sending_resumes_s(self, now: float) -> float | None:
        """When sending goes on; None if it is not stalled."""
        return self._sending_stalled_until_s if self._sending_stalled_until_s > now else None

    def next_due_s(self, now: float) -> float | None:
        """When something changes next."""
        times = [due for fault in self._waiting if (due := self._due_s(fault)) is not None]
        resumes = (self.sending_resumes_s(now),)
        return min([*times, *(time for time in resumes if time is not None)], default=None)

    def advance(self, now: float) -> None:
        """Let every fault strike that is due."""
        due = [(when, fault) for fault in self._waiting if (when := self._due_s(fault)) is not None and when <= now]
        for when, fault in sorted(due, key=lambda pair: pair[0]):
            self._waiting.remove(fault)
            self._strike(fault, when)

    def _due_s(self, fault: TimedFault) -> float | None:
        origin_s = self._opened_at_s if fault.since == "connected" else self._outlet.first_delta_s
        return None if origin_s is None else origin_s + fault.at_s

    def _strike(self, fault: TimedFault, when: float) -> None:
        match fault:
            case Die():
                self._outlet.abort()
            case SendText():
                self._outlet.send_text(fault.text)
            case ReportError():
                self._outlet.send_error(EventRefused(fault.message, code=fault.code, kind=fault.type), None)
                if fault.close_code is not None:
                    self._outlet.close(fault.close_code, fault.code)
            case Stall():
                if fault.reading:
                    self._reading_stalled_until_s = when + fault.for_s
                if fault.sending:
                    self._sending_stalled_until_s = when + fault.for_s
