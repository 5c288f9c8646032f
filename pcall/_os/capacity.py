"""The number of children that this machine can hold at once.

Each child takes descriptors in the parent, a process of those that the user and the control group
may have, and page tables, which grow with the parent. All figures are read from the kernel; one
that can't be read sets no limit.
"""

from __future__ import annotations

import os
import resource
import sys

from pcall._os.cgroups import read, read_line, room_for_memory, room_for_processes
from pcall._tuning import BYTES_PER_CHILD, RACING_PROCESSES, SHARE_OF_MEMORY

__all__ = ["RSS_UNIT", "capacity", "processes_exhausted", "resident_memory"]

# The unit of ru_maxrss: bytes on macOS, kibibytes elsewhere.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def capacity(fds_per_child: int) -> int:
    """The number of children that there is room for now, at least 1.

    Args:
        fds_per_child: descriptors that the parent holds for each.
    """
    return max(1, min(_by_descriptors(fds_per_child), _by_memory(), _by_cgroup_pids()))


def processes_exhausted(children: int) -> bool:
    """True if the user or the control group has as many processes as it may have.

    Call it after a fork has failed with EAGAIN, which gives no reason. It is too slow to call
    before each fork: the kernel doesn't report the number of a user's tasks, so this function
    counts them.

    Args:
        children: how many children this run had; some may have ended since.
    """
    if _by_cgroup_pids() <= children + RACING_PROCESSES:
        return True
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    user = os.getuid()
    tasks = 0
    for pid in _listing("/proc"):
        if pid.isdigit():
            try:
                if os.stat(f"/proc/{pid}").st_uid == user:
                    tasks += len(os.listdir(f"/proc/{pid}/task"))
            except OSError:
                pass  # it has ended since
    return tasks + 2 * (children + RACING_PROCESSES) >= limit


def resident_memory() -> int:
    """Bytes of resident memory that a child starts with; the peak if that is unknown."""
    fields = read_line("/proc/self/statm").split()
    if len(fields) > 2:
        # A fork does not map the pages of files; the child maps them again when it needs them.
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def _by_descriptors(fds_per_child: int) -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    # The parent needs some for itself, and so does each child, which inherits the parent's.
    reserve = min(64, limit // 4)
    return (limit - _open_descriptors(limit) - reserve) // fds_per_child


def _open_descriptors(limit: int) -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    count = 0
    for fd in range(min(limit, 4096)):
        try:
            os.fstat(fd)
            count += 1
        except OSError:
            pass
    return count


def _by_memory() -> int:
    page_tables = _field("/proc/self/status", "VmPTE")
    free = _field("/proc/meminfo", "MemAvailable")
    if page_tables is None or free is None:
        return 1 << 30
    in_groups = room_for_memory()
    if in_groups is not None:
        free = min(free, in_groups)
    return int(free * SHARE_OF_MEMORY) // (page_tables + BYTES_PER_CHILD)


def _by_cgroup_pids() -> int:
    room = room_for_processes()
    return 1 << 30 if room is None else room


def _field(path: str, name: str) -> int | None:
    """A field of a file of "name: number kB" lines, in bytes; None if there is none."""
    for line in read(path).splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
