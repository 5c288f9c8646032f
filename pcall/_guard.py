"""What ends the children of a parent that was killed: a process that does nothing else.

The kernel tells each child that its parent has died, and a child in Python ends by that. One
that ignores SIGTERM, that is deep in C code, that is stopped, or that leaves processes behind
does not; and nobody is left to count its grace period. So a run that lasts longer than a
moment has a guard, forked as a child is, which waits for the parent's end. It sleeps all that
time, and the parent ends it with the run.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
from typing import NoReturn

from pcall._forking import no_warning
from pcall._signals import HeldBack, signal_group

__all__ = ["Guard", "group_lives", "kill_own_group_later"]


class Guard:
    """Guards the children of one run.

    Args:
        size: how many calls the run has.
        sentinel: descriptor that tells of this process's end.
        grace_period: seconds from the parent's end to SIGKILL.
    """

    def __init__(self, size: int, sentinel: int, grace_period: float) -> None:
        # Shared with the guard. A slot for each call; 0 when it has no child.
        self._memory = mmap.mmap(-1, 4 * size)
        self._pids = memoryview(self._memory).cast("i")
        self._pid = 0
        parent = os.getpid()
        with HeldBack():
            with no_warning():
                self._pid = os.fork()
            if self._pid == 0:
                _guard(self._pids, parent, sentinel, grace_period)

    def watch(self, index: int, pid: int) -> None:
        """A call has this child now; 0 for none."""
        self._pids[index] = pid

    def end(self) -> None:
        """The run is over."""
        with HeldBack():
            pid, self._pid = self._pid, 0
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    pass  # ended by somebody else, or reaped by another wait
        self._pids.release()
        self._memory.close()


def _guard(pids: memoryview, parent: int, sentinel: int, grace: float) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_all_but(sentinel)
        poller = select.poll()
        poller.register(sentinel, select.POLLIN)
        while os.getppid() == parent:
            poller.poll()
            time.sleep(0.01)  # the parent's end is seen a moment before it is another's child
        _kill_later({pid for pid in pids if pid}, grace)
    finally:
        os._exit(0)


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
            _close_all_but(None)
            _kill_later({group}, grace_period)
        finally:
            os._exit(0)


def _kill_later(groups: set[int], grace: float) -> None:
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


def _close_all_but(kept: int | None) -> None:
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
