"""README.rst: what of a Pcall can be set, and when."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pcall import Pcall, PcallTimeout

pytestmark = pytest.mark.engines(why="the tests name the engines that they hold for")

FIXED = (
    "targets",
    "cargs",
    "iargs",
    "ckwargs",
    "ikwargs",
    "varkwargs",
    "results",
    "outcomes",
    "childs",
    "pids",
    "livings",
    "done",
)


@pytest.fixture(params=[{}, {"max_tasks_per_child": None}])
def policy(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_a_timeout_that_is_set_before_the_start_counts(
    policy: dict[str, Any], each_system: str
) -> None:
    """As if it had been given; the last one set is the one."""
    run = Pcall.options(**policy)(time.sleep, iargs=[(60,)])
    assert run.timeout is None
    run.timeout = 100
    run.timeout = 0.3
    assert run.timeout == 0.3
    run.start()
    with pytest.raises(PcallTimeout) as info:
        run.join()
    assert info.value.timeout == 0.3


def test_a_timeout_that_is_taken_back(policy: dict[str, Any]) -> None:
    """None and 0 set no limit."""
    for none in (None, 0):
        run = Pcall.options(**policy)(time.sleep, 0.1, iargs=[(0.5,)])
        run.timeout = none
        with run:
            pass
        assert run.results == (None,)


def test_a_timeout_is_checked_when_it_is_set() -> None:
    """With the errors of the constructor; the one before stays."""
    with Pcall(time.sleep, 60, iargs=[(0,)]) as run:
        pass
    run = Pcall(time.sleep, 60, iargs=[(0,)])
    wrong: Any
    for wrong, kind in ((-1, ValueError), ("5", TypeError), ([1, 2], TypeError)):
        with pytest.raises(kind, match="timeout must be"):
            run.timeout = wrong
    assert run.timeout == 60
    with run:
        pass


def test_a_timeout_can_not_be_set_after_the_start(policy: dict[str, Any]) -> None:
    """The error says so; the run goes on with the one that it has."""
    with Pcall.options(**policy)(time.sleep, 60, iargs=[(0.2,)]) as run:
        with pytest.raises(AttributeError, match=r"timeout can be set only before start\(\)"):
            run.timeout = 1
        assert run.timeout == 60
    with pytest.raises(AttributeError):
        run.timeout = 2


def test_without_children_there_is_no_timeout() -> None:
    """It may be set all the same."""
    run = Pcall.options(max_workers=0)(time.sleep, iargs=[(0.2,)])
    run.timeout = 0.1
    with run:
        pass
    assert run.results == (None,)


@pytest.mark.parametrize("name", FIXED)
def test_the_others_can_not_be_set(name: str) -> None:
    """Neither before the start nor after it; nor can they be deleted."""
    run = Pcall(abs, iargs=[(1,)])
    before = getattr(run, name)
    with pytest.raises(AttributeError, match=f"{name} of a Pcall can't be set"):
        setattr(run, name, 1)
    with pytest.raises(AttributeError):
        delattr(run, name)
    assert getattr(run, name) == before
    with run, pytest.raises(AttributeError, match=f"{name} of a Pcall can't be set"):
        setattr(run, name, 1)
    run.note = "one's own"  # type: ignore[attr-defined]


def test_a_subclass_may_have_more() -> None:
    """Its own attributes are its own business."""

    class Named(Pcall):
        def __init__(self, name: str) -> None:
            super().__init__(abs, iargs=[(1,)])
            self.name = name

    with Named("one") as run:
        run.name = "another"
    assert (run.name, run.results) == ("another", (1,))
