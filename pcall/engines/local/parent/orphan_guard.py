"""A process that kills the children of a run after their parent has been killed.

The kernel signals each child when its parent has died, and a child in Python exits because of that.
A child does not exit if it ignores SIGTERM, runs deep in C code, is stopped, or leaves processes
behind; and no parent is left to enforce the grace period. So a run that lasts longer than a moment
has a guard, forked like a child, which waits for the parent's end. The guard sleeps all that time,
and the parent kills it at the end of the run.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from typing import NoReturn

from pcall._os.fork_warning import fork_warns, ignore_fork_warning
from pcall._os.process_groups import close_all_but, kill_groups_later
from pcall._os.signals import DeferSignals
from pcall._os.waiting import POLLIN, poll

__all__ = ["OrphanGuard"]

# Places for living children: as many as Linux can have processes (PID_MAX_LIMIT). They cost only
# addresses, since an anonymous mapping gets memory when it is first written to.
_PLACES = 1 << 22
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0)  # in Python since 3.13

# The shared memory holds process ids, 0 in a free place. The first number is the header: how many
# places have ever been used, so that the guard reads no more than these.
_USED, _FIRST = 0, 1


class OrphanGuard:
    """Guards the children of one run.

    Make, use and end it while signals are deferred.

    Args:
        sentinel: descriptor that becomes readable at this process's end.
        grace_period: seconds from the parent's end to SIGKILL.

    Raises:
        OSError: no memory or no process could be had.
    """

    def __init__(self, sentinel: int, grace_period: float) -> None:
        size = 4 * (_FIRST + _PLACES)
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | _NO_RESERVE)
        self._pids = memoryview(self._memory).cast("i")
        self._places: dict[int, int] = {}  # by key
        self._free: list[int] = []  # places that were used, and can be used again
        self._pid = 0
        parent = os.getpid()
        with DeferSignals():
            if fork_warns():
                ignore_fork_warning()
            self._pid = os.fork()
            if self._pid == 0:
                _guard(self._pids, parent, sentinel, grace_period)

    def watch(self, key: int, pid: int) -> None:
        """Guard this child, in place of an earlier one with the same key.

        Args:
            key: identifies the child in this run.
            pid: its process id, which is also its process group.
        """
        place = self._places.get(key)
        if place is None:
            if self._free:
                place = self._free.pop()
            else:
                place = _FIRST + self._pids[_USED]
                self._pids[_USED] += 1
            self._places[key] = place
        self._pids[place] = pid

    def unwatch(self, key: int) -> None:
        """Stop guarding a child, if it was guarded: it has ended, and its number is free."""
        place = self._places.get(key)
        if place is not None:
            self._pids[place] = 0
            del self._places[key]
            self._free.append(place)

    def end(self) -> None:
        """Kill the guard: the run is over."""
        with DeferSignals():
            pid, self._pid = self._pid, 0
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    pass  # killed by another process, or reaped by another wait
        self._pids.release()
        self._memory.close()


def _guard(pids: memoryview, parent: int, sentinel: int, grace: float) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        close_all_but(sentinel)
        poller = poll()
        poller.register(sentinel, POLLIN)
        while os.getppid() == parent:
            poller.poll()
            # The sentinel shows the parent's end a moment before this process gets a new parent.
            time.sleep(0.01)
        used = pids[_FIRST : _FIRST + pids[_USED]]
        kill_groups_later({pid for pid in used if pid}, grace)
    finally:
        os._exit(0)
