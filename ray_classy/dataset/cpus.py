"""How many CPUs this process may read and decode with."""

from __future__ import annotations

import os


def cpus_of_this_process() -> int:
    """Returns this machine's CPUs divided among the processes that a launcher started together on it."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cpus_of_this_machine() // (int(together) if together.isdigit() and int(together) else 1))


def cpus_of_this_machine() -> int:
    """Returns the number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
