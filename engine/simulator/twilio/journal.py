"""The one place that writes a call's record, and tells whoever watches the call live.

Owns a bounded channel of live events: an observer that falls behind misses events (counted in the record), the call
never waits.
"""

from __future__ import annotations

import math

import trio

from engine.simulator.record import CallError, CallEvent, CallRecord, Violation

LIVE_EVENTS = 1024


class Journal:
    """The record being written."""

    def __init__(self, call_sid: str) -> None:
        self.record = CallRecord(call_sid=call_sid, dialed_at_s=trio.current_time())
        self._send, self.live = trio.open_memory_channel[CallEvent](LIVE_EVENTS)

    def note(self, kind: str, detail: str = "", *, at_s: float | None = None) -> None:
        """Writes down an event, by default as of now."""
        event = CallEvent(trio.current_time() if at_s is None else at_s, kind, detail)
        self.record.events.append(event)
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.record.events_dropped += 1
        except trio.BrokenResourceError:  # nobody watches any more
            pass

    def error(self, code: int, message: str) -> None:
        """Writes down what Twilio's debugger would show."""
        self.record.errors.append(CallError(trio.current_time(), code, message))
        self.note("error", f"{code} {message}")

    def violation(self, violation: Violation) -> None:
        """Writes down a message that breaks the protocol."""
        self.record.violations.append(violation)
        self.note("violation", f"{violation.code} {violation.reason}", at_s=violation.at_s)

    def end(self, ended_by: str) -> None:
        """Writes down the end of the call; the first reason stays."""
        record = self.record
        record.ended_by = record.ended_by or ended_by
        record.ended_at_s = trio.current_time()
        if not record.stream_sid or math.isclose(record.started_at_s, 0.0):
            record.started_at_s = record.ended_at_s
        self.note("ended", record.ended_by)

    def close(self) -> None:
        """Ends the live events: nothing more will be written down."""
        self._send.close()
