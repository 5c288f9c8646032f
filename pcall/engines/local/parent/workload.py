"""The part of a worker pool that depends on the kind of its calls.

Independent calls and the calls of a plan need different chunks, and their values take different
ways. So the pool engine is composed with a workload.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.scheduler import Scheduler
from pcall._tuning import CHUNK_SECONDS, SEEDED_BLOCKS, SHORTEST_CHUNK
from pcall._wire.result_table import ResultTable
from pcall.engines.local.parent.worker_handle import WorkerHandle

__all__ = ["IndependentCalls", "Workload"]


class Workload(Protocol):
    """Decides about chunks and values, for a pool of workers.

    Attributes:
        block: the number of calls that one worker always runs in one piece.
        pauses_on_failure: True if a worker waits after a failed call until it may go on.
    """

    block: int
    pauses_on_failure: bool

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """The pool uses this table; ``seeded`` if its workers seed random generators."""

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """Make a worker, which is forked later."""

    def chunk_size(self, workers: int) -> int:
        """The largest number of calls for the next chunk."""

    def known(self, chunk: range, inherited: int) -> range:
        """The first calls of a chunk that can be given to a worker.

        Args:
            chunk: the calls.
            inherited: the number of calls that there were when the worker was forked.
        """

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """Prepare a worker for a chunk; return the part that it can take now."""

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """Learn from calls that a worker has answered; the first of them began at ``began``."""

    def met_slow_call(self) -> None:
        """A call took much longer than the calls before it: make the next chunks small."""

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """All calls that could be dispatched have been: correct what the workers have."""

    def reopen(self, index: int) -> None:
        """Take note that a call which had returned is executed again."""

    def drop_unneeded(self) -> None:
        """Drop the values that no call needs any more."""


class IndependentCalls:
    """The calls of a ``Pcall``: the parent reads their values; recent durations set the chunks.

    Args:
        calls: of the run.
        scheduler: of the run.
        options: the policy.
    """

    def __init__(self, calls: Calls, scheduler: Scheduler, options: Options) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._ends = options.max_tasks_per_child is not None
        self._pace = 0.0  # seconds that a recent call took
        self.block: int = 1
        self.pauses_on_failure: bool = options.max_errors is not None

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """Fix the size of blocks, so that a seeded run repeats its numbers on any workers."""
        # If workers exit after a number of calls, that must not cut a block in two.
        if seeded and not self._ends:
            self.block = max(1, len(self._calls) // SEEDED_BLOCKS)

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """A worker whose values go to the parent."""
        return WorkerHandle(number, self._calls, table, self.block)

    def chunk_size(self, workers: int) -> int:
        """A number by recent durations, and no more than a fair share of the queued calls."""
        fair = -(-self._scheduler.queued // (2 * workers))
        if not self._pace:
            return min(self.block, fair)
        least = int(SHORTEST_CHUNK / self._pace)
        return max(1, min(max(fair, least), int(CHUNK_SECONDS / self._pace)))

    def known(self, chunk: range, inherited: int) -> range:
        """Those that the worker has inherited."""
        return range(chunk.start, min(chunk.stop, inherited))

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """The whole chunk: workers inherit the calls."""
        return chunk

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """Note the mean duration of these calls."""
        assert worker.since is not None
        self._pace = (worker.since - began) / (stop - start)

    def met_slow_call(self) -> None:
        """Let the next chunks have one call each."""
        self._pace = CHUNK_SECONDS

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """Do nothing: the dispatcher takes back the calls that idle workers could run."""

    def reopen(self, index: int) -> None:
        """Do nothing: only a retry executes a call again."""

    def drop_unneeded(self) -> None:
        """Do nothing: the caller gets all values."""
