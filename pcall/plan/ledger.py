"""The outcomes of a plan's run, with values for as long as they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pcall._calls import Calls
from pcall._ledger import Ledger, StretchLedger
from pcall._records import Outcome
from pcall._table import Table

__all__ = ["InlinePlanLedger", "PlanLedger"]


class PlanLedger(StretchLedger):
    """Outcomes that get their values when they are asked for.

    Args:
        calls: of the plan.
        table: where the children write their figures.
        load: gives the value of a call that is done.
    """

    def __init__(self, calls: Calls, table: Table, load: Callable[[int], Any]) -> None:
        super().__init__(calls, table)
        self._load = load

    def __getitem__(self, index: Any) -> Any:
        return _with_value(super().__getitem__(index), self._load)

    def reopen(self, index: int) -> None:
        """A call that is over is made again."""
        stretch = self._stretch(index)
        if stretch is not None:
            start, stop, began, owner = stretch
            self._stretches.remove(stretch)
            if start < index:
                self._stretches.append((start, index, began, owner))
            if index + 1 < stop:
                self._stretches.append((index + 1, stop, self._table.ended[index], owner))
            self._sorted = 0
        self._outcomes.pop(index, None)
        self.ended -= 1


class InlinePlanLedger(Ledger):
    """The same for calls that were made in this process."""

    def __init__(self, calls: Calls, load: Callable[[int], Any]) -> None:
        super().__init__(calls)
        self._load = load

    def __getitem__(self, index: Any) -> Any:
        return _with_value(super().__getitem__(index), self._load)

    def record(self, outcome: Outcome) -> None:
        super().record(replace(outcome, value=None))

    def reopen(self, index: int) -> None:
        """A call that is over is made again."""
        self._outcomes.pop(index, None)
        self.ended -= 1


def _with_value(outcome: Any, load: Callable[[int], Any]) -> Any:
    if isinstance(outcome, Outcome) and outcome.ok:
        return replace(outcome, value=load(outcome.index))
    return outcome
