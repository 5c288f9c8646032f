"""README.rst: a run awaited from asyncio, without blocking the loop or a thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from pcall import ChildProcessException, Outcome, Pcall, PcallTimeout, pcall
from tests.helpers.waiting import wait_for


def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x


@pytest.mark.fast
def test_await_of_the_object(each_system):
    """Awaiting a Pcall starts it, and gives its results."""

    async def main():
        run = Pcall(square, x=(1, 2, 3))
        return await run, run.results

    assert asyncio.run(main()) == ((1, 4, 9), (1, 4, 9))


def test_await_of_a_started_run():
    """A run that was started before is awaited as well, and so is one that is over."""

    async def main():
        run = Pcall(square, x=(1, 2))
        run.start()
        return await run, await run

    assert asyncio.run(main()) == ((1, 4), (1, 4))


def test_aio(each_system):
    """pcall.aio(...) takes what pcall takes, and is awaited."""

    async def main():
        return await pcall.aio(square, x=(1, 2, 3))

    assert asyncio.run(main()) == (1, 4, 9)


def test_aio_takes_all_arguments():
    """pcall.aio(...) builds the arguments as pcall does."""

    async def main():
        return await pcall.aio(
            lambda *args, **kwargs: (args, kwargs), 60, (1,), [(2,)], {"a": 3}, [{"b": 4}], self=[5]
        )

    assert asyncio.run(main()) == (((1, 2), {"a": 3, "b": 4, "self": 5}),)


@pytest.mark.parametrize("max_workers", [1, 0])
def test_aio_of_a_policy(max_workers):
    """A configured class has its aio as well, which follows the policy."""
    Bounded = Pcall.options(max_workers=max_workers, return_outcomes=True)

    async def main():
        return await Bounded.pcall.aio(square, x=(1, -1, 2))

    outcomes = asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [Outcome] * 3
    assert [outcome.ok for outcome in outcomes] == [True, False, False]


@pytest.mark.parametrize("arguments", [{"x": ()}, {"x": (1, 2, 3)}])
def test_inline_and_empty_runs(arguments):
    """Runs without a child, of no calls or in this process, can be awaited too."""

    async def main():
        Inline = Pcall.options(max_workers=0)
        return await Inline.pcall.aio(square, **arguments), await pcall.aio(square, x=())

    assert asyncio.run(main()) == (tuple(x * x for x in arguments["x"]), ())


@pytest.mark.engines(why="no run is made")
def test_a_wrong_shape_raises_when_awaited():
    """A wrong shape is told by pcall.aio as by pcall."""

    async def main():
        await pcall.aio(square, x=5)

    with pytest.raises(TypeError, match=r"^x must be"):
        asyncio.run(main())


@pytest.mark.needs("concurrency")
def test_the_loop_goes_on(each_system, tmp_path):
    """The loop is not blocked: what runs in it is what lets the calls end."""
    ticks = 0

    async def ticker():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1
            if ticks == 20:
                (tmp_path / "go").touch()

    async def main():
        task = asyncio.create_task(ticker())
        try:
            return await pcall.aio(wait_for, cargs=[tmp_path / "go"], ikwargs=[{}] * 3)
        finally:
            task.cancel()

    assert asyncio.run(main()) == (True,) * 3
    assert ticks >= 20


@pytest.mark.needs("concurrency")
def test_no_thread(each_system, tmp_path):
    """Awaiting takes no thread."""
    threads = set()

    async def look():
        for _ in range(20):
            threads.update(threading.enumerate())
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()

    async def main():
        await asyncio.gather(pcall.aio(wait_for, cargs=[tmp_path / "go"]), look())

    before = set(threading.enumerate())
    asyncio.run(main())
    assert threads == before


@pytest.mark.needs("concurrency")
def test_idle_waiting_takes_no_processor_time(tmp_path):
    """While nothing happens, awaiting does not spin."""

    async def main():
        begin = time.process_time()
        await pcall.aio(time.sleep, iargs=[(2,)] * 3)
        return time.process_time() - begin

    assert asyncio.run(main()) < 1


def test_a_failed_call(each_system):
    """A failed call raises what join() raises."""

    async def main():
        await pcall.aio(square, x=(1, -2))

    with pytest.raises(ChildProcessException, match="negative: -2") as caught:
        asyncio.run(main())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.needs("timeouts")
def test_a_timeout(each_system):
    """The timeout of the calls holds while they are awaited."""

    async def main():
        await pcall.aio(time.sleep, 0.3, iargs=[(60,)])

    with pytest.raises(PcallTimeout, match=r"sleep\(60\)"):
        asyncio.run(main())


@pytest.mark.needs("concurrency")
def test_two_runs_at_once(each_system, tmp_path):
    """Two runs gathered go on at the same time."""
    a, b = tmp_path / "a", tmp_path / "b"

    def meet(mine, other):
        mine.touch()
        return wait_for(other)

    async def main():
        return await asyncio.gather(
            pcall.aio(meet, iargs=[(a, b)]), pcall.aio(meet, iargs=[(b, a)])
        )

    assert asyncio.run(main()) == [(True,), (True,)]


@pytest.mark.needs("concurrency")
def test_awaited_from_two_tasks(tmp_path):
    """One run awaited by two tasks gives both the same, and may be polled meanwhile."""
    run = Pcall(wait_for, cargs=[tmp_path / "go"], ikwargs=[{}] * 2)

    async def poll():
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert len(run.livings) == 2
        (tmp_path / "go").touch()
        while not run.done:
            await asyncio.sleep(0)

    async def main():
        async def wait():
            return await run

        return await asyncio.gather(wait(), wait(), poll())

    assert asyncio.run(main()) == [(True, True), (True, True), None]


def test_many_runs_in_one_loop():
    """Many runs, one after another and side by side, leave nothing in the loop."""

    async def main():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await asyncio.gather(*(pcall.aio(square, x=[x]) for x in range(5)))
        return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(main()) == 0
