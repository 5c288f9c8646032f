"""Decides which calls of a plan are ready. Pure, like the scheduler that it extends.

It examines only the calls that are needed, and these piece by piece, so that the first call does
not wait until all of a large plan has been examined. The cost is linear in calls and edges.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

from pcall._core.decisions import Ended, Settled
from pcall._core.retry import Retry
from pcall._core.scheduler import Scheduler
from pcall._tuning import GRAPH_PIECE
from pcall.plan.call_states import BLOCKED, DONE, FAILED, HANDED, READY, SKIPPED, UNKNOWN
from pcall.plan.chunking import Chunking, ChunkPolicy, SingleCalls
from pcall.plan.given_results import GivenResults
from pcall.plan.plan import Plan
from pcall.plan.ref_counts import RefCounts

__all__ = ["GraphScheduler"]


class GraphScheduler(Scheduler):
    """The state of a plan's calls, as numbers.

    Args:
        plan: the plan; it must not change any more.
        given: the results of calls that are settled before the run; None: those of the plan.
        output: the calls whose values are wanted; None: all calls are executed, for no value.
        keep: True if the value of each call is wanted, until it is released.
        chunk_policy: the predictions about calls; None: each chunk has one call.
        max_workers, max_errors, timeout, retry, fail_fast: see
            :class:`~pcall._core.scheduler.Scheduler`.

    Attributes:
        state: the state of each call.
        uses: counts the calls that need each value, and so knows which values to drop.
        settled: calls that were settled from outside, which are never executed.
    """

    queued: int

    def __init__(
        self,
        plan: Plan,
        output: Iterable[int] | None = None,
        *,
        given: GivenResults | None = None,
        keep: bool = False,
        chunk_policy: ChunkPolicy | None = None,
        max_workers: int | None = None,
        max_errors: int | None = 0,
        timeout: float | None = None,
        retry: Retry | None = None,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(
            0,
            max_workers=max_workers,
            max_errors=max_errors,
            timeout=timeout,
            retry=retry,
            fail_fast=fail_fast,
        )
        count = len(plan.calls)
        self._plan, self._graph = plan, plan.graph
        self.state: bytearray = bytearray(count)
        # By call, and by gather: the number of vertices that it still waits for.
        self._pending = list(map(len, self._graph.needs))
        self._gather_pending = list(map(len, self._graph.gather_needs))
        self._gathers_found = bytearray(len(self._graph.gather_needs))
        self.uses: RefCounts = RefCounts(self._graph, self.state)
        self._chunking = Chunking(
            plan, self.state, self._pending, self._gather_pending, chunk_policy or SingleCalls()
        )
        self._keep = keep
        self._blames: dict[int, int] = {}
        self._heap: list[tuple[float, int]] = []  # ready calls, and some that no longer are
        self._given = GivenResults(plan) if given is None else given
        self.settled: set[int] = set()
        self._settled_before: set[int] = set()  # those whose needs were not looked at
        # The vertices to examine, the last first.
        self._stack: list[int] = []
        self._rest = iter(range(count)) if output is None else iter(())
        if output is not None:
            wanted = sorted(set(output), reverse=True)
            for index in wanted:
                self.uses.want(index)
            self._stack += wanted
        self.look_further()

    @property
    def complete(self) -> bool:
        """True once all calls that are needed are known."""
        return self.uses.complete

    @property
    def ready(self) -> int:
        """An upper bound of the number of ready calls."""
        return len(self._heap) + len(self._due)

    # ------------------------------------------------------------ calls that are needed

    def look_further(self, most: float = GRAPH_PIECE) -> bool:
        """Examine more of the plan; False when all calls that are needed are known."""
        if self.complete:
            return False
        stack, state, graph = self._stack, self.state, self._graph
        while most > 0:
            if not stack:
                index = next(self._rest, None)
                if index is None:
                    self.uses.count_is_complete(self._gathers_found)
                    return False
                stack.append(index)
            most -= 1
            vertex = stack.pop()
            if vertex >= 0:
                if state[vertex] == UNKNOWN:
                    needs = graph.needs[vertex]
                    most -= len(needs)
                    self._found_call(vertex, needs)
            elif not self._gathers_found[~vertex]:
                self._gathers_found[~vertex] = True
                needs = graph.gather_needs[~vertex]
                most -= len(needs)
                self.uses.add(needs)
                stack += reversed(needs)
        return True

    def look_at_all(self) -> None:
        """Examine all of the plan that is needed."""
        self.look_further(math.inf)

    def planned(self) -> Iterable[int]:
        self.look_at_all()
        return [index for index, state in enumerate(self.state) if state]

    def _found_call(self, index: int, needs: tuple[int, ...]) -> None:
        if self._keep:
            self.uses.want(index)
        if index in self._given:
            self.state[index] = HANDED  # until settle() has taken note of it
            self.settled.add(index)
            self._settled_before.add(index)
            return
        self.queued += 1
        self.uses.add(needs)
        self._stack += reversed(needs)
        if self._pending[index]:
            self.state[index] = BLOCKED
        else:
            self._make_ready(index)

    # ------------------------------------------------------------ calls that start

    def next_starts(self, most: int = 1, now: float = math.inf) -> list[int]:
        return list(self.next_chunk(1, now)) if most else []

    def next_chunk(self, most: int, now: float = math.inf) -> range:
        self._wake(now)
        if not self._free(1):
            return range(0)
        if self._due:
            return self._due[0][:1]
        first = self._first_ready()
        while first is None and self.look_further():
            first = self._first_ready()
        if first is None:
            return range(0)
        return self._chunking.beginning_at(first, most)

    def startable(self, most: int, now: float = math.inf) -> list[int]:
        if not self.next_chunk(1, now):
            return []
        found = [each.start for each in self._due]
        if len(found) < most:
            # Of a call that became ready twice, one entry counts.
            ready = {index: None for _, index in sorted(self._heap) if self.state[index] == READY}
            found += ready
        return found[:most]

    @property
    def has_one_start(self) -> bool:
        """True if one call at most could start now."""
        return len(self._due) + len(self._heap) < 2

    def could_start(self, calls: range) -> bool:
        """True if some of these dispatched calls do not wait for any other call."""
        return 0 in self._pending[calls.start : calls.stop]

    def is_outranked(self, index: int) -> bool:
        """True if some ready call has precedence over this one."""
        rank = (-self._plan.calls[index].priority, index)
        return self._first_ready() is not None and self._heap[0] < rank

    def _first_ready(self) -> int | None:
        heap, state = self._heap, self.state
        while heap:
            index = heap[0][1]
            if state[index] == READY:
                return index
            heapq.heappop(heap)
        return None

    def dispatched(self, index: int, stop: int) -> None:
        if any(index in each for each in self._due):
            self._dispatched_out_of_turn(index, stop)
            return
        self.queued -= stop - index
        for each in range(index, stop):
            self.state[each] = HANDED
        self._running[index] = stop

    def requeue(self, index: int, start: int | None = None) -> tuple[int, ...]:
        start, stop = index if start is None else start, self._running[index]
        if start > index:
            self._running[index] = start
        else:
            del self._running[index]
            self._deadlines.pop(index, None)
        self.disregarded.difference_update(range(start, stop))
        left = [each for each in range(start, stop) if self.state[each] == HANDED]
        if self._stopped:
            for each in left:
                self._over(each, SKIPPED)
            return tuple(left)
        self.queued += len(left)
        for each in left:
            if self._pending[each]:
                self.state[each] = BLOCKED
            else:
                self._make_ready(each)
        if not self.failed:
            return ()
        # Perhaps they depend on a call of the same chunk that has failed.
        hopeless = [each for each in left if self._pending[each] and self.reason(each)]
        return tuple(sorted(self._skip(hopeless)))

    def _make_ready(self, index: int) -> None:
        self.state[index] = READY
        heapq.heappush(self._heap, (-self._plan.calls[index].priority, index))

    # ------------------------------------------------------------ calls that have ended

    def advanced(self, index: int, to: int, now: float) -> None:
        super().advanced(index, to, now)
        for each in range(index, to):
            self._succeeded(each)

    def ended(
        self, index: int, error: BaseException | None, now: float = 0.0, chance: float = 0.0
    ) -> Ended:
        known = index in self._running
        if known and index in self.disregarded:
            self.disregarded.discard(index)
            self._move_on(index, index + 1, now)
            return Ended()
        ended = super().ended(index, error, now, chance)
        if not known or ended.retried:
            return ended
        if error is None:
            self._succeeded(index)
            return ended
        skipped = self._failed(index)
        return ended._replace(skipped=tuple(sorted({*skipped, *ended.skipped})))

    def runs_since(self, index: int, now: float) -> None:
        if index not in self.disregarded:
            super().runs_since(index, now)

    def settle(self) -> Iterator[Settled]:
        if not self._given:
            return
        self.look_at_all()
        for index in sorted(self.settled):
            value, error = self._given[index]
            yield Settled(index, value, error, self._settle(index, error).skipped)

    def _settle(self, index: int, error: BaseException | None) -> Ended:
        self._running[index] = index + 1
        if error is None:
            self._move_on(index, index + 1, 0.0)
            self._succeeded(index)
            return Ended()
        retry, self._retry = self._retry, None  # a settled call is not tried again
        try:
            return self.ended(index, error)
        finally:
            self._retry = retry

    def _succeeded(self, index: int) -> None:
        self._over(index, DONE)
        stack: list[int] = [*self._graph.users[index]]
        pending, gather_pending = self._pending, self._gather_pending
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                pending[vertex] -= 1
                if not pending[vertex] and self.state[vertex] == BLOCKED:
                    self._make_ready(vertex)
            else:
                gather_pending[~vertex] -= 1
                if not gather_pending[~vertex]:
                    stack += self._graph.gather_users[~vertex]
        self.uses.drop_unused(index)

    def _failed(self, index: int) -> list[int]:
        """Note that a call has failed, and skip its dependents, direct or not."""
        self.look_at_all()
        self._over(index, FAILED)
        return self._skip(self._graph.users[index])

    def _skip(self, vertices: Iterable[int]) -> list[int]:
        """Skip those of these vertices that still wait, and their dependents.

        A call that was dispatched together with its dependency may be running by now, although
        the dependency has failed: it exceeded its timeout. Otherwise it is requeued.
        """
        skipped = []
        stack, gathers = [*vertices], set()
        while stack:
            vertex = stack.pop()
            if vertex < 0:
                if vertex not in gathers:
                    gathers.add(vertex)
                    stack += self._graph.gather_users[~vertex]
            elif self.state[vertex] == BLOCKED:
                self.queued -= 1
                self._over(vertex, SKIPPED)
                skipped.append(vertex)
                stack += self._graph.users[vertex]
        return skipped

    def stop(self) -> tuple[int, ...]:
        self.look_at_all()
        skipped = super().stop()
        waiting = [i for i, state in enumerate(self.state) if state in (BLOCKED, READY)]
        for index in (*waiting, *skipped):
            self._over(index, SKIPPED)
        return (*skipped, *waiting)

    def reason(self, index: int) -> str | None:
        """Why a call was skipped, if the reason is a call that it needs."""
        for vertex in self._graph.needs[index]:
            blamed = self._blamed(vertex) if vertex < 0 else vertex
            if blamed is not None and self.state[blamed] in (FAILED, SKIPPED):
                how = "failed" if self.state[blamed] == FAILED else "was not started, either"
                return f"it needs {self._plan.calls[blamed]!r}, which {how}"
        return None

    def _blamed(self, gather: int) -> int | None:
        """A call of a gather that failed or was skipped."""
        if gather not in self._blames:
            stack, found = [*self._graph.gather_needs[~gather]], None
            while stack and found is None:
                vertex = stack.pop()
                if vertex < 0:
                    stack += self._graph.gather_needs[~vertex]
                elif self.state[vertex] in (FAILED, SKIPPED):
                    found = vertex
            if found is None:
                return None
            self._blames[gather] = found
        return self._blames[gather]

    def _over(self, index: int, state: int) -> None:
        """Note that a call has ended, so that its inputs are needed by one call less."""
        self.state[index] = state
        if index not in self.settled:
            self.uses.remove(self._graph.needs[index])
