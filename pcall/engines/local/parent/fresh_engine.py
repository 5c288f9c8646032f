"""The local engine with a fresh process for each call."""

from __future__ import annotations

import signal
import time

from pcall._core.run_state import RunState
from pcall._os.signals import DeferSignals
from pcall._tuning import FORK_BURST
from pcall.engines.local.parent.call_outcome import outcome_of, take_answer
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.local_engine import LocalEngine
from pcall.engines.local.parent.run_resources import RunResources

__all__ = ["FreshEngine"]

__tracebackhide__ = True  # pytest shows the frames of its user


class FreshEngine(LocalEngine):
    """Runs each call in a child of its own; the index of the call is the key of the child.

    Args:
        state: of the run.
    """

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._read: set[int] = set()  # calls whose answers were begun to be read
        self._planned_for = 0  # calls for which the room of this machine was looked at

    @property
    def capacity(self) -> int | None:
        """How many calls it runs at once; None: all that the state lets start."""
        return self._state.options.max_workers

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The child of each call, started or not."""
        return tuple(self._child(index) for index in range(len(self._state.calls)))

    def open(self) -> None:
        """Acquire what the run needs."""
        self._limit()
        self._acquire()

    def _limit(self) -> None:
        """Run no more calls at once than this machine can hold."""
        self._planned_for = count = len(self._state.calls)
        workers = self.capacity
        many = count if workers is None else min(workers, count)
        room = self._limit_to_room(many)
        if room < many:
            self._state.scheduler.limit(room)

    def start(self) -> None:
        """Fork a child for each call that may start."""
        resources = self._resources
        if resources is None:
            return
        if len(self._state.calls) > self._planned_for:
            self._limit()
        scheduler = self._state.scheduler
        burst = 1 if self._logs is not None and self._logs.consolidates else FORK_BURST
        while indices := scheduler.next_starts(burst, time.monotonic()):
            if not self._fork({index: self._child(index) for index in indices}, resources):
                break
            # Between two bursts: children that have ended give their descriptors and their
            # memory back, and nobody's deadline waits for the last of many forks.
            if not scheduler.queued:
                break
            self.collect(resources.poller.poll(0))
            deadline = scheduler.next_deadline
            if deadline is not None and deadline <= time.monotonic():
                break
        self._guard(resources)

    def pid(self, index: int) -> int | None:
        """The process that runs a call."""
        forked = self._alive.get(index)
        return None if forked is None else forked.pid

    def cancel(self, index: int) -> None:
        """End the child of a call."""
        self._terminator.signal(index, signal.SIGTERM)

    def _end_on_request(self, key: int, signal_number: int) -> None:
        self._state.ended_by_us.add(key)
        self._terminator.signal(key, signal_number)

    def _wait_for_room(self) -> bool:
        return self._state.scheduler.no_room()

    def _child(self, index: int) -> ChildProcess:
        child = self._children.get(index)
        if child is None:
            call = self._state.calls[index]
            child = self._children[index] = ChildProcess(f"{call.name}-{index}", call)
            child.attempt = self._state.scheduler.attempt(index)
        return child

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(key, forked, resources)
        self._state.started(key, forked.started)

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        again = key in self._read
        self._read.add(key)
        answer = take_answer(forked, again)
        state = self._state
        outcome = outcome_of(
            self._child(key).job,
            forked,
            answer,
            signalled=self._terminator.was_signalled(key),
            overdue=state.timeout if key in state.overdue else None,
            attempt=state.scheduler.attempt(key),
        )
        with DeferSignals():
            if answer is None:
                state.child_died(key)
            self._strike_off(key, forked)
            state.conclude(outcome)
            if state.is_retried(key):  # in another child
                self._children.pop(key, None)
                self._read.discard(key)
            # The last of it: until then an interrupt has it done again.
            del self._alive[key]
