"""Hardware and load, for the record beside every measurement."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Name of the processor where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores_and_load() -> str:
    """Processor, number of cores, and how busy they were already."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{processor()}, {os.cpu_count()} cores, load average {load} before the start"
