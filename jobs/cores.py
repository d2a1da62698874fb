"""How many cores a process may use."""

import os
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where a container has a smaller share."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError):  # No control groups, or no limit ("max").
        return bound
