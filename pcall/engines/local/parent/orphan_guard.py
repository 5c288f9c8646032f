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

from pcall._os.fork_warning import no_warning
from pcall._os.process_groups import close_all_but, kill_groups_later
from pcall._os.signals import DeferSignals

__all__ = ["OrphanGuard"]


class OrphanGuard:
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
        with DeferSignals():
            with no_warning():
                self._pid = os.fork()
            if self._pid == 0:
                _guard(self._pids, parent, sentinel, grace_period)

    def watch(self, index: int, pid: int) -> None:
        """A call has this child now; 0 for none."""
        self._pids[index] = pid

    def end(self) -> None:
        """The run is over."""
        with DeferSignals():
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
        close_all_but(sentinel)
        poller = select.poll()
        poller.register(sentinel, select.POLLIN)
        while os.getppid() == parent:
            poller.poll()
            time.sleep(0.01)  # the parent's end is seen a moment before it is another's child
        kill_groups_later({pid for pid in pids if pid}, grace)
    finally:
        os._exit(0)
