"""The machine beneath the devices: its memory and its load."""

import os
from pathlib import Path

_KIB_IN_MIB = 1024


def used_mib() -> int:
    """Of its memory, what could not be had at once: caches are not counted."""
    figures = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(figures[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return (total - available) // _KIB_IN_MIB


def load() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]
