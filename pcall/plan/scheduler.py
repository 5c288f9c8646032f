"""Which calls of a plan are ready: decisions alone, as in the scheduler that this extends.

Only what is needed is looked at, and that in pieces, so that the first call does not wait until
all of a large plan has been looked at. What that costs is linear in calls and edges.

A stretch is made of calls that follow each other in plan order. A call that waits only for
calls before it in the same stretch may be part of it: one child runs them one after another,
so a chain needs no word between child and parent for each of its links.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from pcall._retry import Retry
from pcall._scheduler import Ended, Scheduler
from pcall.plan.graph import Plan
from pcall.plan.states import BLOCKED, DONE, FAILED, HANDED, READY, SKIPPED, UNKNOWN

__all__ = ["GraphScheduler"]

# Vertices that are looked at in one go.
_PIECE = 20_000


class GraphScheduler(Scheduler):
    """The state of a plan's calls, as numbers.

    Args:
        plan: the plan; it must not change any more.
        output: the calls whose values are wanted; None: all calls are made, for no value.
        keep: True when the value of each call is wanted, until :meth:`release`.
        max_workers, max_errors, timeout, retry: see :class:`~pcall._scheduler.Scheduler`.

    Attributes:
        state: of each call.
        dropped: calls whose values nothing needs any more; for the caller to clear.
        found: calls that were found to be needed; for the caller to clear.
        cost: what a call is expected to take, and None when nobody knows.
        budget: what a stretch may take.
    """

    def __init__(
        self,
        plan: Plan,
        output: Iterable[int] | None = None,
        *,
        keep: bool = False,
        max_workers: int | None = None,
        max_errors: int | None = 0,
        timeout: float | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(
            0, max_workers=max_workers, max_errors=max_errors, timeout=timeout, retry=retry
        )
        count = len(plan.calls)
        self._plan = plan
        self.state = bytearray(count)
        # By call, and by gather: vertices that it still waits for; calls and gathers that
        # still need it.
        self._pending = list(map(len, plan.needs))
        self._gather_pending = list(map(len, plan.gather_needs))
        self._users = [0] * count
        self._gather_users = [0] * len(plan.gather_needs)
        self._gathers_found = bytearray(len(plan.gather_needs))
        self._keep = keep
        self._blames: dict[int, int] = {}
        self._released: set[int] = set()
        self._gone = bytearray(count)  # dropped
        self._heap: list[tuple[float, int]] = []  # what is ready; some of it no longer is
        self.dropped: list[int] = []
        self.found: list[int] = []
        self.cost: Callable[[int], float | None] = _unknown
        self.budget = 0.0
        # What is to be looked at, the last first.
        self._stack: list[int] = []
        self._rest = iter(range(count)) if output is None else iter(())
        if output is not None:
            wanted = sorted(set(output), reverse=True)
            for index in wanted:
                self._users[index] += 1
            self._stack += wanted
        self.complete = False
        self.look_further()

    @property
    def over(self) -> bool:
        return super().over and self.complete

    @property
    def ready(self) -> int:
        """How many calls are ready, at most."""
        return len(self._heap) + len(self._due)

    # ------------------------------------------------------------ what is needed

    def look_further(self, most: float = _PIECE) -> bool:
        """Look at more of the plan; False when all that is needed has been seen."""
        if self.complete:
            return False
        stack, state, plan = self._stack, self.state, self._plan
        while most > 0:
            if not stack:
                index = next(self._rest, None)
                if index is None:
                    self.complete = True
                    self._drop_unused()
                    return False
                stack.append(index)
            most -= 1
            vertex = stack.pop()
            if vertex >= 0:
                if state[vertex] == UNKNOWN:
                    needs = plan.needs[vertex]
                    most -= len(needs)
                    self._found_call(vertex, needs)
            elif not self._gathers_found[~vertex]:
                self._gathers_found[~vertex] = True
                needs = plan.gather_needs[~vertex]
                most -= len(needs)
                self._count_users(needs)
                stack += reversed(needs)
        return True

    def look_at_all(self) -> None:
        """Look at all of it."""
        self.look_further(math.inf)

    def _found_call(self, index: int, needs: tuple[int, ...]) -> None:
        self.found.append(index)
        settled = self._plan.calls[index].settled
        if self._keep:
            self._users[index] += 1
        if settled is not None:
            self.state[index] = HANDED  # until the run has taken note of it
            return
        self.queued += 1
        self._count_users(needs)
        self._stack += reversed(needs)
        if self._pending[index]:
            self.state[index] = BLOCKED
        else:
            self._make_ready(index)

    def _count_users(self, needs: tuple[int, ...]) -> None:
        for vertex in needs:
            if vertex >= 0:
                self._users[vertex] += 1
            else:
                self._gather_users[~vertex] += 1

    def _drop_unused(self) -> None:
        for index, state in enumerate(self.state):
            if state == DONE and not self._users[index]:
                self._drop(index)
        for gather, found in enumerate(self._gathers_found):
            # Its last user may have been over before it was known to be the last.
            if found and not self._gather_users[gather]:
                self._unused(self._plan.gather_needs[gather])

    # ------------------------------------------------------------ what starts

    def next_starts(self, most: int = 1, now: float = math.inf) -> list[int]:
        return list(self.next_stretch(1, now)) if most else []

    def next_stretch(self, most: int, now: float = math.inf) -> range:
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
        return self._extended(first, most)

    def _first_ready(self) -> int | None:
        heap, state = self._heap, self.state
        while heap:
            index = heap[0][1]
            if state[index] == READY:
                return index
            heapq.heappop(heap)
        return None

    def _extended(self, first: int, most: int) -> range:
        """The stretch that begins with this call."""
        expected = self.cost(first)
        end = min(first + most, len(self.state))
        if expected is None or end <= first + 1:
            return range(first, first + 1)
        left, priority = self.budget - expected, self._plan.calls[first].priority
        state, calls = self.state, self._plan.calls
        inside: _Inside | None = None
        index = first + 1
        while index < end and left > 0:
            if state[index] != READY:
                if state[index] != BLOCKED:
                    break
                if inside is None:
                    inside = _Inside(self._plan, self._pending, self._gather_pending, first)
                if not inside.is_free(index):
                    break
            if calls[index].priority != priority:
                break
            expected = self.cost(index)
            if expected is None:
                break
            left -= expected
            index += 1
        return range(first, index)

    def reserved(self, index: int, stop: int) -> None:
        if self._due:
            super().reserved(index, stop)
            return
        self.queued -= stop - index
        for each in range(index, stop):
            self.state[each] = HANDED
        self._running[index] = stop

    def given_back(self, index: int, start: int | None = None) -> tuple[int, ...]:
        start, stop = index if start is None else start, self._running[index]
        if start > index:
            self._running[index] = start
        else:
            del self._running[index]
            self._deadlines.pop(index, None)
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
        return ()

    def _make_ready(self, index: int) -> None:
        self.state[index] = READY
        heapq.heappush(self._heap, (-self._plan.calls[index].priority, index))

    # ------------------------------------------------------------ what ended

    def advanced(self, index: int, to: int, now: float) -> None:
        super().advanced(index, to, now)
        for each in range(index, to):
            self._succeeded(each)

    def ended(
        self, index: int, error: BaseException | None, now: float = 0.0, chance: float = 0.0
    ) -> Ended:
        known = index in self._running
        ended = super().ended(index, error, now, chance)
        if not known or ended.retried:
            return ended
        if error is None:
            self._succeeded(index)
            return ended
        skipped = self._failed(index)
        return replace(ended, skipped=tuple(sorted({*skipped, *ended.skipped})))

    def settled(self, index: int, error: BaseException | None) -> Ended:
        """A call was settled from outside."""
        self._running[index] = index + 1
        if error is None:
            self._move_on(index, index + 1, 0.0)
            self._succeeded(index)
            return Ended()
        retry, self._retry = self._retry, None  # there is nothing that could be tried
        try:
            return self.ended(index, error)
        finally:
            self._retry = retry

    def _succeeded(self, index: int) -> None:
        self._over(index, DONE)
        stack: list[int] = [*self._plan.users[index]]
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
                    stack += self._plan.gather_users[~vertex]
        if self.complete and not self._users[index]:
            self._drop(index)

    def _failed(self, index: int) -> list[int]:
        """A call has failed: those that wait for it, directly or not, never start."""
        self.look_at_all()
        self._over(index, FAILED)
        skipped = []
        stack, gathers = [*self._plan.users[index]], set()
        while stack:
            vertex = stack.pop()
            if vertex < 0:
                if vertex not in gathers:
                    gathers.add(vertex)
                    stack += self._plan.gather_users[~vertex]
            elif self.state[vertex] in (BLOCKED, HANDED):
                # Handed out it is in the same stretch, and its child has stopped before it.
                self.queued -= self.state[vertex] == BLOCKED
                self._over(vertex, SKIPPED)
                skipped.append(vertex)
                stack += self._plan.users[vertex]
        return skipped

    def stop(self) -> tuple[int, ...]:
        self.look_at_all()
        skipped = super().stop()
        waiting = [i for i, state in enumerate(self.state) if state in (BLOCKED, READY)]
        for index in (*waiting, *skipped):
            self._over(index, SKIPPED)
        return (*skipped, *waiting)

    def reason(self, index: int) -> str | None:
        """Why a call was skipped, when that is for a call that it needs."""
        for vertex in self._plan.needs[index]:
            blamed = self._blamed(vertex) if vertex < 0 else vertex
            if blamed is not None and self.state[blamed] in (FAILED, SKIPPED):
                how = "failed" if self.state[blamed] == FAILED else "was not started, either"
                return f"it needs {self._plan.calls[blamed]!r}, which {how}"
        return None

    def _blamed(self, gather: int) -> int | None:
        """A call of a gather that failed or was skipped."""
        if gather not in self._blames:
            stack, found = [*self._plan.gather_needs[~gather]], None
            while stack and found is None:
                vertex = stack.pop()
                if vertex < 0:
                    stack += self._plan.gather_needs[~vertex]
                elif self.state[vertex] in (FAILED, SKIPPED):
                    found = vertex
            if found is None:
                return None
            self._blames[gather] = found
        return self._blames[gather]

    # ------------------------------------------------------------ what is dropped

    def release(self, index: int) -> None:
        """The value of a call that was kept is not wanted any more."""
        if index in self._released or self.state[index] != DONE:
            return
        self._released.add(index)
        self._users[index] -= 1
        if self.complete and not self._users[index]:
            self._drop(index)

    def _drop(self, index: int) -> None:
        self._gone[index] = True
        self.dropped.append(index)

    def _over(self, index: int, state: int) -> None:
        """A call is over: what it needs is needed by one less."""
        self.state[index] = state
        if self._plan.calls[index].settled is None:
            self._unused(self._plan.needs[index])

    def _unused(self, vertices: Collection[int]) -> None:
        stack = [*vertices]
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                self._users[vertex] -= 1
                if not self._users[vertex] and self.complete and self.state[vertex] == DONE:
                    self._drop(vertex)
            else:
                self._gather_users[~vertex] -= 1
                if not self._gather_users[~vertex] and self.complete:
                    stack += self._plan.gather_needs[~vertex]


class _Inside:
    """What the calls of a stretch set free for calls behind them, in the same stretch."""

    def __init__(
        self, plan: Plan, pending: list[int], gather_pending: list[int], first: int
    ) -> None:
        self._plan = plan
        self._pending = pending
        self._gather_pending = gather_pending
        self._next = first  # the first call of the stretch that has not been counted
        self._freed: dict[int, int] = {}

    def is_free(self, index: int) -> bool:
        """True when a call waits for nothing but those from the first up to it."""
        freed = self._freed
        for before in range(self._next, index):
            stack = [*self._plan.users[before]]
            while stack:
                vertex = stack.pop()
                count = freed[vertex] = freed.get(vertex, 0) + 1
                if vertex < 0 and count == self._gather_pending[~vertex]:
                    stack += self._plan.gather_users[~vertex]
        self._next = index
        return self._pending[index] == freed.get(index, 0)


def _unknown(index: int) -> None:
    return None
