"""README.rst: ``async for`` over ``as_completed()``, and ``async with Pcall(...)``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from pcall import ChildProcessException, Outcome, Pcall, TaskCancelled
from tests.helpers.processes import is_reaped

pytestmark = pytest.mark.engines(why="the tests name the engines that they hold for")


def late(number: float) -> float:
    time.sleep(number)
    if number == 0.2:
        raise ValueError(number)
    return number


@pytest.fixture(params=[{}, {"max_tasks_per_child": None, "max_workers": 3}])
def policy(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


async def tick(counts: list[int]) -> None:
    while True:
        await asyncio.sleep(0.01)
        counts[0] += 1


def test_async_for(policy: dict[str, Any], each_system: str) -> None:
    """The outcomes come as they end, while the loop goes on; those of failed calls too."""

    async def main() -> tuple[list[Outcome], int]:
        counts = [0]
        ticking = asyncio.ensure_future(tick(counts))
        run = Pcall.options(**policy)(late, number=(0.6, 0.2, 0.01))
        run.start()
        outcomes = [outcome async for outcome in run.as_completed()]
        ticking.cancel()
        with pytest.raises(ChildProcessException):
            run.join()
        return outcomes, counts[0]

    outcomes, ticks = asyncio.run(main())
    assert [outcome.index for outcome in outcomes] == [2, 1, 0]
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert ticks > 5


def test_one_object_for_both_loops(policy: dict[str, Any]) -> None:
    """What one loop has had, another does not get again; several objects are independent."""
    run = Pcall.options(**policy)(abs, iargs=[(n,) for n in range(6)])

    async def main() -> tuple[list[int], list[int]]:
        run.start()
        both = run.as_completed()
        assert iter(both) is both
        assert aiter(both) is both
        had = [next(both).index, (await anext(both)).index]
        async for outcome in both:
            had.append(outcome.index)
            if len(had) == 4:
                break
        had += [outcome.index for outcome in both]
        with pytest.raises(StopIteration):
            next(both)
        with pytest.raises(StopAsyncIteration):
            await anext(both)
        return had, [outcome.index async for outcome in run.as_completed()]

    had, again = asyncio.run(main())
    assert sorted(had) == list(range(6))
    assert had == again
    run.join()


def test_async_for_needs_the_start() -> None:
    """As ``for`` does, and at once."""
    run = Pcall(abs, iargs=[])
    with pytest.raises(AssertionError, match="start"):
        run.as_completed()


def test_async_with(policy: dict[str, Any], each_system: str) -> None:
    """It starts; leaving the block joins, while the loop goes on."""

    async def main() -> tuple[Any, int]:
        counts = [0]
        ticking = asyncio.ensure_future(tick(counts))
        async with Pcall.options(**policy)(late, number=(0.4, 0.01)) as run:
            first = await anext(run.as_completed())
            assert first.index == 1
            assert run.results is None
        ticking.cancel()
        return run.results, counts[0]

    results, ticks = asyncio.run(main())
    assert results == (0.4, 0.01)
    assert ticks > 5


def test_async_with_raises_what_join_raises(policy: dict[str, Any]) -> None:
    """A call that failed."""

    async def main() -> None:
        async with Pcall.options(**policy)(late, number=(0.01, 0.2)):
            pass

    with pytest.raises(ChildProcessException, match=r"0\.2"):
        asyncio.run(main())


@pytest.mark.parametrize("how", ["raise", "cancel in the block", "cancel at its end"])
def test_leaving_the_block_otherwise(policy: dict[str, Any], each_system: str, how: str) -> None:
    """An exception, and a cancelled task, terminate the children and reap them."""
    runs = []

    async def block() -> None:
        async with Pcall.options(**policy)(time.sleep, iargs=[(60,), (60,)]) as run:
            runs.append(run)
            if how == "raise":
                raise LookupError
            if how == "cancel in the block":
                await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(block())
        await asyncio.sleep(0.3)
        if how != "raise":
            task.cancel()
        await task

    with pytest.raises(LookupError if how == "raise" else asyncio.CancelledError):
        asyncio.run(main())
    (run,) = runs
    assert run.livings == ()
    assert all(is_reaped(pid) for pid in run.pids if pid is not None)
    assert all(isinstance(outcome.error, TaskCancelled | Exception) for outcome in run.outcomes)
    assert run.results is None
