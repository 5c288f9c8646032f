"""``pcall.iter``: results one by one, while later calls are made."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildDied, Pcall, PcallTimeout, pcall
from pcall.exceptions import ChildProcessException
from tests.executor.conftest import KINDS
from tests.helpers.processes import assert_ended, children


def square(x: int) -> int:
    return x * x


def late(x: float) -> float:
    time.sleep(0.1 * x)
    return x


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> type[Pcall]:
    return Pcall.options(max_workers=2, grace_period=0.5, max_tasks_per_child=KINDS[request.param])


def test_results_in_call_order(kind: type[Pcall]) -> None:
    """Closures and all ways to give arguments work as in ``pcall``."""
    offset, lock = 5, threading.Lock()

    def add(a: int, b: int, c: int = 0, d: int = 0) -> int:
        with lock:
            return a + b + c + d + offset

    found = kind.iter(
        add,
        cargs=(1,),
        iargs=((x,) for x in range(8)),
        ckwargs={"c": 100},
        ikwargs=itertools.repeat({"c": 200}),
        d=itertools.count(),
    )
    assert list(found) == [206 + 2 * x for x in range(8)]
    assert list(found) == []
    assert list(kind.iter([abs, square], iargs=[(-3,), (-4,)])) == [3, 16]
    assert list(kind.iter(square, x=[])) == []
    assert list(kind.iter(os.getppid)) == [os.getpid()]
    assert list(pcall.iter(square, x=range(3))) == [0, 1, 4]


def test_results_as_calls_end(kind: type[Pcall]) -> None:
    """With ``ordered=False`` a slow call holds up nothing."""
    assert list(kind.options(ordered=False, max_workers=3).iter(late, x=[9, 4, 0])) == [0, 4, 9]


def test_endless_iterables_are_read_as_needed(kind: type[Pcall]) -> None:
    """Nothing is read before the first result is wanted, and then a few calls ahead."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = kind.iter(square, x=numbers())
    assert taken == []
    for number in range(10):
        assert next(results) == number * number
        assert len(taken) <= number + 1 + 2 * 2
    results.close()
    assert next(results, None) is None


def test_calls_in_flight_are_bounded(kind: type[Pcall], tmp_path: Path) -> None:
    """As many as ``max_workers`` run at once, and all of these do."""

    def count(x: int) -> int:
        mine = tmp_path / str(x)
        mine.touch()
        time.sleep(0.1)
        running = len(list(tmp_path.iterdir()))
        mine.unlink()
        return running

    found = list(kind.options(max_workers=3).iter(count, x=range(9)))
    assert max(found) == 3


def test_an_error_is_raised_at_its_place(kind: type[Pcall]) -> None:
    """Results before it come, then it is raised as by ``pcall``, and what runs is ended."""
    results = kind.iter(lambda x: time.sleep(60) if x > 2 else 6 // (2 - x), x=itertools.count())
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ChildProcessException, match="division") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "call 2" in caught.value.__notes__[0]
    assert children() == set()
    assert list(results) == []


def test_deaths_and_timeouts(kind: type[Pcall]) -> None:
    """They are raised as what they are."""
    with pytest.raises(ChildDied, match="status 3"):
        list(kind.iter(os._exit, iargs=[(3,)]))
    with pytest.raises(PcallTimeout):
        list(kind.iter(time.sleep, 0.3, iargs=[(0,), (60,)]))


def test_an_error_of_the_iterable(kind: type[Pcall]) -> None:
    """It is raised once the calls before it have given their results."""

    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("no more")

    found = []
    with pytest.raises(KeyError, match="no more"):
        for each in kind.iter(square, x=broken()):
            found.append(each)
    assert found == [1, 4]
    assert children() == set()


