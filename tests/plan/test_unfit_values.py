"""docs/plans.rst: values that do not load in the parent, or do not fit into the output."""

from __future__ import annotations

import os

import pytest

from pcall import CallError, Plan, ResultError, run, run_iter

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")


class Delegates:
    """Looks for every attribute, also for those of the pickle protocol, in another object."""

    def __init__(self):
        self.inner = 5

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Cyclic:
    """Is in its own set, and needs an attribute for its hash."""

    def __init__(self):
        self.name = "x"
        self.all = {self}

    def __hash__(self):
        return hash(self.name)


class Odd:
    """Belongs to no module that there could be."""


Odd.__module__ = 5


class LoadsInChildrenOnly:
    """Loads in every process but the one that made it."""

    def __init__(self):
        self.parent = os.getppid()

    def __reduce__(self):
        return refuse, (self.parent,)


def refuse(pid):
    if os.getpid() == pid:
        raise LookupError("not here")


UNLOADABLE = [Delegates, Cyclic, Odd, LoadsInChildrenOnly]


@pytest.mark.parametrize("size", [0, 3_000_000])
@pytest.mark.parametrize("kind", UNLOADABLE)
def test_a_value_that_does_not_load_is_the_failure_of_its_call(kind, size):
    """The iteration goes on, and a run raises ``CallError`` for that call."""
    plan = Plan()
    bad = plan.call(lambda: (kind(), bytes(size)) if size else kind())
    other = plan.call(abs, -1)
    for ordered in (True, False):
        options = {"max_workers": 2, "max_errors": None}
        outcomes = list(run_iter(plan, order_results=ordered, **options))
        assert {o.index: (o.ok, o.value) for o in outcomes} == {0: (False, None), 1: (True, 1)}
        error = next(o.error for o in outcomes if not o.ok)
        assert isinstance(error, ResultError)
        assert ("tuple" if size else kind.__name__) in str(error)
    with pytest.raises(CallError) as caught:
        run(plan, output=[other, bad], max_workers=2, max_errors=None)
    assert caught.value.call.index == 0
    assert isinstance(caught.value.__cause__, ResultError)
    assert [outcome.ok for outcome in caught.value.outcomes] == [False, True]


def test_an_unloadable_value_that_nobody_wants_here_does_no_harm():
    """A value that loads in children alone is of use to calls."""
    plan = Plan()
    first = plan.call(LoadsInChildrenOnly)
    assert run(plan, output=plan.call(str, first), max_workers=2) == "None"


@pytest.mark.parametrize("max_workers", [0, 2])
@pytest.mark.parametrize("wrong", ["count", "kind", "key"])
def test_an_output_that_a_value_does_not_fit_is_the_failure_of_its_call(max_workers, wrong):
    """An unpack of the wrong length in ``output``, and the like, fail the call."""
    plan = Plan()
    good = plan.call(str, 1)
    bad = plan.call(
        {"count": list, "kind": abs, "key": list}[wrong], (1,) if wrong != "kind" else 1
    )
    output = {"key": {bad: good}}.get(wrong) or [good, plan.unpack(bad, 2)]
    with pytest.raises(CallError) as caught:
        run(plan, output=output, max_workers=max_workers)
    error = caught.value
    assert error.call.index == bad.index
    assert error.place.line == bad.place.line
    assert isinstance(error.__cause__, ValueError if wrong == "count" else TypeError)
    assert repr(bad) in str(error)
    assert [outcome.ok for outcome in error.outcomes] == [True, False]
    assert [outcome.index for outcome in error.failures] == [bad.index]
