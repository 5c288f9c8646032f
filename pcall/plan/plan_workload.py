"""The calls of a plan as a workload of the worker pool. Values stay where workers wrote them."""

from __future__ import annotations

from collections.abc import Iterable

from pcall._tuning import PLAN_CHUNK_CALLS
from pcall._wire.result_table import ResultTable
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.plan.call_stats import CallStats
from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_values import PlanValues
from pcall.plan.plan_worker_handle import PlanWorkerHandle
from pcall.plan.rerun_scheduler import RerunScheduler
from pcall.plan.value_store import Values

__all__ = ["PlanWorkload"]


class PlanWorkload:
    """Decides about chunks and values of a plan's calls.

    Args:
        calls: of the plan.
        scheduler: of the run.
        values: of the run.
        links: the calls whose values may stay in the worker that makes them.
        stats: predicts durations and sizes; the scheduler uses it, too.
        retried: True if calls may be tried more than once.
    """

    block = 1
    # Calls that depend on a failed one must not be executed.
    pauses_on_failure = True

    def __init__(
        self,
        calls: PlanCalls,
        scheduler: RerunScheduler,
        values: PlanValues,
        links: ChainLinks,
        stats: CallStats,
        retried: bool,
    ) -> None:
        self._calls = calls
        self._graph = calls.plan.graph
        self._scheduler = scheduler
        self._values = values
        self._links = links
        self._stats = stats
        self._retried = retried
        self._store: Values | None = None
        self._table: ResultTable | None = None
        # By gather: the calls in it whose values are in files.
        self._filed: dict[int, list[int]] = {}

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """Make the store of values."""
        self._table = table
        self._store = self._values.open(table, workers)

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """Make a worker whose values stay in its files."""
        assert self._store is not None
        return PlanWorkerHandle(number, self._calls, table, self._store, self._links)

    def chunk_size(self, workers: int) -> int:
        """A fair share of the calls that are left. Predicted durations limit the chunk further."""
        return max(PLAN_CHUNK_CALLS, -(-self._scheduler.queued // (2 * workers)))

    def known(self, chunk: range, inherited: int) -> range:
        """All: no call is added to a plan that runs."""
        return chunk

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """Send the worker the large values that these calls need."""
        assert isinstance(worker, PlanWorkerHandle)
        files = self._files_of(chunk)
        starts = (worker.given[0].start, chunk.start) if worker.given else ()
        if worker.given and (files or not self._stats.are_short(starts)):
            return range(0)  # the chunk would wait behind one that takes long
        if not all(worker.send_file(each, self._is_single(each)) for each in files):
            worker.leaving = True  # it has died, and its end will be noticed
            return range(0)
        return chunk

    def _is_single(self, index: int) -> bool:
        return not self._retried and self._scheduler.uses.is_single(index)

    def _files_of(self, chunk: range) -> list[int]:
        """The calls whose large values a chunk needs."""
        assert self._store is not None
        files = self._store.files
        if not files:
            return []
        found: dict[int, None] = {}
        for index in chunk:
            stack = list(self._graph.needs[index])
            while stack:
                vertex = stack.pop()
                if vertex >= 0:
                    if vertex in files:
                        found[vertex] = None
                else:
                    stack += [each for each in self._filed.get(vertex, ()) if each in files]
        return list(found)

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """Learn durations of calls and sizes of values from these calls."""
        assert isinstance(worker, PlanWorkerHandle)
        assert self._table is not None
        came, worker.came = worker.came, []
        self._stats.add_large((*came, *worker.handed_off))
        worker.handed_off.clear()
        for index in came:
            self._note_filed(index)
        self._stats.add_durations(start, stop, began, self._table.ended)

    def _note_filed(self, index: int) -> None:
        stack = [vertex for vertex in self._graph.users[index] if vertex < 0]
        seen = set(stack)
        while stack:
            gather = stack.pop()
            self._filed.setdefault(gather, []).append(index)
            for user in self._graph.gather_users[~gather]:
                if user < 0 and user not in seen:
                    seen.add(user)
                    stack.append(user)

    def met_slow_call(self) -> None:
        """Do nothing: the statistics have its duration."""

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """Preempt workers that continue a chain to hand off values while more urgent calls wait."""
        if not self._stats.has_large:
            return
        for worker in workers:
            if not worker.given or worker.preempt_requested_at or worker.ending:
                continue
            at = worker.at
            stays = at + 1 < worker.given[0].stop and self._stats.hands_off(at)
            if stays and self._scheduler.is_outranked(at + 1):
                worker.preempt()

    def reopen(self, index: int) -> None:
        """Forget the value of a call that is executed again."""
        assert self._store is not None
        assert self._table is not None
        self.drop_unneeded()
        self._store.reopen(index)
        self._table.forget(index)

    def drop_unneeded(self) -> None:
        """Drop the values that no call needs any more."""
        if self._store is not None:
            for index in self._scheduler.uses.take_dropped():
                self._store.drop(index)
