"""The machine a benchmark ran on: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, system, Python, load and date."""
    one_minute, *_ = os.getloadavg()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "memory": f"{pages / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": f"{one_minute:.2f} processes running in the minute before",
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def busy_warnings(machine: dict[str, str]) -> tuple[str, ...]:
    """A warning if the machine had other work."""
    if float(machine["load before"].split()[0]) > 0.5:
        return (f"other work was running before ({machine['load before']}); repeat on a quiet machine",)
    return ()
