"""Statistics about the functions of a plan: the duration of calls, and the size of values.

Calls are grouped by name, since most plans call a few functions many times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan import Plan

__all__ = ["CallStats"]


class CallStats:
    """Predicts the duration of a call, and whether its value is large, from calls of its name.

    It is a :class:`~pcall.plan.chunking.ChunkPolicy`.

    Args:
        plan: the plan.
        links: the calls whose values may stay in their child for the next call.
        budget: seconds that a chunk may take.

    Attributes:
        budget: the same.
    """

    def __init__(self, plan: Plan, links: ChainLinks, budget: float) -> None:
        self._calls = plan.calls
        self._links = links
        self.budget = budget
        self._durations: dict[str, float] = {}  # in seconds, by name
        self._large: set[str] = set()  # names of calls that have returned large values

    @property
    def has_large(self) -> bool:
        """True once any call has returned a large value."""
        return bool(self._large)

    def cost(self, index: int) -> float | None:
        """Seconds that a call is expected to take; None until a call of its name has ended."""
        return self._durations.get(self._calls[index].name)

    def hands_off(self, index: int) -> bool:
        """True for a link of a chain whose value is large, or of which nothing is known yet."""
        name = self._calls[index].name
        return (name in self._large or name not in self._durations) and index in self._links

    def are_short(self, indices: Iterable[int]) -> bool:
        """True if each of these calls is expected to take less than the budget of a chunk."""
        costs = map(self.cost, indices)
        return all(cost is not None and cost < self.budget for cost in costs)

    def add_durations(self, start: int, stop: int, began: float, ended: Sequence[float]) -> None:
        """Note how long calls took that ran one after another.

        Args:
            start: the first call.
            stop: the call behind the last one.
            began: when the first call began, in seconds.
            ended: by call, when it ended.
        """
        durations, calls = self._durations, self._calls
        for index in range(start, stop):
            took, began = ended[index] - began, ended[index]
            name = calls[index].name
            # Rises at once and falls slowly: calls that are held back for a call that is expected
            # to be short may wait for it.
            durations[name] = max(took, 0.9 * durations.get(name, 0.0))

    def add_large(self, indices: Iterable[int]) -> None:
        """Note that these calls have returned large values."""
        self._large.update(self._calls[index].name for index in indices)
