"""``max_workers=0``: the calls of a plan run one after another in this process."""

from __future__ import annotations

from collections.abc import Iterable
from pickle import dumps, loads
from typing import Any

from pcall._core.options import Options
from pcall._os.signals import is_interrupt
from pcall.engines.inline import InlineRun
from pcall.engines.invoke import run_if_coroutine
from pcall.plan.plan import Plan
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_outcomes import InlinePlanOutcomes
from pcall.plan.rerun_scheduler import RerunningScheduler
from pcall.plan.settling import settle

__all__ = ["InlinePlanRun"]

_UNCHANGEABLE = {bool, bytes, complex, float, int, str, type(None)}


class InlinePlanRun(InlineRun):
    """Has the face of a :class:`~pcall.plan.plan_engine.PlanEngine`, and no child.

    Args: see there.
    """

    _scheduler: RerunningScheduler
    outcomes: InlinePlanOutcomes

    def __init__(
        self,
        calls: PlanCalls,
        options: Options,
        timeout: float | None,
        output: list[int] | None,
        keep: bool,
    ) -> None:
        self.plan, self._output, self._keep = calls.plan, output, keep
        self._values = _Values(calls.plan)
        super().__init__(calls.bound_to(self._values), options, timeout)
        self.outcomes = InlinePlanOutcomes(calls, self.value)
        self.scheduler = self._scheduler

    def _make_scheduler(self, **policy: Any) -> RerunningScheduler:
        return RerunningScheduler(self.plan, self._output, keep=self._keep, **policy)

    def value(self, index: int) -> Any:
        """The value of a call that is done; None when it was dropped."""
        return self._values.value_of(index)

    def _planned(self) -> Iterable[int]:
        return self._scheduler.look_at_needed() if self._events else ()

    def start(self) -> None:
        for outcome, skipped in settle(self.plan, self._scheduler):
            self.outcomes.record(outcome)
            self._why = f"call {outcome.index} was marked as failed"
            self._skip(skipped)
        super().start()

    def _reopen(self) -> None:
        self.drop_unneeded()
        reopened, self._scheduler.reopened = self._scheduler.reopened, []
        for index in reopened:
            self.outcomes.reopen(index)
        self._events.planned(reopened)

    def _make_call(self, index: int) -> Any:
        value = run_if_coroutine(next(self._calls.results(index, index + 1)))
        self._values.keep(index, value)
        return value

    def _run(self, index: int) -> None:
        self._reopen()
        super()._run(index)
        self.drop_unneeded()

    def _reason(self, index: int) -> str:
        return self._scheduler.reason(index) or self._why

    def drop_unneeded(self) -> None:
        """Drop the values that nothing needs any more."""
        uses = self._scheduler.uses
        dropped, uses.dropped = uses.dropped, []
        for index in dropped:
            self._values.drop(index)

    def close(self) -> None:
        """Nothing is held."""


class _Values:
    """The values of calls that were made in this process. A ``ValueSource``."""

    def __init__(self, plan: Plan) -> None:
        self._nodes = plan.calls
        self._kept: dict[int, Any] = {}

    def value_of(self, index: int) -> Any:
        """The value of a finished call; None if it was dropped."""
        settled = self._nodes[index].settled
        if settled:
            return settled.value
        kept = self._kept.get(index)
        return kept.load() if type(kept) is _Pickled else kept

    def begin_call(self) -> None:
        """Nothing is given up for a call."""

    def keep(self, index: int, value: Any) -> None:
        """Keep the value of a call that has returned."""
        self._kept[index] = _kept(value)

    def drop(self, index: int) -> None:
        """Drop the value of a call that nothing needs any more."""
        self._kept.pop(index, None)


class _Pickled:
    """A value of which each call gets objects of its own, as it does from a child."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def load(self) -> Any:
        return loads(self._content)


def _kept(value: Any) -> Any:
    if type(value) in _UNCHANGEABLE:
        return value
    try:
        return _Pickled(dumps(value, 5))
    except Exception as problem:
        if is_interrupt(problem):
            raise
        return value  # no child could send it; who looks for a fault may want it all the same
