"""Decides which calls a child gets together, as one chunk.

A chunk consists of calls that follow each other in plan order. A call may be part of it although
it waits, if it waits only for earlier calls of the chunk: the child runs them one after another.
So a chain needs no message for each link, and a large value can stay in the child.
"""

from __future__ import annotations

from collections.abc import Callable

from pcall.plan.call_states import BLOCKED, READY
from pcall.plan.plan import Plan

__all__ = ["Chunking"]


class Chunking:
    """Decides where a chunk ends.

    Args:
        plan: the plan.
        state: of each call.
        pending, gather_pending: by call, and by gather: vertices that it still waits for. These
            three are the scheduler's, which keeps them up to date.

    Attributes:
        cost: what a call is expected to take, and None when nobody knows.
        budget: what a chunk may take.
        hands_off: True for a call whose value had better stay in the child that makes it.
    """

    def __init__(
        self, plan: Plan, state: bytearray, pending: list[int], gather_pending: list[int]
    ) -> None:
        self._plan = plan
        self._state = state
        self._pending = pending
        self._gather_pending = gather_pending
        self.cost: Callable[[int], float | None] = _unknown
        self.budget = 0.0
        self.hands_off: Callable[[int], bool] = _never

    def beginning_at(self, first: int, most: int) -> range:
        """The chunk that begins with a call.

        Args:
            first: the call; it is ready.
            most: the largest number of calls.
        """
        end = min(first + most, len(self._state))
        if end <= first + 1:
            return range(first, first + 1)
        expected = self.cost(first)
        left = 0.0 if expected is None else self.budget - expected
        state, calls = self._state, self._plan.calls
        priority = calls[first].priority
        inside: _Inside | None = None
        index = first + 1
        while index < end:
            expected = self.cost(index)
            if (left <= 0 or expected is None) and not self.hands_off(index - 1):
                break
            if state[index] != READY:
                if state[index] != BLOCKED:
                    break
                if inside is None:
                    inside = _Inside(self._plan, self._pending, self._gather_pending, first)
                if not inside.is_free(index):
                    break
            if calls[index].priority != priority:
                break
            left -= self.budget if expected is None else expected
            index += 1
        return range(first, index)


class _Inside:
    """Counts the dependencies of later calls that earlier calls of the same chunk fulfil."""

    def __init__(
        self, plan: Plan, pending: list[int], gather_pending: list[int], first: int
    ) -> None:
        self._plan = plan
        self._pending = pending
        self._gather_pending = gather_pending
        self._next = first  # the first call of the chunk that is not counted yet
        # By vertex: how many of the vertices that it waits for are in the chunk.
        self._freed: dict[int, int] = {}

    def is_free(self, index: int) -> bool:
        """True if a call waits only for calls of the chunk, which reaches up to it."""
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


def _never(index: int) -> bool:
    return False
