"""How many still need each value of a plan: what nothing needs any more is dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pcall.plan.call_states import DONE
from pcall.plan.plan import Plan

__all__ = ["RefCounts"]


class RefCounts:
    """Counts, for each call and gather, the calls and gathers that still need it.

    Args:
        plan: the plan.
        state: of each call; kept up to date by the scheduler.

    Attributes:
        gone: by call, True when its value was dropped.
        complete: True once all that need anything are counted: nothing is dropped before.
    """

    def __init__(self, plan: Plan, state: bytearray) -> None:
        self._plan = plan
        self._state = state
        self._calls = [0] * len(plan.calls)
        self._gathers = [0] * len(plan.gather_needs)
        self._released: set[int] = set()
        self._dropped: list[int] = []
        self.gone = bytearray(len(plan.calls))
        self.complete = False

    def take_dropped(self) -> list[int]:
        """The calls whose values nothing needs any more, since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def want(self, index: int) -> None:
        """The value of this call is wanted by the caller."""
        self._calls[index] += 1

    def add(self, vertices: Iterable[int]) -> None:
        """One more needs these."""
        for vertex in vertices:
            if vertex >= 0:
                self._calls[vertex] += 1
            else:
                self._gathers[~vertex] += 1

    def add_again(self, vertices: Iterable[int]) -> None:
        """One that was over needs them once more; and a gather that nothing needed, its calls."""
        stack = [*vertices]
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                self._calls[vertex] += 1
            else:
                self._gathers[~vertex] += 1
                if self._gathers[~vertex] == 1:
                    stack += self._plan.gather_needs[~vertex]

    def remove(self, vertices: Collection[int]) -> None:
        """One less needs these."""
        stack = [*vertices]
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                left = self._calls[vertex] = self._calls[vertex] - 1
                if not left:
                    self.drop_unused(vertex)
            else:
                self._gathers[~vertex] -= 1
                if not self._gathers[~vertex] and self.complete:
                    stack += self._plan.gather_needs[~vertex]

    def release(self, index: int) -> None:
        """The value of a call that was wanted is wanted no more."""
        if index not in self._released and self._state[index] == DONE:
            self._released.add(index)
            self._calls[index] -= 1
            self.drop_unused(index)

    def make_again(self, index: int) -> None:
        """A call that is over is made again: what it needs is needed, and what wanted it wants."""
        self.gone[index] = False
        self.add_again(self._plan.needs[index])
        if index in self._released:
            self._released.discard(index)
            self._calls[index] += 1

    def drop_unused(self, index: int) -> None:
        """Drop a value that is there, where nothing needs it."""
        if self.complete and not self._calls[index] and self._state[index] == DONE:
            self.gone[index] = True
            self._dropped.append(index)

    def count_is_complete(self, gathers: Collection[int]) -> None:
        """All that need anything are counted.

        Args:
            gathers: by gather, whether it is part of the run.
        """
        self.complete = True
        for index, state in enumerate(self._state):
            if state == DONE:
                self.drop_unused(index)
        for gather, found in enumerate(gathers):
            # Its last user may have been over before it was known to be the last.
            if found and not self._gathers[gather]:
                self.remove(self._plan.gather_needs[gather])

    def is_single(self, index: int) -> bool:
        """True when one call alone, whether it has started or not, still needs this value."""
        if not self.complete or self._calls[index] != 1:
            return False
        stack = [user for user in self._plan.users[index] if user < 0]
        while stack:
            gather = stack.pop()
            if self._gathers[~gather] > 1:
                return False
            if self._gathers[~gather]:
                stack += [user for user in self._plan.gather_users[~gather] if user < 0]
        return True
