"""The part of a worker pool that depends on the kind of its calls.

Independent calls and the calls of a plan need different chunks, and their values go different
ways. The pool engine is composed with a workload for that.
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
        pauses_on_failure: True when a worker waits, after a failed call, for permission to go on.
    """

    block: int
    pauses_on_failure: bool

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """The pool has this table; ``seeded`` when its workers seed random generators."""

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """A worker that has not been forked."""

    def chunk_size(self, workers: int) -> int:
        """The largest number of calls that a chunk should have now."""

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """Prepare a worker for a chunk; the part of it that the worker can take now."""

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """A worker has answered these calls, the first of which began at this time."""

    def met_slow_call(self) -> None:
        """A call took much longer than those before it: the next ones should come singly."""

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """Everything that could be dispatched has been."""

    def reopen(self, index: int) -> None:
        """A call that had returned is executed again."""

    def drop_unneeded(self) -> None:
        """Drop the values that nothing needs any more."""


class IndependentCalls:
    """The calls of a ``Pcall``: their values go to the parent, their chunks follow their pace.

    Args:
        calls: of the run.
        scheduler: of the run.
        options: the policy.
    """

    def __init__(self, calls: Calls, scheduler: Scheduler, options: Options) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._ends = options.max_tasks_per_child is not None
        self._pace = 0.0  # seconds that a call takes, by the last ones
        self.block = 1
        self.pauses_on_failure = options.max_errors is not None

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """Fix the size of blocks: a seeded run repeats its numbers, whichever worker runs what."""
        # Where workers end after so many calls, no block may be cut in two for it.
        if seeded and not self._ends:
            self.block = max(1, len(self._calls) // SEEDED_BLOCKS)

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """A worker whose values go to the parent."""
        return WorkerHandle(number, self._calls, table, self.block)

    def chunk_size(self, workers: int) -> int:
        """As many calls as the last ones suggest, and no more than a fair part of the rest."""
        fair = -(-self._scheduler.queued // (2 * workers))
        if not self._pace:
            return min(self.block, fair)
        least = int(SHORTEST_CHUNK / self._pace)
        return max(1, min(max(fair, least), int(CHUNK_SECONDS / self._pace)))

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """All of it: workers inherit the calls."""
        return chunk

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """Take the pace from these calls."""
        assert worker.since is not None
        self._pace = (worker.since - began) / (stop - start)

    def met_slow_call(self) -> None:
        """Let the next chunks have one call each."""
        self._pace = CHUNK_SECONDS

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """Nothing to do."""

    def reopen(self, index: int) -> None:
        """No call is executed again but for a retry."""

    def drop_unneeded(self) -> None:
        """Nothing to do: the caller gets all values."""
