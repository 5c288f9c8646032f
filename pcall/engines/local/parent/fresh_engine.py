"""The supervisor of fresh children: one for each call."""

from __future__ import annotations

import signal
import time

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._os.signals import DeferSignals
from pcall.engines.local.parent.call_outcome import outcome_of, take_answer
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.supervisor import Supervisor

__all__ = ["FreshEngine"]

# Children that are forked one right after the other.
_BURST = 64


class FreshEngine(Supervisor):
    """Runs calls, each in a child of its own; a call's index is its child's key.

    Args: see :class:`~pcall.engines.local.parent.supervisor.Supervisor`.
    """

    def __init__(self, calls: Calls, options: Options, timeout: float | None) -> None:
        super().__init__(calls, options, timeout)
        self._read: set[int] = set()  # calls whose answers were begun to be read

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        with self._lock:
            return tuple(self._child(index) for index in range(len(self._calls)))

    def _start(self) -> None:
        workers = self._options.max_workers
        many = len(self._calls) if workers is None else min(workers, len(self._calls))
        if self._room(many) < many:
            self._scheduler.limit(self._room(many))
        self._acquire(len(self._calls))
        self._turn(0)

    def _fill(self, resources: RunResources) -> None:
        asks = self._logs is not None and self._logs.consolidates
        while indices := self._scheduler.next_starts(1 if asks else _BURST, time.monotonic()):
            if not self._fork({index: self._child(index) for index in indices}, resources):
                return
            # Between two bursts: what has ended gives its descriptors and its memory
            # back, and nobody's deadline waits for the last of many forks.
            if self._scheduler.queued:
                self._collect(resources.poller.poll(0))
                self._expire()

    def _watch(self, index: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(index, forked, resources)
        self._scheduler.started(index, forked.started)
        self._events.started(index, forked.started)

    def _finish(self, index: int, forked: ForkedProcess) -> None:
        again = index in self._read
        self._read.add(index)
        answer = take_answer(forked, again)
        outcome = outcome_of(
            self._child(index).job,
            forked,
            answer,
            signalled=self._terminator.was_signalled(index),
            overdue=self._timeout if index in self._overdue else None,
            attempt=self._scheduler.attempt(index),
        )
        with DeferSignals():
            if answer is None:
                self._lost.add(index)
            self._strike_off(index, forked)
            self._conclude(outcome)
            # The last of it: until then an interrupt has it done again.
            del self._alive[index]

    def _child(self, index: int) -> ChildProcess:
        child = self._children.get(index)
        if child is None:
            call = self._calls[index]
            child = self._children[index] = ChildProcess(f"{call.name}-{index}", call)
            child.attempt = self._scheduler.attempt(index)
        return child

    def _forked(self, index: int) -> ForkedProcess | None:
        return self._alive.get(index)

    def _end_call(self, index: int, fatal: bool) -> None:
        self._terminator.signal(index, signal.SIGTERM)

    def _forget(self, index: int) -> None:
        self._children.pop(index, None)
        self._read.discard(index)

    def _end(self, key: int, number: int) -> None:
        self.ended_by_us.add(key)
        self._terminator.signal(key, number)
