"""Reference counts for the values of a plan. A value that nothing needs any more is dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pcall.plan.call_states import DONE
from pcall.plan.graph import Graph

__all__ = ["RefCounts"]


class RefCounts:
    """Counts, for each call and gather, the calls and gathers that still need it.

    Args:
        graph: the graph of the plan.
        state: by call, its state; the scheduler keeps it up to date.

    Attributes:
        gone: by call, True if its value was dropped.
        complete: True once all needs are counted. No value is dropped before.
    """

    def __init__(self, graph: Graph, state: bytearray) -> None:
        self._graph = graph
        self._state = state
        self._calls = [0] * len(graph.needs)
        self._gathers = [0] * len(graph.gather_needs)
        self._released: set[int] = set()
        self._dropped: list[int] = []
        self.gone: bytearray = bytearray(len(graph.needs))
        self.complete: bool = False

    def take_dropped(self) -> list[int]:
        """The calls whose values nothing needs any more, since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def want(self, index: int) -> None:
        """Count the caller, who wants the value of this call."""
        self._calls[index] += 1

    def add(self, vertices: Iterable[int]) -> None:
        """Count one more user of these vertices."""
        for vertex in vertices:
            if vertex >= 0:
                self._calls[vertex] += 1
            else:
                self._gathers[~vertex] += 1

    def add_again(self, vertices: Iterable[int]) -> None:
        """Count a finished user once more. A gather without users needs its calls again, then."""
        stack = [*vertices]
        while stack:
            vertex = stack.pop()
            if vertex >= 0:
                self._calls[vertex] += 1
            else:
                self._gathers[~vertex] += 1
                if self._gathers[~vertex] == 1:
                    stack += self._graph.gather_needs[~vertex]

    def remove(self, vertices: Collection[int]) -> None:
        """Count one user less for these vertices."""
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
                    stack += self._graph.gather_needs[~vertex]

    def release(self, index: int) -> None:
        """The caller has got the value of this call, and does not need it any more."""
        if index not in self._released and self._state[index] == DONE:
            self._released.add(index)
            self._calls[index] -= 1
            self.drop_unused(index)

    def make_again(self, index: int) -> None:
        """A finished call is made again: count its needs.

        A caller who had the value does not get another one.
        """
        self.gone[index] = False
        self.add_again(self._graph.needs[index])

    def drop_unused(self, index: int) -> None:
        """Drop the value of a call if it is done, and nothing needs it."""
        if self.complete and not self._calls[index] and self._state[index] == DONE:
            self.gone[index] = True
            self._dropped.append(index)

    def count_is_complete(self, gathers: Collection[int]) -> None:
        """All needs are counted: drop the values that nothing needs.

        Args:
            gathers: by gather, True if it is part of the run.
        """
        self.complete = True
        for index, state in enumerate(self._state):
            if state == DONE:
                self.drop_unused(index)
        for gather, found in enumerate(gathers):
            # Its last user may have finished before it was known to be the last one.
            if found and not self._gathers[gather]:
                self.remove(self._graph.gather_needs[gather])

    def is_single(self, index: int) -> bool:
        """True if exactly one call, started or not, still needs this value.

        A value that the caller has had is not: an outcome may map its file for as long as the
        caller keeps it.
        """
        if not self.complete or self._calls[index] != 1 or index in self._released:
            return False
        stack = [user for user in self._graph.users[index] if user < 0]
        while stack:
            gather = stack.pop()
            if self._gathers[~gather] > 1:
                return False
            if self._gathers[~gather]:
                stack += [user for user in self._graph.gather_users[~gather] if user < 0]
        return True
