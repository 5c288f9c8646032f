"""What a run holds of the operating system while it lasts: made at once, given back at once."""

from __future__ import annotations

import contextvars
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress

from pcall._bootstrap import make_bootstrap
from pcall._child import Surroundings
from pcall._forking import disown, own
from pcall._forks import make_steps, unread_stdin
from pcall._guard import Guard
from pcall._log_child import ChildLogs
from pcall._process import Forked
from pcall._randomness import read_seeds
from pcall._signals import HeldBack
from pcall._system import System

__all__ = ["Equipment"]

# Seconds after which a run gets a guard: most are over before.
_UNGUARDED = 0.2


class Equipment:
    """Descriptors, the guard, and what children are told.

    To be made and closed while signals are held back: an interrupt would lose some.

    Args:
        system: the operating system's services.
        size: how many calls the run has.
        grace_period: seconds from SIGTERM to SIGKILL.
        logs: what children are told about logging.

    Attributes:
        poller: tells which children have ended.
        around: what children are told.
        steps: what they do first.
        shared: descriptors that all of them are to have.
    """

    def __init__(
        self, system: System, size: int, grace_period: float, logs: ChildLogs | None
    ) -> None:
        self._size = size
        self._grace_period = grace_period
        self._guard: Guard | None = None
        self._guard_at = time.monotonic() + _UNGUARDED
        self._descriptors: list[int] = []
        parent = os.getpid()
        context, seeds, stdin = contextvars.copy_context(), read_seeds(), unread_stdin()
        # Where stdin, stdout or stderr is closed, a descriptor of ours would else get
        # its number, and whatever is printed.
        null = -1
        while null <= 2:
            null = os.open(os.devnull, os.O_RDWR)
            self._descriptors.append(null)
        try:
            self._sentinel, *others = system.parent_sentinel()
            self._descriptors += [self._sentinel, *others]
            for fd in (null, self._sentinel, *others):
                own(fd)
            self.poller = system.make_poller()
        except BaseException:
            self._close_descriptors()
            raise
        polled = self.poller.fileno()
        if polled is not None:
            own(polled)
        self.around = Surroundings(
            parent=parent,
            bootstrap=make_bootstrap(self._sentinel),
            system=system,
            context=context,
            run=context.run,
            seeds=seeds,
            stdin=stdin,
            logs=logs,
        )
        self.steps = make_steps(system.parent_watch(parent, grace_period), null)
        self.shared = (self._sentinel, *(() if logs is None else (logs.fd,)))

    def guard_in(self, alive: Mapping[int, Forked]) -> float:
        """Have the children guarded, once the run has lasted for a moment.

        Returns:
            The seconds until then; infinite once it is done.
        """
        left = self._guard_at - time.monotonic()
        if left > 0:
            return left
        self._guard_at = math.inf  # once, also if it fails
        with HeldBack(), suppress(OSError):  # no room for it: the run goes on without
            self._guard = Guard(self._size, self._sentinel, self._grace_period)
            for index, forked in alive.items():
                self._guard.watch(index, forked.pid)
        return math.inf

    def watch(self, index: int, pid: int) -> None:
        """Tell the guard that a call has this child now; 0 for none."""
        if self._guard is not None:
            self._guard.watch(index, pid)

    def close(self) -> None:
        """Give everything back."""
        if self._guard is not None:
            self._guard.end()
        polled = self.poller.fileno()
        if polled is not None:
            disown(polled)
        self.poller.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in self._descriptors:
            disown(fd)
            os.close(fd)
        self._descriptors.clear()
