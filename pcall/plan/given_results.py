"""The results that calls of a plan were given from outside, as one run sees them."""

from __future__ import annotations

from typing import Any

from pcall.plan.plan import Plan
from pcall.plan.plan_call import Settled

__all__ = ["GivenResults"]


class GivenResults:
    """The settled calls of a run: what the plan had at its start, and what came since.

    The plan itself may be told anything at any time; a run goes by this. A worker has what there
    was when it was forked.

    Args:
        plan: the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._results = self._of_plan()

    def _of_plan(self) -> dict[int, Settled]:
        return {call.index: call.settled for call in self._plan.calls if call.settled is not None}

    def changes(self) -> dict[int, Settled | None]:
        """The calls that the plan has other results of than this; None: none any more."""
        now = self._of_plan()
        changed: dict[int, Settled | None] = {
            index: result for index, result in now.items() if self._results.get(index) is not result
        }
        return changed | dict.fromkeys(self._results.keys() - now.keys())

    def __contains__(self, index: int) -> bool:
        return index in self._results

    def __bool__(self) -> bool:
        return bool(self._results)

    def __getitem__(self, index: int) -> Settled:
        return self._results[index]

    def value(self, index: int) -> Any:
        """The value that a call was given; None if it was given none."""
        result = self._results.get(index)
        return None if result is None else result.value

    def add(self, index: int, result: Settled) -> None:
        """A call is settled during the run."""
        self._results[index] = result

    def forget(self, index: int) -> None:
        """A call is made again."""
        self._results.pop(index, None)
