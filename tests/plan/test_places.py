"""docs/plans.rst: the place where a call was planned."""

from __future__ import annotations

import inspect
import pickle

import pytest

from pcall import CallError, Plan, run

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")


def line() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def wrapper(plan, fn, *args):
    return plan.call(fn, *args)  # the line of the wrapper


def outer(plan, *args):
    return wrapper(plan, *args)


def test_a_place_has_up_to_four_frames():
    """The place is the line that planned the call; its frames are that, and those above it."""

    def deepest(plan, *args):
        return outer(plan, *args)

    plan = Plan()
    call, above = deepest(plan, int, "no"), line()
    place = call.place
    filename, number, function = place
    assert (filename, function) == (__file__, "wrapper")
    assert (place.filename, place.line, place.function) == (filename, number, function)
    assert [frame.function for frame in place.frames] == [
        "wrapper",
        "outer",
        "deepest",
        "test_a_place_has_up_to_four_frames",
    ]
    assert place.frames[0] == place
    assert place.frames[-1].line == above
    assert pickle.loads(pickle.dumps(place)).frames == place.frames
    with pytest.raises(CallError) as caught:
        run(plan)
    assert caught.value.place == place
    assert caught.value.place.frames == place.frames
    text = "\n".join(caught.value.__notes__)
    assert f'planned at\n  File "{__file__}", line {number}, in wrapper\n' in text
    assert f'  File "{__file__}", line {above}, in test_a_place_has_up_to_four_frames' in text
    assert pickle.loads(pickle.dumps(caught.value)).place.frames == place.frames


@pytest.mark.parametrize(("stacklevel", "function"), [(1, "wrapper"), (2, "outer"), (3, "test_")])
def test_frames_of_wrappers_are_skipped(stacklevel, function):
    """``Plan(stacklevel=)`` counts as that of ``warnings.warn`` does."""
    plan = Plan(stacklevel=stacklevel)
    call = outer(plan, abs, 1)
    assert call.place.function.startswith(function)
    assert len(call.place.frames) == 4


def test_more_wrappers_than_there_are_end_at_the_outermost_frame():
    """A place has one frame at least."""
    call = Plan(stacklevel=10_000).call(abs, 1)
    assert len(call.place.frames) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1", None])
def test_a_wrong_stacklevel_is_refused(wrong):
    """It is an int, and 1 or more."""
    with pytest.raises((TypeError, ValueError), match="stacklevel must be"):
        Plan(stacklevel=wrong)
