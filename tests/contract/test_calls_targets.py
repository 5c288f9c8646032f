"""README.rst: what can be a target, and how it is called."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcall import ChildProcessException, pcall


def add(x, y):
    return x + y


def seen(*args, **kwargs):
    """What the target was given."""
    return args, kwargs


class Point:
    def __init__(self, x, y=0):
        self.at = (x, y)

    def __eq__(self, other):
        return isinstance(other, Point) and self.at == other.at

    def moved(self, by):
        return Point(self.at[0] + by, self.at[1] + by)

    @classmethod
    def origin(cls, x):
        return cls(x)

    @staticmethod
    def twice(x):
        return 2 * x

    def __call__(self, x):
        return (*self.at, x)


@pytest.mark.fast
def test_targets_may_be_any_callable():
    """Functions, lambdas, closures, methods, partials, classes, callable objects, builtins."""
    offset = 100
    point = Point(1, 2)
    targets = [
        lambda x: x + 1,
        lambda x: x + offset,
        point.moved,
        Point.origin,
        Point.twice,
        functools.partial(add, 10),
        functools.partial(functools.partial(seen, 1), a=2),
        Point,
        point,
        abs,
        "{}!".format,
    ]
    assert pcall(targets, cargs=(5,)) == (
        6,
        105,
        Point(6, 7),
        Point(5),
        10,
        15,
        ((1, 5), {"a": 2}),
        Point(5),
        (1, 2, 5),
        5,
        "5!",
    )


def test_one_callable_that_is_iterable_too_is_one_target():
    """What can be called is one target, though it can be iterated over as well."""

    class Both:
        def __call__(self, x):
            return -x

        def __iter__(self) -> Iterator[object]:
            return iter((add, add, add))

    assert pcall(Both(), x=(1, 2)) == (-1, -2)


@pytest.mark.needs("isolation")
def test_children_work_on_copies():
    """A child changes its own copy of what it was given, never the parent's."""
    bag = [1]
    assert pcall(bag.append, iargs=[(2,), (3,)]) == (None, None)
    assert bag == [1]


@pytest.mark.needs("inheritance")
def test_nothing_is_pickled_on_the_way_in(tmp_path: Path):
    """Arguments that no pickle takes arrive: locks, open files, generators, local objects."""

    class Stubborn:
        def __reduce_ex__(self, protocol):
            raise AssertionError("it was pickled")

    def use(lock, file, numbers, stubborn):
        with lock:
            return file.read(), list(numbers), type(stubborn).__name__

    path = tmp_path / "input"
    path.write_text("text")
    with path.open() as file:
        assert pcall(
            use,
            lock=[threading.Lock()],
            cargs=(),
            ckwargs={"file": file, "stubborn": Stubborn()},
            ikwargs=[{"numbers": (n * n for n in range(3))}],
        ) == (("text", [0, 1, 4], "Stubborn"),)


# Names that the library itself may use for parameters on the way to the target.
NAMES = ["self", "cls", "fn", "func", "target", "args", "kwargs", "call", "index", "name", "run"]


@pytest.mark.parametrize("way", ["varkwargs", "ikwargs", "ckwargs"])
def test_any_keyword_name_reaches_the_target(way):
    """Every name beyond the seven of pcall belongs to the target."""
    kwargs = {name: f"my {name}" for name in NAMES}
    given = {
        "varkwargs": {name: [value] for name, value in kwargs.items()},
        "ikwargs": {"ikwargs": [kwargs]},
        "ckwargs": {"ckwargs": kwargs},
    }[way]
    assert pcall(seen, **given) == (((), kwargs),)
    assert pcall(Point.twice, x=[4]) == (8,)


@pytest.mark.parametrize("name", ["targets", "timeout", "cargs", "iargs", "ckwargs", "varkwargs"])
def test_pcalls_own_names_reach_the_target_by_mappings(name):
    """A target's parameter that is named as one of pcall's own is given by ikwargs or ckwargs."""
    assert pcall(seen, ikwargs=[{name: 1}]) == (((), {name: 1}),)
    assert pcall(seen, ckwargs={name: 1}) == (((), {name: 1}),)


def test_arguments_that_do_not_fit_are_the_calls_error():
    """Arguments that the target does not take are the error of that call, as when called here."""
    with pytest.raises(ChildProcessException, match="unexpected keyword argument 'z'") as caught:
        pcall(add, x=[1], y=[2], z=[3])
    assert type(caught.value.__cause__) is TypeError


# ------------------------------------------------------------------ coroutines


async def later(x):
    await asyncio.sleep(0.01)
    return x, threading.current_thread() is threading.main_thread()


class Service:
    async def __call__(self, x):
        return await later(x)

    async def method(self, x):
        return await later(x)


@pytest.mark.parametrize(
    "target", [later, functools.partial(later), Service(), Service().method, lambda x: later(x)]
)
def test_a_coroutine_function_runs_to_its_end(target):
    """A coroutine function as target runs to its end in the child, in its main thread."""
    assert pcall(target, x=(1, 2)) == ((1, True), (2, True))


@pytest.mark.needs("processes")
def test_the_event_loop_of_a_coroutine_is_its_own():
    """A coroutine's loop is not one that the caller runs in."""

    async def call():
        return pcall(later, x=(1, 2))

    assert asyncio.run(call()) == ((1, True), (2, True))


def test_a_coroutine_that_raises():
    """What a coroutine raises is the error of its call."""

    async def fail():
        await asyncio.sleep(0)
        raise LookupError("nothing here")

    with pytest.raises(ChildProcessException, match="nothing here") as caught:
        pcall(fail)
    assert type(caught.value.__cause__) is LookupError
