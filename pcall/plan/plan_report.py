"""Builds the exception of a plan's run from its outcomes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pcall._core.call_failures import CallError
from pcall._core.failure_report import failure_notes
from pcall._core.records import Outcome
from pcall._errors import NotStarted
from pcall._wire.exception_codec import text_or_name
from pcall.plan.plan import Plan

__all__ = ["call_error"]


def call_error(
    plan: Plan, outcomes: Sequence[Outcome], ended_by_us: Collection[int]
) -> CallError | None:
    """The exception to raise for these outcomes; None if no call failed.

    Args:
        plan: the plan.
        outcomes: the outcomes of the calls that were needed, in plan order.
        ended_by_us: calls that were ended because others had failed. These are no failures.
    """
    unsuccessful = [
        each for each in outcomes if not each.ok and not isinstance(each.error, NotStarted)
    ]
    failures = tuple(each for each in unsuccessful if each.index not in ended_by_us)
    if not failures:
        return None
    first = failures[0]
    assert first.error is not None
    node = plan.calls[first.index]
    skipped = tuple(each.call for each in outcomes if isinstance(each.error, NotStarted))
    error = CallError(
        text_or_name(first.error), failures, tuple(outcomes), first.call, node.place, skipped
    )
    error.__cause__ = first.error
    named = "" if node.name == first.call.name else f" ({node.name})"
    scope = f", scope {' / '.join(map(str, node.scope))}" if node.scope else ""
    error.add_note(f"in call {first.index}, {first.call}{named}{scope}, planned at\n  {node.place}")
    ended = len(unsuccessful) - len(failures)
    for note in failure_notes(first, failures, len(skipped), ended):
        error.add_note(note)
    return error
