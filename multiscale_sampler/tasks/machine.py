"""Cores and memory that this process may use, within its limits (affinity, cgroup)."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Any, cast

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# The structure MEMORYSTATUSEX of Windows: its own size, the load in percent, the physical memory, and the rest.
MEMORY_STATUS = struct.Struct("<IIQ48x")
# The part of the available memory that a build uses by default.
DEFAULT_MEMORY_FRACTION = 0.5


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its cgroup's limit if lower."""
    limits = [_machine_memory()]
    for path in map(Path, CGROUP_LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def _machine_memory() -> int:
    """Return the bytes of memory of the machine, by POSIX or by Windows, which has no `os.sysconf`."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    status = ctypes.create_string_buffer(MEMORY_STATUS.pack(MEMORY_STATUS.size, 0, 0), MEMORY_STATUS.size)
    cast("Any", ctypes).windll.kernel32.GlobalMemoryStatusEx(status)
    _, _, total = MEMORY_STATUS.unpack(status.raw)
    return int(total)
