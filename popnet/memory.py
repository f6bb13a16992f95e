"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

from popnet.errors import DataError


def available_memory() -> int:
    """Bytes that can be used without swapping, as Linux estimates them. Raises DataError where it does not say."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise DataError("/proc/meminfo: has no line MemAvailable")
