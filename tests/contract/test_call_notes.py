"""docs/errors.rst: each error has a note that names its call, however it is reached, and once."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import time
from typing import Any

import pytest

from pcall import (
    CallError,
    ChildDied,
    ChildProcessException,
    NotStarted,
    Outcome,
    Pcall,
    PcallTimeout,
    Plan,
    Retry,
    pcall,
    run,
    run_iter,
)

pytestmark = [
    pytest.mark.usefixtures("each_system"),
    pytest.mark.engines(why="the tests name the engines that they hold for"),
]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


class RefusesNotes(Exception):
    def add_note(self, note: str) -> None:
        raise TypeError("no notes")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def fails(number: int, kind: type[Exception] = ValueError) -> int:
    if number % 2:
        raise kind(number)
    return number


def named(error: BaseException | None, outcome: Outcome) -> bool:
    """The error has the note that names this call, once."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("in call ")]
    process = f", process {outcome.pid}" if outcome.pid else ""
    return notes == [f"in call {outcome.index}, {outcome.call}{process}"]


POLICIES: dict[str, dict[str, Any]] = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "inline": {"max_workers": 0},
    "retried": {"retry": Retry(2, wait=0)},
    "retried and reused": {"retry": Retry(2, wait=0), "max_tasks_per_child": None},
    "retried inline": {"retry": Retry(2, wait=0), "max_workers": 0},
}


@pytest.mark.parametrize("kind", [ValueError, Frozen, RefusesNotes])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_way_to_an_error(policy: str, kind: type[Exception]) -> None:
    """Outcomes that are returned, yielded, raised, looked at, and what pickle makes of them."""
    tolerant = Pcall.options(max_errors=None, **POLICIES[policy])
    arguments: dict[str, Any] = {"number": (0, 1, 3), "ckwargs": {"kind": kind}}
    returned = tolerant.options(return_outcomes=True).pcall(fails, **arguments)
    for outcome in (*returned, *pickle.loads(pickle.dumps(returned))):
        if outcome.index:
            assert named(outcome.error, outcome)
            for _ in range(2):
                with pytest.raises(kind) as raised:
                    outcome.result()
                assert named(raised.value, outcome)
    with pytest.raises(ChildProcessException) as info, tolerant(fails, **arguments) as running:
        came = list(running.as_completed())
        assert [named(o.error, o) for o in came if not o.ok] == [True, True]
    assert [named(o.error, o) for o in running.outcomes if o and not o.ok] == [True, True]
    error = info.value
    assert [named(o.error, o) for o in error.failures] == [True, True]
    assert named(error.__cause__, error.failures[0])
    assert named(error, error.failures[0])
    assert len(error.__notes__) == 2  # the other one says how many more failed


def test_calls_that_died_ran_too_long_or_never_started() -> None:
    """Those errors are this library's, and name their call as well."""

    def end(how: str) -> None:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60 if how == "hangs" else 0)

    policy = Pcall.options(max_workers=1, max_errors=1, return_outcomes=True)
    died, late, waited = policy.pcall(end, timeout=2, how=("dies", "hangs", "waits"))
    for outcome, kind in ((died, ChildDied), (late, PcallTimeout), (waited, NotStarted)):
        assert type(outcome.error) is kind
        assert named(outcome.error, outcome)


def test_one_object_that_is_raised_twice_in_this_process() -> None:
    """It is one error of two calls."""
    same = ValueError("the same")

    def throw(number: int) -> None:
        raise same

    policy = Pcall.options(max_workers=0, max_errors=None, retry=3, return_outcomes=True)
    outcomes = policy.pcall(throw, number=(1, 2))
    assert [outcome.error for outcome in outcomes] == [same, same]
    assert [note[:9] for note in same.__notes__] == ["in call 0", "in call 1"]


def test_nested_runs() -> None:
    """The note of the inner call comes first, and each stands there once."""

    def inner(number: int) -> None:
        fails(number)

    def outer(number: int) -> None:
        outcomes = Pcall.options(return_outcomes=True).pcall(inner, number=(number,))
        outcomes[0].result()

    (outcome,) = Pcall.options(return_outcomes=True).pcall(outer, number=(1,))
    assert isinstance(outcome.error, ValueError)
    first, second = outcome.error.__notes__
    assert first.startswith("in call 0, test_nested_runs.<locals>.inner(number=1), process ")
    assert second == f"in call 0, {outcome.call}, process {outcome.pid}"

    def raises(number: int) -> None:
        pcall(inner, number=(number,))

    (outcome,) = Pcall.options(return_outcomes=True).pcall(raises, number=(1,))
    assert isinstance(outcome.error, ChildProcessException)
    assert len(outcome.error.__notes__) == 2
    assert len(outcome.error.__cause__.__notes__) == 1


@pytest.mark.parametrize("max_workers", [None, 0])
def test_plans(max_workers: int | None) -> None:
    """Outcomes of ``run_iter`` and of what ``run`` raises; also of calls that were settled."""
    plan = Plan()
    plan.call(fails, 1)
    settled = plan.call(fails, 2)
    needs = plan.call(fails, settled)
    plan.mark_failed(settled, KeyError("settled"))
    for _ in range(2):
        outcomes = list(run_iter(plan, max_workers=max_workers, max_errors=None))
        assert [type(o.error) for o in outcomes] == [ValueError, KeyError, NotStarted]
        assert [named(o.error, o) for o in outcomes] == [True, True, True]
    with pytest.raises(CallError) as info:
        run(plan, max_workers=max_workers, max_errors=None)
    assert [named(o.error, o) for o in info.value.failures] == [True, True]
    assert needs.index == 2
