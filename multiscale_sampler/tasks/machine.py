"""Cores and memory that this process may use, within its limits (affinity, cgroup)."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# The part of the available memory that a build uses by default.
DEFAULT_MEMORY_FRACTION = 0.5


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its cgroup's limit if lower."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUP_LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)
