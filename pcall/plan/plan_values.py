"""The values of a plan that runs in a worker pool, from before the run until after its end."""

from __future__ import annotations

from typing import Any

from pcall._os.current import get_system
from pcall._wire.result_table import ResultTable
from pcall.plan.given_results import GivenResults
from pcall.plan.plan import Plan
from pcall.plan.value_store import Values

__all__ = ["PlanValues"]


class PlanValues:
    """Holds the store of values once the run has made it.

    Args:
        plan: the plan.
        given: the results of settled calls.

    Attributes:
        given: the same.
    """

    def __init__(self, plan: Plan, given: GivenResults) -> None:
        self._plan = plan
        self.given = given
        self._store: Values | None = None

    def open(self, table: ResultTable, workers: int) -> Values:
        """Make the store, for so many workers."""
        self._store = Values(self._plan, self.given, table, get_system(), workers)
        return self._store

    def value_of(self, index: int) -> Any:
        """The value of a call that has returned; None if it was dropped.

        Raises:
            ResultError: the value can't be read.
        """
        if self._store is not None:
            return self._store.load(index)
        return self.given.value(index)

    def give(self, index: int, value: Any) -> None:
        """A call has this value, which came from outside during the run.

        Raises:
            ResultError: it can't be pickled, or not be written.
        """
        if self._store is not None:
            self._store.give(index, value)

    def is_used_up(self, index: int) -> bool:
        """True if a value is gone because the only call that needed it has taken it."""
        return self._store is not None and self._store.is_used_up(index)

    def is_stale(self, index: int, worker: Any) -> bool:
        """False: on one machine a worker's name says nothing."""
        return False

    def close(self) -> None:
        """Drop all values."""
        if self._store is not None:
            self._store.close()
