"""The times at which a caller's frames leave: absolute, never re-based.

Frame n is due at the origin plus n intervals, however late frame n-1 was; lateness is counted, overdue frames go out
at once, and drift cannot happen. Reads no clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

# A frame that leaves this late has cost a listener nothing yet, but the machine is near its end.
LATE_MS = 5.0


class FrameSchedule:
    """The schedule of one stream's frames."""

    def __init__(self, origin_s: float, *, interval_ms: float = 20.0) -> None:
        """Makes a schedule whose first frame is due at `origin_s`."""
        self._origin_s = origin_s
        self._interval_s = interval_ms / 1000
        self.frames = 0
        self.frames_late = 0
        self.late_max_ms = 0.0

    @property
    def next_due_s(self) -> float:
        """When the next frame is due."""
        return self._origin_s + self.frames * self._interval_s

    def due(self, now: float) -> bool:
        """Says whether the next frame should leave at `now`."""
        return now >= self.next_due_s

    def leave(self, now: float) -> float:
        """Counts one frame as leaving at `now`.

        Returns:
            How late it is in milliseconds, never negative.
        """
        late_ms = max((now - self.next_due_s) * 1000, 0.0)
        self.frames += 1
        self.frames_late += late_ms > LATE_MS
        self.late_max_ms = max(self.late_max_ms, late_ms)
        return late_ms
