"""The supervisor of fresh children: one for each call."""

from __future__ import annotations

import signal
import time

from pcall._calls import Calls
from pcall._equipment import Equipment
from pcall._options import Options
from pcall._outcome import outcome_of, take_answer
from pcall._process import ChildProcess, Forked
from pcall._signals import HeldBack
from pcall._supervisor import Supervisor

__all__ = ["FreshSupervisor"]

# Children that are forked one right after the other.
_BURST = 64


class FreshSupervisor(Supervisor):
    """Runs calls, each in a child of its own; a call's index is its child's key.

    Args: see :class:`~pcall._supervisor.Supervisor`.
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
        self._equip(len(self._calls))
        self._turn(0)

    def _fill(self, equipment: Equipment) -> None:
        asks = self._logs is not None and self._logs.asks
        while indices := self._scheduler.next_starts(1 if asks else _BURST, time.monotonic()):
            if not self._fork({index: self._child(index) for index in indices}, equipment):
                return
            # Between two bursts: what has ended gives its descriptors and its memory
            # back, and nobody's deadline waits for the last of many forks.
            if self._scheduler.queued:
                self._collect(equipment.poller.poll(0))
                self._expire()

    def _watch(self, index: int, forked: Forked, equipment: Equipment) -> None:
        self._hold(index, forked, equipment)
        self._scheduler.started(index, forked.started)
        self._telling.started(index, forked.started)

    def _finish(self, index: int, forked: Forked) -> None:
        again = index in self._read
        self._read.add(index)
        answer = take_answer(forked, again)
        outcome = outcome_of(
            self._child(index).job,
            forked,
            answer,
            signalled=self._ending.was_signalled(index),
            overdue=self._timeout if index in self._overdue else None,
            attempt=self._scheduler.attempt(index),
        )
        with HeldBack():
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

    def _forked(self, index: int) -> Forked | None:
        return self._alive.get(index)

    def _end_call(self, index: int, fatal: bool) -> None:
        self._ending.signal(index, signal.SIGTERM)

    def _forget(self, index: int) -> None:
        self._children.pop(index, None)
        self._read.discard(index)

    def _end(self, key: int, number: int) -> None:
        self.ended_by_us.add(key)
        self._ending.signal(key, number)
