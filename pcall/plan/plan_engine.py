"""The supervisor of a plan's run: that of reused children, for calls that wait for calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from pcall._core.options import Options
from pcall._os.current import get_system
from pcall._os.signals import DeferSignals
from pcall._wire.result_table import ResultTable, WorkerControl
from pcall.engines.local.parent.dispatcher import CHUNK
from pcall.engines.local.parent.pool_engine import PoolEngine
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.plan.call_stats import CallStats
from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_outcomes import PlanOutcomes
from pcall.plan.plan_worker_handle import PlanWorkerHandle
from pcall.plan.rerun_scheduler import RerunningScheduler
from pcall.plan.settling import settle
from pcall.plan.value_store import Values

__all__ = ["PlanEngine"]

# So many calls a chunk may have when few are left, if they are that short.
_FEW = 32


class PlanEngine(PoolEngine):
    """Runs the calls of a plan in children that live on.

    Args:
        calls: of the plan.
        options: the policy.
        timeout: seconds that each may take; None: no limit.
        output: the calls whose values are wanted; None: all calls are made.
        keep: True when all values are wanted.
    """

    _scheduler: RerunningScheduler
    outcomes: PlanOutcomes

    def __init__(
        self,
        calls: PlanCalls,
        options: Options,
        timeout: float | None,
        output: list[int] | None,
        keep: bool,
    ) -> None:
        self.plan, self._output, self._keep = calls.plan, output, keep
        self._plan_calls = calls
        rule = options.rule
        self._retried = rule is not None and rule.attempts > 1
        self._links = ChainLinks(self.plan, None if keep else output or (), self._retried)
        self._stats = CallStats(self.plan, self._links, CHUNK)
        self._values: Values | None = None
        super().__init__(calls, options, timeout)
        self.scheduler = self._scheduler
        # After a failure what waits for the call must not be made.
        self._strict = True
        # By gather: the calls in it whose values lie in files.
        self._filed: dict[int, list[int]] = {}

    def _make_scheduler(self, **policy: Any) -> RerunningScheduler:
        return RerunningScheduler(
            self.plan,
            self._output,
            keep=self._keep,
            chunk_policy=self._stats,
            is_used_up=self._is_used_up,
            **policy,
        )

    def _planned(self) -> Iterable[int]:
        return self._scheduler.look_at_needed() if self._events else ()

    def value(self, index: int) -> Any:
        """The value of a call that is done; None when it was dropped.

        Raises:
            ResultError: it can't be read.
        """
        assert self._values is not None
        return self._values.load(index)

    def close(self) -> None:
        """Drop all values."""
        if self._values is not None:
            self._values.close()

    def _start(self) -> None:
        self._workers = self._room(self._workers, fds=2)
        self._acquire(self._workers)
        if self._resources is None:
            return  # a signal handler has ended the run
        self._table = ResultTable(len(self._calls), self._workers)
        self._values = Values(self.plan, self._table, get_system(), self._workers)
        self._keep_ledger(PlanOutcomes(self._calls, self._table, self._values.load))
        for outcome, skipped in settle(self.plan, self._scheduler):
            self.outcomes.record(outcome)
            self._why = f"call {outcome.index} was marked as failed"
            self._skip(skipped)
        self._turn(0)

    # ------------------------------------------------------------ handing out

    def _fill(self, resources: RunResources) -> None:
        scheduler = self._scheduler
        if not scheduler.complete:
            scheduler.look_further()
        self.drop_unneeded()
        self._preempt_slow_chunks(nothing_waits=not scheduler.next_chunk(1, time.monotonic()))
        while True:
            with DeferSignals():  # what the scheduler knows of, a child has
                self._dispatch()
            missing = min(self._workers - len(self._reused), scheduler.ready)
            if missing <= 0 or not scheduler.next_chunk(1, time.monotonic()):
                break
            if not self._fork_some(missing, resources):
                break
        while not scheduler.next_chunk(1, time.monotonic()) and self._take_back():
            pass
        self._have_yield()
        if not scheduler.queued and scheduler.complete:
            self._let_go()

    def _have_yield(self) -> None:
        """Have no child stay with a chain for a value's sake while what goes before it waits."""
        if not self._stats.has_large:
            return
        for reused in self._reused.values():
            if not reused.given or reused.asked or reused.ending:
                continue
            at = reused.at
            stays = at + 1 < reused.given[0].stop and self._stats.hands_off(at)
            if stays and self._scheduler.is_outranked(at + 1):
                reused.preempt()

    def _could_yield(self, reused: WorkerHandle) -> bool:
        # What waits for the call that it is at, others can't do either.
        if not super()._could_yield(reused):
            return False
        return len(reused.given) > 1 or self._scheduler.could_start(reused.rest)

    def _next_chunk(self) -> range:
        chunk = super()._next_chunk()
        if self._scheduler.reopened:
            self._reopen()
        return chunk

    def _fitting(self, reused: WorkerHandle, chunk: range) -> range:
        files = self._files_of(chunk)
        if reused.given and (
            files or not self._stats.are_short((reused.given[0].start, chunk.start))
        ):
            return range(0)
        assert isinstance(reused, PlanWorkerHandle)
        if not all(reused.send_file(each, self._is_single(each)) for each in files):
            reused.leaving = True  # it has died: its end will be seen
            return range(0)
        return chunk

    def _reopen(self) -> None:
        """Forget of the calls that are made again how they ended."""
        assert self._values is not None
        assert self._table is not None
        self.drop_unneeded()
        reopened, self._scheduler.reopened = self._scheduler.reopened, []
        for index in reopened:
            self.outcomes.reopen(index)
            self._values.reopen(index)
            self._forget(index)
        self._events.planned(reopened)

    def _size(self) -> int:
        return max(_FEW, -(-self._scheduler.queued // (2 * self._workers)))

    def _is_single(self, index: int) -> bool:
        return not self._retried and self._scheduler.uses.is_single(index)

    def _is_used_up(self, index: int) -> bool:
        return self._values is not None and self._values.is_used_up(index)

    def _files_of(self, chunk: range) -> list[int]:
        """The calls whose large values these need, and which are not among them."""
        assert self._values is not None
        files = self._values.files
        if not files:
            return []
        found: dict[int, None] = {}
        for index in chunk:
            stack = list(self.plan.graph.needs[index])
            while stack:
                vertex = stack.pop()
                if vertex >= 0:
                    if vertex in files:
                        found[vertex] = None
                else:
                    stack += [each for each in self._filed.get(vertex, ()) if each in files]
        return list(found)

    def _new_child(self, number: int) -> WorkerHandle:
        assert self._table is not None
        assert self._values is not None
        # Another one goes on behind what the last one of this lane has written.
        counts = self._table.slot(number).counts
        written = counts[WorkerControl.WRITTEN]
        child = PlanWorkerHandle(number, self._plan_calls, self._table, self._values, self._links)
        counts[WorkerControl.WRITTEN] = max(written, counts[WorkerControl.WRITTEN])
        return child

    # ------------------------------------------------------------ taking answers

    def _take(
        self,
        reused: WorkerHandle,
        stop: int,
        values: list[object],
        errors: Mapping[int, BaseException],
    ) -> None:
        start, since = reused.at, reused.since
        super()._take(reused, stop, values, errors)
        assert isinstance(reused, PlanWorkerHandle)
        self._note_large(reused)
        if since is not None:
            assert self._table is not None
            self._stats.add_durations(start, stop, since, self._table.ended)

    def _note_large(self, reused: PlanWorkerHandle) -> None:
        came, reused.came = reused.came, []
        self._stats.add_large((*came, *reused.handed_off))
        reused.handed_off.clear()
        for index in came:
            stack = [vertex for vertex in self.plan.graph.users[index] if vertex < 0]
            seen = set(stack)
            while stack:
                gather = stack.pop()
                self._filed.setdefault(gather, []).append(index)
                for user in self.plan.graph.gather_users[~gather]:
                    if user < 0 and user not in seen:
                        seen.add(user)
                        stack.append(user)

    def _reason(self, index: int) -> str:
        return self._scheduler.reason(index) or self._why

    def drop_unneeded(self) -> None:
        """Drop the values that nothing needs any more."""
        assert self._values is not None
        uses = self._scheduler.uses
        dropped, uses.dropped = uses.dropped, []
        for index in dropped:
            self._values.drop(index)
