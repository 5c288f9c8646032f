"""The calls of a plan as a workload of the inline engine."""

from __future__ import annotations

from pickle import dumps, loads
from typing import Any

from pcall._core.records import Call
from pcall._os.signals import is_interrupt
from pcall.engines.invoke import run_if_coroutine
from pcall.plan.given_results import GivenResults
from pcall.plan.plan_call import Settled
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.rerun_scheduler import RerunScheduler

__all__ = ["InlinePlan", "InlineValues"]

__tracebackhide__ = True  # pytest shows the frames of its user

_UNCHANGEABLE = {bool, bytes, complex, float, int, str, type(None)}


class InlineValues:
    """The values of calls that ran in this process. It is a ``ValueSource``.

    Args:
        given: the results of settled calls.

    Attributes:
        given: the same.
    """

    def __init__(self, given: GivenResults) -> None:
        self.given = given
        self._kept: dict[int, Any] = {}

    def value_of(self, index: int) -> Any:
        """The value of a call that has returned; None if it was dropped."""
        if index in self.given:
            return self.given.value(index)
        kept = self._kept.get(index)
        return kept.load() if type(kept) is _Pickled else kept

    def begin_call(self) -> None:
        """Do nothing: a call gets copies, so no value is freed for it."""

    def is_used_up(self, index: int) -> bool:
        """False: each call gets a copy."""
        return False

    def is_stale(self, index: int, worker: Any) -> bool:
        """False: there are no workers."""
        return False

    def keep(self, index: int, value: Any) -> None:
        """Keep the value of a call for those that need it."""
        self._kept[index] = _kept(value)

    def give(self, index: int, value: Any) -> None:
        """A call has this value, which came from outside during the run."""
        self.given.add(index, Settled(value, None))

    def drop(self, index: int) -> None:
        """Drop a value that no call needs any more."""
        self._kept.pop(index, None)

    def close(self) -> None:
        """Drop all values."""
        self._kept.clear()


class InlinePlan:
    """Executes the calls of a plan in this process.

    Args:
        calls: of the plan.
        scheduler: of the run.
        values: of the run.
    """

    def __init__(self, calls: PlanCalls, scheduler: RerunScheduler, values: InlineValues) -> None:
        self._calls = calls.bound_to(values)
        self._scheduler = scheduler
        self._values = values

    def execute(self, call: Call) -> Any:
        """Call the function with the values of the calls that it needs."""
        index = call.index
        value = run_if_coroutine(next(self._calls.results(index, index + 1)))
        self._values.keep(index, value)
        return value

    def reopen(self, index: int) -> None:
        """The next value replaces the old one, or the one that was given."""
        self._values.given.forget(index)

    def drop_unneeded(self) -> None:
        """Drop the values that no call needs any more."""
        for index in self._scheduler.uses.take_dropped():
            self._values.drop(index)


class _Pickled:
    """A value as a pickle, so that each call gets objects of its own, as it does in a child."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def load(self) -> Any:
        return loads(self._content)


def _kept(value: Any) -> Any:
    if type(value) in _UNCHANGEABLE:
        return value
    try:
        kept = _Pickled(dumps(value, 5))
        kept.load()
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return value  # a child would fail here, but somebody who debugs may need the value
    return kept
