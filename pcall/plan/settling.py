"""Calls that were settled from outside, at the start of a run."""

from __future__ import annotations

from collections.abc import Iterator

from pcall._core.records import Call, Outcome
from pcall.plan.graph_scheduler import GraphScheduler
from pcall.plan.plan import Plan

__all__ = ["settle"]


def settle(plan: Plan, scheduler: GraphScheduler) -> Iterator[tuple[Outcome, tuple[int, ...]]]:
    """Tell the scheduler of them.

    Yields:
        The outcome of each, and the calls that will not start because of it.
    """
    if all(call.settled is None for call in plan.calls):
        return
    scheduler.look_at_all()
    for index in sorted(scheduler.found):
        node = plan.calls[index]
        if node.settled is not None:
            value, error = node.settled
            call = Call(index, node.fn, node.args, dict(node.kwargs))
            ended = scheduler.settled(index, error)
            yield Outcome(index, call, error is None, value, error), ended.skipped
