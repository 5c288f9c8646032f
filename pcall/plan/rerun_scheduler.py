"""Executes calls again, and knows those that are settled while the run lasts.

A call whose inputs are unusable names dependencies: these are executed again, and then the call.
This is rare, so it may cost a moment: no further call starts until all running calls have ended,
so that no call reads a value while it is computed again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from pcall._core.decisions import Ended
from pcall._errors import DependenciesFailed
from pcall.plan.call_states import BLOCKED, DONE, HANDED, READY
from pcall.plan.graph_scheduler import GraphScheduler
from pcall.plan.plan import Plan
from pcall.plan.plan_call import PlanCall

__all__ = ["RERUNS", "RerunScheduler"]

# How often a call may have its dependencies executed again.
RERUNS = 3


def _never(index: int) -> bool:
    return False


def _is_fresh(index: int, worker: Any) -> bool:
    return False


class RerunScheduler(GraphScheduler):
    """A scheduler that knows ``DependenciesFailed``, ``mark_done`` and ``mark_failed``.

    Args:
        plan, output, policy: see :class:`~pcall.plan.graph_scheduler.GraphScheduler`.
        is_used_up: returns True for a value that is gone because the only call that needed it has
            taken it.
        is_stale: returns True for a call that has been made again since, on another worker than
            the one of this name.
    """

    queued: int

    def __init__(
        self,
        plan: Plan,
        output: Iterable[int] | None = None,
        *,
        is_used_up: Callable[[int], bool] = _never,
        is_stale: Callable[[int, Any], bool] = _is_fresh,
        **policy: Any,
    ) -> None:
        self._requests: dict[int, set[int]] = {}  # by call, the calls to execute again
        self._counts: dict[int, int] = {}  # by call, its number of requests
        self._lost: set[int] = set()  # calls whose values are lost, and needed
        self._reopened: list[int] = []
        self._is_used_up = is_used_up
        self._is_stale = is_stale
        super().__init__(plan, output, **policy)

    def ended(
        self, index: int, error: BaseException | None, now: float = 0.0, chance: float = 0.0
    ) -> Ended:
        known = index in self._running and index not in self.disregarded
        if known and isinstance(error, DependenciesFailed) and not self._stopped:
            calls = self._meant(index, error)
            if calls is not None and self._counts.get(index, 0) < RERUNS:
                self._move_on(index, index + 1, now)
                self._counts[index] = self._counts.get(index, 0) + 1
                self._attempts[index] = self.attempt(index)
                self._requests[index] = calls
                self.state[index] = BLOCKED
                self.queued += 1
                return Ended(retried=True)
        return super().ended(index, error, now, chance)

    def _tries(self, index: int) -> int:
        return super()._tries(index) - self._counts.get(index, 0)

    @property
    def over(self) -> bool:
        return super().over and not self._lost

    @property
    def ready(self) -> int:
        # Some worker has to be there, or nobody asks for the next chunk.
        return super().ready + len(self._requests) + len(self._lost)

    def stop(self) -> tuple[int, ...]:
        self._lost.clear()
        return super().stop()

    def take_reopened(self) -> list[int]:
        reopened, self._reopened = self._reopened, []
        return reopened

    def next_chunk(self, most: int, now: float = float("inf")) -> range:
        if (self._requests or self._lost) and not self._stopped:
            if self._running:
                return range(0)
            self._rerun()
        return super().next_chunk(most, now)

    # ------------------------------------------------------------ settled during the run

    def is_over(self, index: int) -> bool:
        """True for a call that has ended, or will not start, or is no part of the run."""
        self.look_at_all()
        return self.state[index] not in (BLOCKED, READY, HANDED) or index in self.settled

    def settle_now(self, index: int, error: BaseException | None) -> Ended | None:
        if self.is_over(index):
            return None
        if any(index in range(start, stop) for start, stop in self._running.items()):
            self.disregarded.add(index)
            self._deadlines.pop(index, None)
        else:
            self.queued -= 1
            self._forget_attempt(index)
        self.state[index] = HANDED
        if error is None:
            self._succeeded(index)
            ended = Ended()
        else:
            ended = self._count_failure()
            skipped = self._failed(index)
            ended = ended._replace(skipped=tuple(sorted({*skipped, *ended.skipped})))
        self.settled.add(index)
        self._requests.pop(index, None)
        return ended

    def _forget_attempt(self, index: int) -> None:
        """A call that waits for another attempt does not, any more."""
        self._waiting[:] = [each for each in self._waiting if each[1] != index]
        heapq.heapify(self._waiting)
        kept = [each for each in self._due if each.start != index]
        self._due.clear()
        self._due.extend(kept)

    def lose(self, index: int) -> None:
        """The value of a call is lost: it is made again if anything still needs it.

        A value that was given before the run is not lost: the run has it.
        """
        self.look_at_all()
        is_there = self.state[index] == DONE and not self.uses.gone[index]
        if is_there and index not in self._settled_before and not self._stopped:
            self._lost.add(index)

    # ------------------------------------------------------------ which calls

    def _meant(self, index: int, error: DependenciesFailed) -> set[int] | None:
        """The calls to execute again; None if the call does not depend on all that it names."""
        named = [call for calls in error.dependencies.values() for call in calls]
        if not named or not all(
            isinstance(call, PlanCall)
            and call.plan is self._plan
            and call.index not in self.settled
            for call in named
        ):
            return None
        wanted = {call.index for call in named}
        above = self._above([index])
        if not wanted <= above:
            return None
        for worker, calls in error.dependencies.items():
            wanted.difference_update(
                call.index for call in calls if self._is_stale(call.index, worker)
            )
        # Also the calls between them and this one, which have used their values.
        found, stack = (
            set(wanted),
            [vertex for call in wanted for vertex in self._graph.users[call]],
        )
        while stack:
            vertex = stack.pop()
            if vertex in above and vertex not in found and vertex not in self.settled:
                found.add(vertex)
                stack += self._users_of(vertex)
        return {vertex for vertex in found if vertex >= 0}

    def _above(self, indices: Iterable[int]) -> set[int]:
        """The calls and gathers that these need, directly or not, nothing above a settled one."""
        found: set[int] = set()
        stack = [vertex for index in indices for vertex in self._graph.needs[index]]
        while stack:
            vertex = stack.pop()
            if vertex not in found:
                found.add(vertex)
                stack += self._needs_of(vertex)
        return found

    def _needs_of(self, vertex: int) -> Iterable[int]:
        return () if vertex in self.settled else self._graph.needs_of(vertex)

    def _users_of(self, vertex: int) -> Iterable[int]:
        return self._graph.users[vertex] if vertex >= 0 else self._graph.gather_users[~vertex]

    # ------------------------------------------------------------ executing them again

    def _rerun(self) -> None:
        """While nothing runs, queue the requested calls again, and reopen what they need."""
        self.look_at_all()
        requests, self._requests = self._requests, {}
        lost, self._lost = self._lost, set()
        lost = {index for index in lost if not self.uses.gone[index]}
        self.settled.difference_update(lost)
        again = lost.union(*requests.values()) - self.settled
        again = {index for index in again if self.state[index] == DONE}
        # They may need values that have been dropped meanwhile, and the calls that asked may need
        # values that they have used up: these calls have to be executed again, too.
        stack = [*again, *requests]
        while stack:
            user = stack.pop()
            for index in self._calls_below(user):
                if index in again or index in self.settled or self.state[index] != DONE:
                    continue
                if self.uses.gone[index] or (user in requests and self._is_used_up(index)):
                    again.add(index)
                    stack.append(index)
        for index in again:
            self.state[index] = BLOCKED
            self.queued += 1
            self.uses.make_again(index)
            self._wait_again(index)
        self._hold_back_attempts()
        for index in (*again, *requests):
            if not self._pending[index]:
                self._make_ready(index)
        self._reopened += sorted(again)

    def _calls_below(self, index: int) -> Iterable[int]:
        stack, seen = [*self._graph.needs[index]], set()
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                yield vertex
            elif vertex not in seen:
                seen.add(vertex)
                stack += self._graph.gather_needs[~vertex]

    def _wait_again(self, index: int) -> None:
        """Let the dependents of this call that have not started wait for it once more."""
        stack = [*self._graph.users[index]]
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                self._pending[vertex] += 1
                if self.state[vertex] == READY:
                    self.state[vertex] = BLOCKED
            else:
                self._gather_pending[~vertex] += 1
                if self._gather_pending[~vertex] == 1:
                    stack += self._graph.gather_users[~vertex]

    def _hold_back_attempts(self) -> None:
        """Block calls that wait for another attempt, and now for another call as well."""
        for index in [index for _, index in self._waiting] + [each.start for each in self._due]:
            if self._pending[index] and self.state[index] == HANDED:
                self.state[index] = BLOCKED
        self._waiting[:] = [each for each in self._waiting if self.state[each[1]] == HANDED]
        kept = [each for each in self._due if self.state[each.start] == HANDED]
        self._due.clear()
        self._due.extend(kept)