def test_outcomes_in_place_of_errors(kind: type[Pcall]) -> None:
    """With ``return_outcomes`` the loop goes on, as far as ``max_errors`` lets it."""
    many = kind.options(return_outcomes=True, max_errors=None)
    found = list(many.iter(lambda x: 1 // x, x=[1, 0, 2, 0, 1]))
    assert [each.ok for each in found] == [True, False, True, False, True]
    few = kind.options(return_outcomes=True, max_workers=1)
    assert [each.ok for each in few.iter(lambda x: 1 // x, x=[1, 0, 2, 0, 1])] == [True, False]
    assert len(list(few.iter(lambda x: 1 // x, x=itertools.repeat(0)))) == 1


def test_a_loop_that_is_left_ends_its_calls(kind: type[Pcall]) -> None:
    """When its iterator is dropped."""
    pids: set[int] = set()
    for each in kind.options(max_workers=3).iter(late, x=[0, 0, 600, 600, 600]):
        pids = children()
        if each == 0:
            break
    gc.collect()
    assert_ended(pids, os.getpid())
    assert children() == set()


def test_a_thousand_calls_that_wait_are_dropped_at_once(kind: type[Pcall]) -> None:
    """They were not even begun."""
    results = kind.iter(late, x=[0, *([0.01] * 1000)])
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 2  # 0.3 s on a quiet machine
    assert children() == set()


def test_an_initializer(kind: type[Pcall]) -> None:
    """It is called in each child before its first call; if it fails, so do the calls."""
    values: list[int] = []
    ready = kind.options(initializer=values.extend, initargs=([1, 2],))
    assert list(ready.iter(lambda x: sum(values) + x, x=range(5))) == [3, 4, 5, 6, 7]
    assert ready.pcall(lambda x: len(values) + x, x=range(5)) == (2, 3, 4, 5, 6)
    assert values == []
    broken = kind.options(initializer=int, initargs=("x",))
    with pytest.raises(ChildProcessException, match="invalid literal"):
        list(broken.iter(square, x=range(5)))
    with pytest.raises(ChildProcessException, match="invalid literal"):
        broken.pcall(square, x=range(5))


def test_records_come_home(kind: type[Pcall], caplog: pytest.LogCaptureFixture) -> None:
    """A call's records are there with its result."""
    with caplog.at_level(logging.INFO):
        texts = [("call 0",), ("call 1",)]
        for number, _ in enumerate(kind.iter(logging.info, iargs=texts)):
            assert f"call {number}" in caplog.messages


def test_without_children() -> None:
    """``max_workers=0`` makes each call in this process, when its result is wanted."""
    inline = Pcall.options(max_workers=0)
    made: list[int] = []
    results = inline.iter(made.append, iargs=[(n,) for n in range(3)])
    assert made == []
    next(results)
    assert made == [0]
    assert list(results) == [None, None]
    with pytest.raises(ChildProcessException):
        list(inline.iter(lambda x: 1 // x, x=[0]))


def test_async_for(kind: type[Pcall]) -> None:
    """The event loop goes on meanwhile, and errors are raised at their place."""

    async def main() -> tuple[list[Any], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        found = [each async for each in kind.iter(late, x=[2, 1, 0])]
        ticker.cancel()
        with pytest.raises(ChildProcessException):
            async for _ in kind.iter(lambda x: 1 // x, x=[0]):
                pass
        return found, ticks

    found, ticks = asyncio.run(main())
    assert found == [2, 1, 0]
    assert ticks >= 1


def test_a_cancelled_async_for(kind: type[Pcall]) -> None:
    """Its calls are ended."""

    async def loop() -> None:
        async for _ in kind.iter(late, x=[600, 600]):
            pass

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop(), 0.3)
        assert children() == set()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"targets": 3}, TypeError, "targets"),
        ({"targets": square, "x": 3}, TypeError, "x must be"),
        ({"targets": square, "timeout": -1}, ValueError, "timeout"),
        ({"targets": square, "iargs": 3}, TypeError, "iargs"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    """They are refused at once, before anything starts."""
    with pytest.raises(error, match=text):
        pcall.iter(**arguments)


def test_a_wrong_item_is_refused_at_its_place() -> None:
    """Nothing is read ahead to find it."""
    results = Pcall.options(max_workers=1).iter(square, iargs=[(1,), 2])
    assert next(results) == 1
    with pytest.raises(TypeError, match=r"iargs\[1\]"):
        next(results)


def test_strict_tells_the_lengths_where_one_ends(kind: type[Pcall]) -> None:
    """The calls before it are made; the text names the arguments."""
    results = kind.options(strict=True).iter(pow, base=iter([1, 2]), exp=[3])
    with pytest.raises(ValueError, match="the lengths differ: base has more than 1, exp has 1"):
        list(results)
    results = kind.options(strict=True).iter(square, x=iter([1, 2]), iargs=itertools.repeat((), 1))
    with pytest.raises(ValueError, match="iargs has 1, x has more than 1"):
        list(results)
    assert list(kind.options(strict=True).iter(square, x=iter([1, 2]))) == [1, 4]


def test_an_engine_is_refused() -> None:
    """Nothing runs here in silence that was meant for a cluster."""

    class Engine:
        def make_engine(self) -> None: ...

    with pytest.raises(ValueError, match="engine must be None for iter"):
        Pcall.options(engine=Engine()).iter(square, x=[1])
