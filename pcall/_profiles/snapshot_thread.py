"""A thread of a child that takes a snapshot of the running call's profile each second.

It lives as long as its process, and is asleep but for the snapshots. From Python 3.12 on the
functions that a thread calls are events of the one profiler that there is, as if the thread of the
call had called them. So this thread runs functions in C alone, by iterators in C, except while the
events of each thread go elsewhere: that is switched on before the snapshot and off behind it, by
steps that are functions in C, too.
"""

from __future__ import annotations

import operator
import time
from _thread import allocate_lock, start_new_thread
from collections import deque
from functools import partial
from itertools import chain, cycle, starmap
from os import getpid
from typing import Any

__all__ = ["SnapshotThread", "Steps", "snapshot_thread"]

#: Functions, each with its arguments, to call one after another.
Steps = tuple[tuple[Any, ...], ...]

#: Seconds from one snapshot to the next.
INTERVAL = 1.0


class SnapshotThread:
    """The thread. Make it, and start it, in the process that uses it.

    Attributes:
        pid: the process.
    """

    def __init__(self) -> None:
        self.pid = getpid()
        self._gate = allocate_lock()  # held while steps are made or replaced
        self._steps: list[Steps] = [()]
        self._started = False

    def watch(self, steps: Steps) -> None:
        """Call these functions each second from now on; () for none.

        None of them is called any more when this returns.
        """
        with self._gate:
            self._steps[0] = steps

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._started:
            return
        self._started = True
        first = operator.itemgetter(0)
        before: list[Steps] = [((time.sleep, INTERVAL), (self._gate.acquire,))]
        behind: list[Steps] = [((self._gate.release,),)]
        # The second is read anew each time, once the gate is held.
        parts = [partial(first, each) for each in (before, self._steps, behind)]
        steps = chain.from_iterable(map(operator.call, cycle(parts)))
        start_new_thread(deque, (starmap(operator.call, steps), 0))


_threads: list[SnapshotThread] = []


def snapshot_thread() -> SnapshotThread:
    """The thread of this process."""
    if not _threads or _threads[-1].pid != getpid():
        _threads[:] = [SnapshotThread()]
    return _threads[-1]
