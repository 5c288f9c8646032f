"""Base of the local engines: forks children, sees them end, and ends them.

Each child has a key: the index of its call where every call has a child of its own, the number
of the worker where calls share workers.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterable, Mapping

from pcall._core.run_state import RunState
from pcall._logs.run_logs import RunLogs, make_run_logs
from pcall._os.capacity import capacity, processes_exhausted
from pcall._os.current import get_system
from pcall._os.signals import PARENT_DIED, SIGTERM, DeferSignals
from pcall._tuning import UNCHECKED_CHILDREN, UNWATCHED_LOOK_INTERVAL
from pcall.engines.local.child.child_state import whoami
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.fork import fork_all
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.terminator import Terminator

__all__ = ["LocalEngine"]

__tracebackhide__ = True  # pytest shows the frames of its user


class LocalEngine:
    """Runs calls in forked processes of this machine.

    Args:
        state: of the run.
    """

    synchronous = False

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._logs: RunLogs | None = None
        self._children: dict[int, ChildProcess] = {}
        self._alive: dict[int, ForkedProcess] = {}
        self._by_sentinel: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._to_collect: dict[int, None] = {}
        self._terminator = Terminator(self._alive, state.options.grace_period)
        self._resources: RunResources | None = None  # while it is open
        self._forks = 0

    # ------------------------------------------------------------ the protocol of engines

    @property
    def is_open(self) -> bool:
        """True between :meth:`open` and :meth:`close`."""
        return self._resources is not None

    @property
    def busy(self) -> bool:
        """True while a child lives, or something that a child left."""
        return bool(self._alive) or self._terminator.leftovers

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """The children that are alive."""
        return tuple(self._children[key] for key in self._alive)

    def poll(self, timeout: float) -> list[int]:
        """Wait for an end, or for so many seconds; the descriptors that are ready."""
        resources = self._resources
        assert resources is not None
        return resources.poller.poll(timeout)

    def collect(self, ready: Iterable[int]) -> None:
        """Report the calls whose children have ended; kill what outlived its grace period."""
        for fd in ready:
            if fd in self._by_sentinel:
                self._to_collect[self._by_sentinel[fd]] = None
        # The children whose end no descriptor tells, or not in time.
        everywhere = get_system().exit_poll_interval
        self._to_collect.update(dict.fromkeys(self._alive if everywhere else self._unwatched))
        self._collect_ended()
        self._terminator.take_turn()

    def _collect_ended(self) -> None:
        # One is struck off only when it is done with: an interrupt in between leaves it
        # for the next turn.
        while self._to_collect:
            key = next(iter(self._to_collect))
            forked = self._alive.get(key)
            if forked is not None:
                forked.poll()
                if forked.ended:
                    self._finish(key, forked)
            self._to_collect.pop(key, None)

    def refresh(self) -> None:
        """Report all that has ended until now."""

    def cancel_all(self) -> None:
        """SIGTERM to all children, since one call's timeout has failed the run."""
        for key in list(self._alive):
            self._terminator.signal(key, signal.SIGTERM)

    def stop(self, signal_number: int) -> None:
        """Signal all children on request of the caller."""
        if self._resources is not None:
            # Calls that have ended by themselves until now were not ended by us.
            self.collect(self._resources.poller.poll(0))
        for key in list(self._alive):
            self._end_on_request(key, signal_number)
        if signal_number == signal.SIGKILL:
            self._terminator.kill_leftovers()

    def pause(self) -> float:
        """Seconds until :meth:`collect` is due although no descriptor is ready."""
        if self._to_collect:
            return 0.0
        pause = self._terminator.pause()
        resources = self._resources
        if resources is not None:
            interval = resources.child_context.system.exit_poll_interval
            if interval or self._unwatched:
                pause = min(pause, interval or UNWATCHED_LOOK_INTERVAL)
            if self._alive:
                pause = min(pause, resources.seconds_to_guard())
        return pause

    def fileno(self) -> int | None:
        """A descriptor that is readable when a child has ended."""
        return None if self._resources is None else self._resources.poller.fileno()

    def close(self) -> None:
        """Give everything back."""
        with DeferSignals():
            resources, self._resources = self._resources, None
            if resources is not None:
                resources.close()

    # ------------------------------------------------------------ forking

    def _limit_to_room(self, many: int, fds: int = 0) -> int:
        """How many children this machine can hold, if that is fewer.

        Args:
            many: how many there are to be.
            fds: descriptors that each takes beyond those of every child.
        """
        if many <= UNCHECKED_CHILDREN:
            return many
        return min(many, capacity(get_system().fds_per_child + fds))

    def _acquire(self) -> None:
        state, system = self._state, get_system()
        with DeferSignals():
            if state.options.tasklog:
                # The store, and not the engine: logs and state would be a cycle with it.
                self._logs = make_run_logs(system, state.outcomes.__getitem__, whoami)
                if self._logs is not None:
                    state.use_logs(self._logs)
            child_logs = None if self._logs is None else self._logs.child
            self._resources = RunResources(system, state.options.grace_period, child_logs)

    def _guard(self, resources: RunResources) -> None:
        """Have the children guarded against the parent's death, once that is due."""
        if self._alive and resources.seconds_to_guard() <= 0:
            resources.start_guard({key: forked.pid for key, forked in self._alive.items()})

    def _fork(self, children: Mapping[int, ChildProcess], resources: RunResources) -> bool:
        """Fork these children; False when there was no room for all of them."""
        failed: OSError | None = None
        with DeferSignals() as deferred:
            # A child unblocks the signals that it has handlers for, whatever was blocked here.
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
        if self._is_full(failed) and self._wait_for_room():
            return False
        raise self._fork_error(failed) from failed

    def _fork_now(
        self, children: Mapping[int, ChildProcess], resources: RunResources, mask: tuple[int, ...]
    ) -> None:
        fork_all(
            list(children.values()),
            resources.child_context,
            mask,
            resources.steps,
            resources.shared,
        )

    def _fork_error(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"{error.strerror}: call {self._forks} of {len(self._state.calls)} could not be "
            f"forked; the {self._forks} that had been started were ended",
        )

    def _hold(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """See to it that the end of a child is noticed."""
        self._forks += 1
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

    def _strike_off(self, key: int, forked: ForkedProcess) -> None:
        """A child has ended: give back what it held, all but its place among the living."""
        resources = self._resources
        assert resources is not None
        if forked.sentinel is not None and self._by_sentinel.pop(forked.sentinel, None) is not None:
            # Before it is closed: other children hold copies of it, and for epoll it
            # would stay open, and ready, until the last of them has gone.
            resources.poller.unregister(forked.sentinel)
        self._unwatched.discard(key)
        self._terminator.ended(key, forked)
        forked.release()
        resources.unwatch(key)

    # ------------------------------------------------------------ for those that inherit

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """A child has been forked."""
        raise NotImplementedError

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        """A child has ended: report its answer, and strike it off."""
        raise NotImplementedError

    def _end_on_request(self, key: int, signal_number: int) -> None:
        """End one child on request, with this signal."""
        raise NotImplementedError

    def _wait_for_room(self) -> bool:
        """There is no room for another child now; False when waiting would not help."""
        raise NotImplementedError
