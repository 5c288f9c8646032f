"""The children of a run: forking them, seeing them end, and what is held for that."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.run_state import RunState
from pcall._logs.run_logs import make_run_logs
from pcall._os.capacity import capacity, processes_exhausted
from pcall._os.current import get_system
from pcall._os.signals import PARENT_DIED, SIGTERM, DeferSignals
from pcall.engines.local.child.child_state import whoami
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.fork import fork_all
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.terminator import Terminator

__all__ = ["Children"]

# Up to so many children are forked without a look at what the machine can hold.
_FEW = 16


class Children(RunState):
    """Forks children, each known by a key of its own, and sees them end.

    Args: see :class:`~pcall._core.run_state.RunState`.
    """

    def __init__(
        self,
        calls: Calls,
        options: Options,
        timeout: float | None,
        max_workers: int | None = None,
    ) -> None:
        super().__init__(calls, options, timeout, max_workers)
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._children: dict[int, ChildProcess] = {}
        self._alive: dict[int, ForkedProcess] = {}
        self._by_sentinel: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._to_collect: dict[int, None] = {}
        self._terminator = Terminator(self._alive, options.grace_period)
        self._resources: RunResources | None = None  # while it runs
        self._turns: set[object] = set()  # those being taken, by threads or signal handlers
        self._started = 0

    @property
    def over(self) -> bool:
        """True once no call runs or waits to, and nothing is left of what they started."""
        return self._scheduler.over and not self._alive and not self._terminator.leftovers

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """The children that are alive."""
        with self._lock:
            return tuple(self._children[key] for key in self._alive)

    def _room(self, many: int, fds: int = 0) -> int:
        """How many children this machine can hold, if that is fewer.

        Args:
            many: how many there are to be.
            fds: descriptors that each takes beyond those of every child.
        """
        return many if many <= _FEW else min(many, capacity(get_system().fds_per_child + fds))

    def _acquire(self, children: int) -> None:
        system = get_system()
        with DeferSignals():
            if self._options.tasklog:
                self._logs = make_run_logs(system, lambda index: self.outcomes[index], whoami)
            told = None if self._logs is None else self._logs.child
            self._resources = RunResources(system, self._options.grace_period, told)

    def _fork(self, children: Mapping[int, ChildProcess], resources: RunResources) -> bool:
        """Fork these children; False when there was no room for all of them."""
        failed: OSError | None = None
        with DeferSignals() as deferred:
            # A child unblocks what it has handlers for, whatever was blocked here.
            mask = tuple(set(deferred.mask) - {SIGTERM, PARENT_DIED})
            try:
                if self._logs is None:
                    self._fork_now(children, resources, mask)
                else:
                    with self._logs.forking():
                        self._fork_now(children, resources, mask)
            except OSError as error:
                if all(child.forked is not None for child in children.values()):
                    raise
                failed = error
            finally:
                for key, child in children.items():
                    if child.forked is not None:
                        self._watch(key, child.forked, resources)
        if failed is None:
            return True
        if self._is_full(failed) and self._no_room():
            return False
        raise self._fork_error(failed) from failed

    def _fork_now(
        self, children: Mapping[int, ChildProcess], resources: RunResources, mask: tuple[int, ...]
    ) -> None:
        around, steps, shared = resources.around, resources.steps, resources.shared
        fork_all(list(children.values()), around, mask, steps, shared)

    def _no_room(self) -> bool:
        """There is no room for another child now; False when waiting would not help."""
        return self._scheduler.no_room()

    def _fork_error(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"{error.strerror}: call {self._started} of {len(self._calls)} could not be "
            f"forked; the {self._started} that had been started were ended",
        )

    def _hold(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """See to it that the end of a child is noticed."""
        self._started += 1
        self._alive[key] = forked
        resources.watch(key, forked.pid)
        if forked.sentinel is None:
            self._unwatched.add(key)
        else:
            self._by_sentinel[forked.sentinel] = key
            resources.poller.register(forked.sentinel)

    def _is_full(self, error: OSError) -> bool:
        """True when the machine has no room now, so that waiting for an end may help."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        return error.errno == errno.EAGAIN and processes_exhausted(len(self._alive))

    def _collect(self, ready: list[int]) -> None:
        """Take the answers of children that have ended."""
        for fd in ready:
            if fd in self._by_sentinel:
                self._to_collect[self._by_sentinel[fd]] = None
        self._collect_known()

    def _look(self, resources: RunResources) -> None:
        """Look at the children whose end no descriptor tells, or not in time."""
        everywhere = resources.around.system.exit_poll_interval
        unwatched = self._alive if everywhere else self._unwatched
        self._to_collect.update(dict.fromkeys(unwatched))

    def _collect_known(self) -> None:
        # One is struck off only when it is done with: an interrupt in between leaves it
        # for the next turn.
        while self._to_collect:
            index = next(iter(self._to_collect))
            forked = self._alive.get(index)
            if forked is not None:
                forked.poll()
                if forked.ended:
                    self._finish(index, forked)
            self._to_collect.pop(index, None)

    def _strike_off(self, index: int, forked: ForkedProcess) -> None:
        resources = self._resources
        assert resources is not None
        if forked.sentinel is not None and self._by_sentinel.pop(forked.sentinel, None) is not None:
            # Before it is closed: other children hold copies of it, and for epoll it
            # would stay open, and ready, until the last of them has gone.
            resources.poller.unregister(forked.sentinel)
        self._unwatched.discard(index)
        self._terminator.ended(index, forked)
        forked.release()
        resources.watch(index, 0)

    def _release_if_over(self) -> None:
        """The last turn, or what ends the run while none is taken, gives everything back."""
        with self._lock:
            if self.over and not self._turns:
                self._release()

    def _release(self) -> None:
        with DeferSignals():
            resources, self._resources = self._resources, None
            if resources is not None:
                resources.close()

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """A child has been forked."""
        raise NotImplementedError

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        """A child has ended: take what it answered, and strike it off."""
        raise NotImplementedError
