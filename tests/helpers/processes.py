"""Reads from /proc which processes, descriptors and memory there are."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterable
from pathlib import Path

from tests.helpers.waiting import SOON, until


def descriptors() -> dict[int, str]:
    """Return the open descriptors of this process and the files behind them."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor that listed the folder
    return found


def children() -> set[int]:
    """Return the process IDs of this process's children, zombies included."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except OSError:
            pass  # the thread has ended
    return found


def resident_memory() -> int:
    """Return the bytes that this process alone has in memory.

    Pages of mapped files are not counted, since they come and go as the kernel likes.
    """
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def nameless_files(pid: int | str = "self") -> int:
    """Return the bytes of large files without a name that the process holds open or mapped."""
    found: dict[tuple[int, int], int] = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            status = os.stat(fd)
        except OSError:
            continue  # the descriptor that lists the folder
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            found[status.st_dev, status.st_ino] = status.st_size
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, _, _, device, inode, *_ = line.split(maxsplit=5)
        if line.endswith(" (deleted)"):
            major, minor = (int(part, 16) for part in device.split(":"))
            start, end = (int(part, 16) for part in addresses.split("-"))
            found.setdefault((os.makedev(major, minor), int(inode)), end - start)
    return sum(size for size in found.values() if size >= 1 << 20)


def stat_of(pid: int) -> tuple[str, int] | None:
    """Return the state and the parent of a process; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def has_ended(pid: int, parent: int | None = None) -> bool:
    """Return whether a process has ended.

    Args:
        pid: the process.
        parent: a process that has to reap its children: of these, a zombie has not ended yet.
            Any other zombie has, and is left to the system to reap.
    """
    found = stat_of(pid)
    return found is None or (found[0] in "ZX" and found[1] != parent)


def is_reaped(pid: int) -> bool:
    """Return whether a process has ended and has been reaped."""
    return not Path(f"/proc/{pid}").exists()


def assert_ended(pids: Iterable[int], parent: int | None = None, within: float = SOON) -> None:
    """Fail unless all these processes end in so many seconds; see has_ended().

    The kernel needs a moment to take a killed process down.
    """
    pids = list(pids)
    until(lambda: all(has_ended(pid, parent) for pid in pids), within, 0.01)
    left = {pid: stat_of(pid) for pid in pids if not has_ended(pid, parent)}
    assert not left, f"{len(left)} of {len(pids)} still there after {within} s: {left}"
