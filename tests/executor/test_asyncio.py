"""Executors under asyncio: ``run_in_executor``, cancellation, task groups, ``async with``."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from pcall import Executor
from tests.helpers.processes import assert_ended, children
from tests.helpers.waiting import until


def square(x: int) -> int:
    return x * x


def test_run_in_executor(kind: dict[str, Any]) -> None:
    """Results and errors come to the loop, which goes on meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Executor(2, **kind) as executor:
            calls = [loop.run_in_executor(executor, square, each) for each in range(10)]
            assert await asyncio.gather(*calls) == [each * each for each in range(10)]
            with pytest.raises(ValueError, match="literal"):
                await loop.run_in_executor(executor, int, "x")

    asyncio.run(main())


def test_a_cancelled_task_ends_its_call(kind: dict[str, Any]) -> None:
    """The process is ended as the task is cancelled, by hand or by a timeout."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Executor(1, grace_period=0.5, **kind) as executor:
            future = loop.run_in_executor(executor, time.sleep, 60)
            await asyncio.sleep(0.1)
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.run_in_executor(executor, time.sleep, 60), 0.2)
            assert await loop.run_in_executor(executor, square, 3) == 9

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 30
    assert children() == set()


def test_a_task_group_that_fails(kind: dict[str, Any]) -> None:
    """The error of one task ends the calls of the others."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def run(function: Any, *args: Any) -> Any:
            return await loop.run_in_executor(executor, function, *args)

        async with Executor(3, grace_period=0.5, **kind) as executor:
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(run(time.sleep, 60))
                    group.create_task(run(time.sleep, 60))
                    group.create_task(run(int, "x"))
            assert isinstance(caught.value.exceptions[0], ValueError)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 30
    assert children() == set()


def test_leaving_an_async_block_does_not_block_the_loop(kind: dict[str, Any]) -> None:
    """It waits for the calls while other tasks go on."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def main() -> None:
        ticker = asyncio.create_task(tick())
        async with Executor(1, **kind) as executor:
            executor.submit(time.sleep, 0.4)
        ticker.cancel()

    asyncio.run(main())
    assert ticks >= 5


def test_an_async_block_that_is_cancelled_ends_its_calls(kind: dict[str, Any]) -> None:
    """Whether within or while it waits at its end."""

    async def within(pids: list[int]) -> None:
        async with Executor(1, grace_period=0.5, **kind) as executor:
            future = executor.submit(time.sleep, 60)
            while not future.pid:
                await asyncio.sleep(0.01)
            pids.append(future.pid)
            await asyncio.sleep(60)

    async def at_its_end(pids: list[int]) -> None:
        async with Executor(1, grace_period=0.5, **kind) as executor:
            future = executor.submit(time.sleep, 60)
            pids.append(until(lambda: future.pid) or 0)

    async def main(block: Any) -> None:
        pids: list[int] = []
        task = asyncio.create_task(block(pids))
        while not pids:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_ended(pids, os.getpid())

    asyncio.run(main(within))
    asyncio.run(main(at_its_end))


def test_a_loop_that_is_closed_with_calls_in_flight(kind: dict[str, Any]) -> None:
    """The executor is not harmed, and its calls go on or are ended by their cancel."""
    with Executor(1, grace_period=0.5, **kind) as executor:

        async def main() -> None:
            asyncio.get_running_loop().run_in_executor(executor, time.sleep, 60)
            await asyncio.sleep(0.1)

        began = time.monotonic()
        loop = asyncio.new_event_loop()
        task = loop.create_task(main())
        loop.run_until_complete(task)
        loop.close()
        executor.terminate_workers()
    assert time.monotonic() - began < 30
    assert children() == set()
