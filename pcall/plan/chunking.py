"""Which calls one child gets together: decisions alone.

A chunk is made of calls that follow each other in plan order. A call that waits only for
calls before it in the same chunk may be part of it: one child runs them one after another,
so a chain needs no word between child and parent for each of its links, and a large value can
stay where it is.
"""

from __future__ import annotations

from typing import Protocol

from pcall.plan.call_states import BLOCKED, READY
from pcall.plan.plan import Plan

__all__ = ["Advice", "Chunking", "NoAdvice"]


class Advice(Protocol):
    """What is expected of calls.

    Attributes:
        budget: seconds that a chunk may take.
    """

    budget: float

    def cost(self, index: int) -> float | None:
        """Seconds that a call is expected to take; None when nobody knows."""

    def hands_off(self, index: int) -> bool:
        """True for a call whose value had better stay in the worker that makes it."""


class NoAdvice:
    """Nothing is known of any call: each gets a chunk of its own."""

    budget = 0.0

    def cost(self, index: int) -> float | None:
        """None."""
        return None

    def hands_off(self, index: int) -> bool:
        """False."""
        return False


class Chunking:
    """Decides where a chunk ends.

    Args:
        plan: the plan.
        state: of each call.
        pending, gather_pending: by call, and by gather: vertices that it still waits for. These
            three are the scheduler's, which keeps them up to date.

        advice: what calls are expected to take.
    """

    def __init__(
        self,
        plan: Plan,
        state: bytearray,
        pending: list[int],
        gather_pending: list[int],
        advice: Advice,
    ) -> None:
        self._plan = plan
        self._state = state
        self._pending = pending
        self._gather_pending = gather_pending
        self._advice = advice

    def beginning_at(self, first: int, most: int) -> range:
        """The chunk that begins with this call, which is ready; of so many calls at most."""
        end = min(first + most, len(self._state))
        if end <= first + 1:
            return range(first, first + 1)
        advice = self._advice
        expected = advice.cost(first)
        left = 0.0 if expected is None else advice.budget - expected
        state, calls = self._state, self._plan.calls
        priority = calls[first].priority
        inside: _Inside | None = None
        index = first + 1
        while index < end:
            expected = advice.cost(index)
            if (left <= 0 or expected is None) and not advice.hands_off(index - 1):
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
            left -= advice.budget if expected is None else expected
            index += 1
        return range(first, index)


class _Inside:
    """What the calls of a chunk set free for calls behind them, in the same chunk."""

    def __init__(
        self, plan: Plan, pending: list[int], gather_pending: list[int], first: int
    ) -> None:
        self._plan = plan
        self._pending = pending
        self._gather_pending = gather_pending
        self._next = first  # the first call of the chunk that has not been counted
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
