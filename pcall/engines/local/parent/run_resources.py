"""The resources of the operating system that a run holds from its start to its end."""

from __future__ import annotations

import contextvars
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pcall._logs.child_logs import ChildLogs
from pcall._os.private_fds import (
    above_streams,
    closed_streams,
    register_private_fd,
    unregister_private_fd,
)
from pcall._os.signals import DeferSignals
from pcall._os.system import Poller, System
from pcall._profiles.current_profiles import ProfileKind
from pcall._tuning import GUARD_DELAY
from pcall.engines.local.child.bootstrap import make_bootstrap
from pcall.engines.local.child.child_context import ChildContext
from pcall.engines.local.coverage_data import coverage_steps
from pcall.engines.local.greenlets import greenlet_steps
from pcall.engines.local.parent.captured_output import make_output_steps
from pcall.engines.local.parent.fork import make_steps, unread_stdin
from pcall.engines.local.parent.orphan_guard import OrphanGuard
from pcall.engines.local.seeding import Draw, draw

__all__ = ["RunResources"]


class RunResources:
    """Descriptors, the orphan guard, and the context of all children of a run.

    Make and close it while signals are deferred: an interrupt would lose descriptors.

    Args:
        system: the operating system's services.
        grace_period: seconds from SIGTERM to SIGKILL.
        logs: the changes to log handlers in children.
        capture: True if the output of children is captured.
        drawn: random numbers for the children; None: draw them now.
        initialize: what each child calls first; None: nothing.
        profile: the kind of profiles that children take; None: none.

    Attributes:
        poller: reports the children that have ended.
        child_context: the data that all children of the run share.
        steps: the first system calls of a child.
        shared: descriptors that all children inherit.
        capture: as given.
        profiles: True if children take profiles.
    """

    def __init__(
        self,
        system: System,
        grace_period: float,
        logs: ChildLogs | None,
        capture: bool = False,
        drawn: Draw | None = None,
        initialize: Callable[[], object] | None = None,
        profile: ProfileKind | None = None,
    ) -> None:
        self._grace_period = grace_period
        self._guard: OrphanGuard | None = None
        self._guard_at = time.monotonic() + GUARD_DELAY
        self._descriptors: list[int] = []
        parent = os.getpid()
        context, drawn, stdin = contextvars.copy_context(), drawn or draw(), unread_stdin()
        null = above_streams(os.open(os.devnull, os.O_RDWR))
        self._descriptors.append(null)
        try:
            self._sentinel, *others = system.parent_sentinel()
            self._descriptors += [self._sentinel, *others]
            for fd in (null, self._sentinel, *others):
                register_private_fd(fd)
            self.poller: Poller = system.make_poller()
        except BaseException:
            self._close_descriptors()
            raise
        polled = self.poller.fileno()
        if polled is not None:
            register_private_fd(polled)
        run: Any = context.run
        profiled: Any = None
        if profile is not None:
            # Profilers are loaded for those who use them alone.
            from pcall.engines.local.child.profiled_calls import ProfiledCalls, run_fresh

            run, profiled = partial(run_fresh, profile), partial(ProfiledCalls, profile)
        self.child_context: ChildContext = ChildContext(
            parent=parent,
            bootstrap=make_bootstrap(self._sentinel),
            system=system,
            context=context,
            run=run,
            seeds=drawn.seeds,
            stdin=stdin,
            logs=logs,
            entropy=drawn.entropy,
            initialize=initialize,
            profiled=profiled,
        )
        watch = system.parent_watch(parent, grace_period)
        first = make_steps(watch, null, closed_streams())
        self.steps: tuple[tuple[Any, ...], ...] = (*first, *greenlet_steps(), *coverage_steps())
        if capture:
            self.steps = (*self.steps, *make_output_steps())
        self.capture = capture
        self.profiles: bool = profile is not None
        self.shared: tuple[int, ...] = (self._sentinel, *(() if logs is None else (logs.fd,)))

    def seconds_to_guard(self) -> float:
        """Seconds until :meth:`start_guard` is due; infinite after it was called."""
        return self._guard_at - time.monotonic()

    def start_guard(self, pids: Mapping[int, int]) -> None:
        """Guard these children, and those that follow: kill them after the parent's death.

        Args:
            pids: by key, the processes that are alive.
        """
        self._guard_at = math.inf  # do not try again, even if it fails
        # Without room for it the run goes on unguarded, and where Python 3.12 forks no more, since
        # the interpreter is about to exit.
        with DeferSignals(), suppress(OSError, RuntimeError):
            self._guard = OrphanGuard(self._sentinel, self._grace_period)
            for key, pid in pids.items():
                self._guard.watch(key, pid)

    def watch(self, key: int, pid: int) -> None:
        """Have the guard watch this child."""
        if self._guard is not None:
            self._guard.watch(key, pid)

    def unwatch(self, key: int) -> None:
        """Have the guard forget the child with this key, which has ended."""
        if self._guard is not None:
            self._guard.unwatch(key)

    def close(self) -> None:
        """Release everything."""
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
