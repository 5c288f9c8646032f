"""Decides which calls a child gets together, as one chunk.

A chunk consists of calls that follow each other in plan order. A call may be part of it although
it waits, if it waits only for earlier calls of the chunk: the child runs them one after another.
So a chain needs no message for each link, and a large value can stay in the child.
"""

from __future__ import annotations

from typing import Protocol

from pcall.plan.call_states import BLOCKED, READY
from pcall.plan.graph import Graph
from pcall.plan.plan import Plan

__all__ = ["ChunkPolicy", "Chunking", "SingleCalls"]


class ChunkPolicy(Protocol):
    """Predicts how long calls take, and which values should stay in their child."""

    @property
    def budget(self) -> float:
        """Seconds that a chunk may take."""

    def cost(self, index: int) -> float | None:
        """Seconds that a call is expected to take; None if nothing is known."""

    def hands_off(self, index: int) -> bool:
        """True if the value of a call should stay in the child, for the next call."""


class SingleCalls:
    """A :class:`ChunkPolicy` that makes chunks of one call."""

    budget: float = 0.0

    def cost(self, index: int) -> None:
        """Nothing is known of any call."""

    def hands_off(self, index: int) -> bool:
        """No value stays in a child."""
        return False


class Chunking:
    """Decides where a chunk ends.

    Args:
        plan: the plan.
        state: by call, its state.
        pending: by call, how many vertices it still waits for.
        gather_pending: by gather, the same. The scheduler keeps these three up to date.
        policy: the predictions about calls.
    """

    def __init__(
        self,
        plan: Plan,
        state: bytearray,
        pending: list[int],
        gather_pending: list[int],
        policy: ChunkPolicy,
    ) -> None:
        self._plan = plan
        self._state = state
        self._pending = pending
        self._gather_pending = gather_pending
        self._policy = policy

    def beginning_at(self, first: int, most: int) -> range:
        """The chunk that begins with a call.

        Args:
            first: the call; it is ready.
            most: the largest number of calls.
        """
        end = min(first + most, len(self._state))
        if end <= first + 1:
            return range(first, first + 1)
        policy = self._policy
        budget, cost, hands_off = policy.budget, policy.cost, policy.hands_off
        expected = cost(first)
        left = 0.0 if expected is None else budget - expected
        state, calls = self._state, self._plan.calls
        priority = calls[first].priority
        inside: _Inside | None = None
        index = first + 1
        while index < end:
            expected = cost(index)
            if (left <= 0 or expected is None) and not hands_off(index - 1):
                break
            if state[index] != READY:
                if state[index] != BLOCKED:
                    break
                if inside is None:
                    inside = _Inside(self._plan.graph, self._pending, self._gather_pending, first)
                if not inside.is_free(index):
                    break
            if calls[index].priority != priority:
                break
            left -= budget if expected is None else expected
            index += 1
        return range(first, index)


class _Inside:
    """Counts the dependencies of later calls that earlier calls of the same chunk fulfil."""

    def __init__(
        self, graph: Graph, pending: list[int], gather_pending: list[int], first: int
    ) -> None:
        self._graph = graph
        self._pending = pending
        self._gather_pending = gather_pending
        self._next = first  # the first call of the chunk that is not counted yet
        # By vertex: how many of the vertices that it waits for are in the chunk.
        self._freed: dict[int, int] = {}

    def is_free(self, index: int) -> bool:
        """True if a call waits only for calls of the chunk, which reaches up to it."""
        freed = self._freed
        for before in range(self._next, index):
            stack = [*self._graph.users[before]]
            while stack:
                vertex = stack.pop()
                count = freed[vertex] = freed.get(vertex, 0) + 1
                if vertex < 0 and count == self._gather_pending[~vertex]:
                    stack += self._graph.gather_users[~vertex]
        self._next = index
        return self._pending[index] == freed.get(index, 0)
