"""The outcomes of a plan's run, with values for as long as they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pcall._core.calls import Calls
from pcall._core.outcome_store import ChunkOutcomeStore, OutcomeStore
from pcall._core.records import Outcome
from pcall._wire.result_table import ResultTable

__all__ = ["InlinePlanOutcomes", "PlanOutcomes"]


class PlanOutcomes(ChunkOutcomeStore):
    """Outcomes that get their values when they are asked for.

    Args:
        calls: of the plan.
        table: where the children write their figures.
        load: gives the value of a call that is done.
    """

    def __init__(self, calls: Calls, table: ResultTable, load: Callable[[int], Any]) -> None:
        super().__init__(calls, table)
        self._load = load

    def __getitem__(self, index: Any) -> Any:
        return _with_value(super().__getitem__(index), self._load)

    def reopen(self, index: int) -> None:
        """A call that is over is made again."""
        chunk = self._chunk(index)
        if chunk is not None:
            start, stop, began, owner = chunk
            self._chunks.remove(chunk)
            if start < index:
                self._chunks.append((start, index, began, owner))
            if index + 1 < stop:
                self._chunks.append((index + 1, stop, self._table.ended[index], owner))
            self._sorted = 0
        self._outcomes.pop(index, None)
        self.ended -= 1


class InlinePlanOutcomes(OutcomeStore):
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
