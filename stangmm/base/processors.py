"""How many processors this process may use."""

from __future__ import annotations

import os


def n_processors() -> int:
    """Processors that this process may run on, which in a container or a job can be few of many."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13; what PYTHON_CPU_COUNT says comes first
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
