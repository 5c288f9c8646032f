"""The control groups of this process, of both versions, and the room that they leave.

The kernel reports where they are mounted, and which part of their tree is. A machine may have a
mount for each controller (version 1), one for all (version 2), or both, and a container may or may
not see the groups above its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["folders", "read", "read_line", "room_for_memory", "room_for_processes"]


def room_for_processes() -> int | None:
    """How many more processes these groups may have; None if no limit is known."""
    room = None
    for folder, _ in _own_folders("pids"):
        most, used = _number(f"{folder}/pids.max"), _number(f"{folder}/pids.current")
        room = _least(room, most, used)
    return room


def room_for_memory() -> int | None:
    """How many more bytes these groups may use; None if no limit is known."""
    room = None
    for folder, version in _own_folders("memory"):
        if version == 2:
            names, reclaimed = ("memory.max", "memory.current"), "inactive_file"
        else:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            reclaimed = "total_inactive_file"
        most, used = (_number(f"{folder}/{name}") for name in names)
        for line in read(f"{folder}/memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimed and used is not None:
                # Unused pages of files, which the kernel frees as soon as memory is short.
                used = max(0, used - int(value))
        room = _least(room, most, used)
    return room


def _least(room: int | None, most: int | None, used: int | None) -> int | None:
    if most is None or used is None:
        return room
    return most - used if room is None else min(room, most - used)


def _own_folders(controller: str) -> list[tuple[str, int]]:
    return list(folders(controller, read("/proc/self/cgroup"), read("/proc/self/mountinfo")))


def folders(controller: str, groups: str, mounts: str) -> Iterator[tuple[str, int]]:
    """The folders of a process's control groups, each before those above it.

    Args:
        controller: ``pids`` or ``memory``.
        groups: the content of ``/proc/<pid>/cgroup``.
        mounts: the content of ``/proc/<pid>/mountinfo``.

    Yields:
        The folder, and the version of control groups, 1 or 2.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        version = 1 if controllers else 2
        if version == 2 or controller in controllers.split(","):
            for root, point in _mounts(controller, version, mounts):
                # In a container the group may appear to lie outside of the mounted tree; its
                # limits are then at the mount point.
                top = root.rstrip("/")
                inside = f"{path}/".startswith(f"{top}/") and not path.startswith("/..")
                rest = path.removeprefix(top) if inside else ""
                while rest not in ("", "/"):
                    yield point + rest, version
                    rest = os.path.dirname(rest)
                yield point, version
                break


def _mounts(controller: str, version: int, mounts: str) -> Iterator[tuple[str, str]]:
    """For each mount of these groups, the group at its root, and the mount point."""
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        name, _, options = kind.split(" ", 2)
        if version == 2:
            fits = name == "cgroup2"
        else:
            fits = name == "cgroup" and controller in options.rpartition(" ")[2].split(",")
        if fits:
            root, point = place.split(" ")[3:5]
            yield root, point


def _number(path: str) -> int | None:
    """The number in a file; None if it has none: ``max``, for example, means no limit."""
    text = read(path).strip()
    return int(text) if text.isdigit() else None


def read(path: str) -> str:
    """The content of a file of the kernel's; empty if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def read_line(path: str) -> bytes:
    """The content of a file of one short line, much faster than by opening a text file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 256)
    finally:
        os.close(fd)
