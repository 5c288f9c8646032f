"""What a run holds of the operating system while it lasts: made at once, given back at once."""

from __future__ import annotations

import contextvars
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress

from pcall._logs.child_logs import ChildLogs
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._os.system import System
from pcall.engines.local.child.bootstrap import make_bootstrap
from pcall.engines.local.child.child_context import ChildContext
from pcall.engines.local.parent.child_process import ForkedProcess
from pcall.engines.local.parent.fork import make_steps, unread_stdin
from pcall.engines.local.parent.orphan_guard import OrphanGuard
from pcall.engines.local.seeding import read_seeds

__all__ = ["RunResources"]

# Seconds after which a run gets a guard: most are over before.
_UNGUARDED = 0.2


class RunResources:
    """Descriptors, the guard, and what children are told.

    To be made and closed while signals are held back: an interrupt would lose some.

    Args:
        system: the operating system's services.
        grace_period: seconds from SIGTERM to SIGKILL.
        logs: what children are told about logging.

    Attributes:
        poller: tells which children have ended.
        around: what children are told.
        steps: what they do first.
        shared: descriptors that all of them are to have.
    """

    def __init__(self, system: System, grace_period: float, logs: ChildLogs | None) -> None:
        self._grace_period = grace_period
        self._guard: OrphanGuard | None = None
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
                register_private_fd(fd)
            self.poller = system.make_poller()
        except BaseException:
            self._close_descriptors()
            raise
        polled = self.poller.fileno()
        if polled is not None:
            register_private_fd(polled)
        self.around = ChildContext(
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

    def guard_in(self, alive: Mapping[int, ForkedProcess]) -> float:
        """Have the children guarded, once the run has lasted for a moment.

        Returns:
            The seconds until then; infinite once it is done.
        """
        left = self._guard_at - time.monotonic()
        if left > 0:
            return left
        self._guard_at = math.inf  # once, also if it fails
        with DeferSignals(), suppress(OSError):  # no room for it: the run goes on without
            self._guard = OrphanGuard(self._sentinel, self._grace_period)
            for index, forked in alive.items():
                self._guard.watch(index, forked.pid)
        return math.inf

    def watch(self, index: int, pid: int) -> None:
        """Tell the guard that a call has this child now; 0 for none."""
        if self._guard is None:
            return
        if pid:
            self._guard.watch(index, pid)
        else:
            self._guard.unwatch(index)

    def close(self) -> None:
        """Give everything back."""
        if self._guard is not None:
            self._guard.end()
        polled = self.poller.fileno()
        if polled is not None:
            unregister_private_fd(polled)
        self.poller.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in self._descriptors:
            unregister_private_fd(fd)
            os.close(fd)
        self._descriptors.clear()
