"""Process groups: signalling them, seeing whether they live, and killing them later."""

from __future__ import annotations

import os
import signal
import time

from pcall._os.fork_warning import no_warning

__all__ = [
    "close_all_but",
    "group_lives",
    "kill_groups_later",
    "kill_own_group_later",
    "signal_group",
]


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; False when there is no such group, or none that we may."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_own_group_later(grace_period: float) -> None:
    """In a child whose parent has died: SIGKILL to its group when the grace period is over.

    By a process of its own, since this one may be gone by then and what it started not.
    """
    group = os.getpgrp()
    with no_warning():
        pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            close_all_but(None)
            kill_groups_later({group}, grace_period)
        finally:
            os._exit(0)


def kill_groups_later(groups: set[int], grace: float) -> None:
    """SIGKILL to what is left of these groups after so many seconds, if anything is."""
    end = time.monotonic() + grace
    while (groups := _living(groups)) and time.monotonic() < end:
        time.sleep(0.05)
    for group in groups:
        signal_group(group, signal.SIGKILL)


def _living(groups: set[int]) -> set[int]:
    # A number whose whole group has gone can be another's by now; of this session are
    # only ours.
    session = os.getsid(0)
    found = _processes()
    if found is None:
        return {group for group in groups if signal_group(group, 0)}
    return {group for _, group, of in found if group in groups and of == session}


def close_all_but(kept: int | None) -> None:
    # Who reads from the parent's pipes must see their end when the parent and its
    # children have gone.
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(0, limit if kept is None else kept)
    if kept is not None:
        os.closerange(kept + 1, limit)


def group_lives(group: int) -> bool:
    """True while something of a process group is running, and is no zombie."""
    found = _processes()
    if found is None:
        return signal_group(group, 0)
    return any(of == group for _, of, _ in found)


def _processes() -> list[tuple[int, int, int]] | None:
    """Number, group and session of each living process; None where that can't be seen."""
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # After the name, which may hold anything but ends at the last ")".
                state, _, group, session, *_ = file.read().rpartition(b")")[2].split()
        except (OSError, ValueError):
            continue  # it has ended since
        if state not in (b"Z", b"X"):
            found.append((pid, int(group), int(session)))
    return found or None  # nothing at all: no /proc
