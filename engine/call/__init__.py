"""Decisions of one call: pacing, accounting, turns. No I/O; time is the argument ``now``."""
