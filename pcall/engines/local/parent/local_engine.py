"""The base of the local engines: forks children, notices their ends, and ends them.

Each child has a key. It is the index of the call if each call has a child of its own, and the
number of the worker if calls share workers.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pcall._core.run_state import RunState
from pcall._logs.printed import find_printed
from pcall._logs.run_logs import RunLogs, make_run_logs
from pcall._os.capacity import capacity, processes_exhausted
from pcall._os.current import get_system
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import PARENT_DIED, SIGTERM, DeferSignals
from pcall._tuning import UNCHECKED_CHILDREN, UNWATCHED_LOOK_INTERVAL
from pcall.engines.local.child.child_state import whoami
from pcall.engines.local.parent.captured_output import GroupWriter
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.fork import fork_all
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.terminator import Terminator
from pcall.engines.local.seeding import Draw

if TYPE_CHECKING:
    from pcall.engines.local.parent.profile_files import ProfileFiles

__all__ = ["LocalEngine"]

__tracebackhide__ = True  # pytest shows the frames of its user


class LocalEngine:
    """Runs calls in forked processes of this machine.

    Args:
        state: of the run.
        describe: names the work of a child in messages, by its key; None: the child's own name. It
            must not refer to the engine: results would live on in the cycle.
        drawn: random numbers for the children; None: the run draws its own.
    """

    synchronous = False

    def __init__(
        self,
        state: RunState,
        describe: Callable[[int], str] | None = None,
        drawn: Draw | None = None,
    ) -> None:
        self._state = state
        self._drawn = drawn
        self._logs: RunLogs | None = None
        self._profiles: ProfileFiles | None = None
        self._children: dict[int, ChildProcess] = {}
        self._alive: dict[int, ForkedProcess] = {}
        self._by_sentinel: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._to_collect: dict[int, None] = {}
        grace_period = state.options.grace_period
        self._terminator = Terminator(
            self._alive, grace_period, describe or partial(_name_of_child, self._children)
        )
        self._resources: RunResources | None = None  # while it is open
        self._forks = 0
        self._wake_fd: int | None = None  # while it has woken poll(), and nobody has seen that

    # ------------------------------------------------------------ the protocol of engines

    @property
    def is_open(self) -> bool:
        """True between :meth:`open` and :meth:`close`."""
        return self._resources is not None

    @property
    def busy(self) -> bool:
        """True while a child lives, or a process that a child left behind."""
        return bool(self._alive) or bool(self._terminator.leftovers)

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """The children that are alive."""
        return tuple(self._children[key] for key in self._alive)

    def poll(self, timeout: float) -> list[int]:
        """Wait for an end, or for so many seconds; return the descriptors that are ready."""
        resources = self._resources
        assert resources is not None
        return resources.poller.poll(timeout)

    def wake(self) -> None:
        """Register a descriptor that is readable: that ends a wait of another thread's, too.

        A poller that does not see it at once looks at short intervals anyway.
        """
        resources = self._resources
        if resources is None or self._wake_fd is not None:
            return
        with DeferSignals(), suppress(OSError):  # no descriptor to be had: no wait is long
            fd, other = os.pipe()
            os.close(other)  # its end is something to read
            register_private_fd(fd)
            self._wake_fd = fd
            resources.poller.register(fd)

    def _end_wake(self) -> None:
        with DeferSignals():
            fd, self._wake_fd = self._wake_fd, None
            if fd is not None:
                if self._resources is not None:
                    self._resources.poller.unregister(fd)
                unregister_private_fd(fd)
                os.close(fd)

    def collect(self, ready: Iterable[int]) -> None:
        """Report calls whose children have ended; kill what has outlived the grace period."""
        for fd in ready:
            if fd == self._wake_fd:
                self._end_wake()
            key = self._by_sentinel.get(fd)
            if key is not None:
                self._to_collect[key] = None
        # The children whose end no descriptor tells, or not in time.
        everywhere = get_system().exit_poll_interval
        self._to_collect.update(dict.fromkeys(self._alive if everywhere else self._unwatched))
        self._collect_ended()
        for group in self._terminator.take_turn():
            if self._resources is not None:
                self._resources.unwatch(-group)

    def _collect_ended(self) -> None:
        # A child is removed from the list only after it has been dealt with: an interrupt in
        # between leaves it for the next turn.
        while self._to_collect:
            key = next(iter(self._to_collect))
            forked = self._alive.get(key)
            if forked is not None:
                forked.poll()
                if forked.ended:
                    self._finish(key, forked)
            self._to_collect.pop(key, None)

    def refresh(self) -> None:
        """Do nothing: the ends of children are reported at once."""

    def lingers(self, pid: int) -> bool:
        """True while processes live that this child, which has ended, has left behind."""
        return pid in self._terminator.leftovers

    def cancel_all(self) -> None:
        """Send SIGTERM to all children, since the timeout of one call has failed the run."""
        for key in list(self._alive):
            self._terminator.signal(key, signal.SIGTERM)
        self._terminator.end_leftovers(signal.SIGTERM)

    def stop(self, signal_number: int) -> None:
        """Signal all children at the caller's request."""
        if self._resources is not None:
            # First report the calls that have ended by themselves: these were not ended by us.
            self.collect(self._resources.poller.poll(0))
        for key in list(self._alive):
            if key in self._alive:  # what was unpickled meanwhile may have ended another
                self._end_on_request(key, signal_number)
        self._terminator.end_leftovers(signal_number)

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
            if self.busy:
                pause = min(pause, resources.seconds_to_guard())
        return pause

    def fileno(self) -> int | None:
        """A descriptor that is readable when a child has ended."""
        return None if self._resources is None else self._resources.poller.fileno()

    def close(self) -> None:
        """Release everything."""
        with DeferSignals():
            self._end_wake()
            resources, self._resources = self._resources, None
            if resources is not None:
                resources.close()

    # ------------------------------------------------------------ forking

    def _limit_to_room(self, many: int, fds: int = 0) -> int:
        """The number of children to run, limited to what this machine can hold.

        Args:
            many: the number of children that are wanted.
            fds: further descriptors that each of them takes in this process.
        """
        if many <= UNCHECKED_CHILDREN:
            return many
        return min(many, capacity(get_system().fds_per_child + fds))

    def _files_per_child(self) -> int:
        """The descriptors that each child takes here for its output and profiles."""
        capture, profiles = self._state.options.capture_output, self._state.profiles
        return (2 if capture else 0) + (0 if profiles is None else 1)

    def _acquire(self) -> None:
        state, system = self._state, get_system()
        capture = bool(state.options.capture_output)
        with DeferSignals():
            # Pass a method of the store, not of the engine, which would make a cycle.
            self._logs = make_run_logs(
                system,
                state.outcomes.__getitem__,
                whoami,
                tasklog=state.options.tasklog,
                printed=find_printed(text=not capture),
                ordered=state.calls.kept,
            )
            if self._logs is not None:
                state.use_logs(self._logs)
            child_logs = None if self._logs is None else self._logs.child
            grace_period = state.options.grace_period
            kind = None if state.profiles is None else state.profiles.kind
            self._resources = RunResources(
                system,
                grace_period,
                child_logs,
                capture,
                self._drawn,
                state.options.initialize,
                kind,
            )
            if state.profiles is not None:
                # Loaded for those who profile their calls.
                from pcall.engines.local.parent.profile_files import ProfileFiles

                self._profiles = ProfileFiles(state.profiles, system)
            if state.options.capture_output == "group" and state.calls.kept:
                state.use_output(GroupWriter(state.outcomes))

    def _guard(self, resources: RunResources) -> None:
        """Start the guard against the parent's death, once that is due."""
        if self.busy and resources.seconds_to_guard() <= 0:
            left = {-group: group for group in self._terminator.leftovers}
            alive = {key: forked.pid for key, forked in self._alive.items()}
            resources.start_guard(left | alive)

    def _fork(self, children: Mapping[int, ChildProcess], resources: RunResources) -> bool:
        """Fork these children; return False if there was no room for all of them."""
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
            resources.capture,
            resources.profiles,
        )

    def _fork_error(self, error: OSError) -> OSError:
        if not self._state.scheduler.complete:
            return OSError(error.errno, f"{error.strerror}: the call could not be forked")
        return OSError(
            error.errno,
            f"{error.strerror}: call {self._forks} of {len(self._state.calls)} could not be "
            f"forked; the {self._forks} that had been started were ended",
        )

    def _hold(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """Watch for the end of a new child."""
        self._forks += 1
        self._alive[key] = forked
        resources.watch(key, forked.pid)
        if self._profiles is not None:
            self._profiles.add(key, forked)
        if self._logs is not None:
            self._logs.forked(forked.pid)
        if forked.sentinel is None:
            self._unwatched.add(key)
        else:
            self._by_sentinel[forked.sentinel] = key
            resources.poller.register(forked.sentinel)

    def _is_full(self, error: OSError) -> bool:
        """True if the machine has no room now, so that waiting for an end may help."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        return error.errno == errno.EAGAIN and processes_exhausted(len(self._alive))

    def _strike_off(self, key: int, forked: ForkedProcess) -> None:
        """Release everything that an ended child held, except its place among the living."""
        resources = self._resources
        assert resources is not None
        if forked.sentinel is not None and self._by_sentinel.pop(forked.sentinel, None) is not None:
            # Unregister it before it is closed: other children hold copies of it, and for epoll
            # it would stay open, and ready, until the last copy is closed.
            resources.poller.unregister(forked.sentinel)
        self._unwatched.discard(key)
        self._terminator.ended(key, forked)
        if self._profiles is not None:
            self._profiles.remove(key)
        forked.release()
        resources.unwatch(key)
        if forked.leftovers:
            resources.watch(-forked.pid, forked.pid)  # no child has this key

    # ------------------------------------------------------------ for subclasses

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        """Take note of a child that has been forked."""
        raise NotImplementedError

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        """Report the answer of a child that has ended, and release the child."""
        raise NotImplementedError

    def _end_on_request(self, key: int, signal_number: int) -> None:
        """End one child at the caller's request, with this signal."""
        raise NotImplementedError

    def _wait_for_room(self) -> bool:
        """Take note that there is no room for another child; False if waiting would not help."""
        raise NotImplementedError


def _name_of_child(children: Mapping[int, ChildProcess], key: int) -> str:
    return children[key].name
