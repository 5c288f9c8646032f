"""What the calls of a plan have taken so far, by name: advice for the size of chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan import Plan

__all__ = ["ChunkAdvice"]


class ChunkAdvice:
    """Expects of a call what calls with the same name took before.

    Args:
        plan: the plan.
        links: the calls whose values may stay in the worker that makes them.
        budget: seconds that a chunk may take.
    """

    def __init__(self, plan: Plan, links: ChainLinks, budget: float) -> None:
        self._plan = plan
        self._links = links
        self._costs: dict[str, float] = {}
        self._bulky: set[str] = set()  # names of calls whose values have been large
        self.budget = budget

    def cost(self, index: int) -> float | None:
        """Seconds that a call is expected to take; None when nobody knows."""
        return self._costs.get(self._plan.calls[index].name)

    def is_short(self, calls: Iterable[int]) -> bool:
        """True when each of these is expected to take less than a chunk may."""
        costs = map(self.cost, calls)
        return all(cost is not None and cost < self.budget for cost in costs)

    def hands_off(self, index: int) -> bool:
        """True for a value that may stay in its worker, and is large, or may be."""
        name = self._plan.calls[index].name
        return (name in self._bulky or name not in self._costs) and index in self._links

    @property
    def has_large_values(self) -> bool:
        """True once some value was large."""
        return bool(self._bulky)

    def note_large(self, calls: Iterable[int]) -> None:
        """The values of these calls are large."""
        self._bulky.update(self._plan.calls[index].name for index in calls)

    def note_costs(self, start: int, stop: int, began: float, ended: Sequence[float]) -> None:
        """These calls ran one after another.

        Args:
            start: the first.
            stop: the one behind the last.
            began: the time when the first began.
            ended: by call, the time of its end.
        """
        costs, calls = self._costs, self._plan.calls
        for index in range(start, stop):
            took, began = ended[index] - began, ended[index]
            name = calls[index].name
            # Quick to rise and slow to fall: what is held for short may be waited for.
            costs[name] = max(took, 0.9 * costs.get(name, 0.0))
