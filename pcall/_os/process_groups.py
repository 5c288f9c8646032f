"""Process groups: signal them, check whether they live, and kill them later."""

from __future__ import annotations

import os
import signal
import time

from pcall._os.fork_warning import fork_warns, ignore_fork_warning

__all__ = [
    "close_all_but",
    "group_lives",
    "group_members",
    "kill_groups_later",
    "kill_own_group_later",
    "signal_group",
]


def signal_group(group: int, number: int) -> bool:
    """Signal a process group.

    Returns:
        False if there is no such group, or this process may not signal it.
    """
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_own_group_later(grace_period: float) -> None:
    """In a child whose parent has died: send SIGKILL to its group after the grace period.

    A separate process does that: this one may have ended by then, while processes that it started
    still run.

    Args:
        grace_period: seconds until then.
    """
    group = os.getpgrp()
    if fork_warns():
        ignore_fork_warning()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            close_all_but(None)
            kill_groups_later({group}, grace_period)
        finally:
            os._exit(0)


def kill_groups_later(groups: set[int], grace: float) -> None:
    """Send SIGKILL to the groups that still live after ``grace`` seconds."""
    end = time.monotonic() + grace
    while (groups := _living_groups(groups)) and time.monotonic() < end:
        time.sleep(0.05)
    for group in groups:
        signal_group(group, signal.SIGKILL)


def _living_groups(groups: set[int]) -> set[int]:
    # The number of a group that has ended may belong to another one by now. Groups of this session
    # are this library's.
    session = os.getsid(0)
    found = _processes()
    if found is None:
        return {group for group in groups if signal_group(group, 0)}
    return {group for _, group, of in found if group in groups and of == session}


def close_all_but(kept: int | None) -> None:
    """Close all descriptors but one, if one is given.

    The readers of the parent's pipes must get an end of file once the parent and its children have
    ended.
    """
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(0, limit if kept is None else kept)
    if kept is not None:
        os.closerange(kept + 1, limit)


def group_lives(group: int) -> bool:
    """True while a process of this group is running, and is no zombie."""
    found = _processes()
    if found is None:
        return signal_group(group, 0)
    return any(of == group for _, of, _ in found)


def group_members(group: int) -> list[tuple[int, str]]:
    """Process id and name of each living process of a group; empty if /proc has none."""
    members = []
    for pid, of, _ in _processes() or ():
        if of == group:
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    members.append((pid, file.read().strip()))
            except OSError:
                continue  # the process has ended since
    return members


def _processes() -> list[tuple[int, int, int]] | None:
    """Process id, group and session of each living process; None if /proc has none."""
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # Skip the name, which may contain anything but ends at the last ")".
                state, _, group, session, *_ = file.read().rpartition(b")")[2].split()
        except (OSError, ValueError):
            continue  # the process has ended since
        if state not in (b"Z", b"X"):
            found.append((pid, int(group), int(session)))
    return found or None  # not even this process: no /proc
