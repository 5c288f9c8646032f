"""README.rst: a run whose await is cancelled ends its children."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pcall import ChildProcessException, Pcall, PcallTimeout, TaskCancelled, pcall
from tests.helpers import ROOT
from tests.helpers.cases import FINE
from tests.helpers.processes import is_reaped
from tests.helpers.scripts import environment, python, system_name
from tests.helpers.waiting import SOON

pytestmark = pytest.mark.needs("processes")


def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x


def deaf(ready: Path):
    """Ignore SIGTERM, say so, and go on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.touch()
    time.sleep(60)


@pytest.mark.fast
def test_cancelling_ends_the_children(each_system, tmp_path):
    """Cancelling the await terminates the children, which may clean up, and reaps them."""

    def careful(name):
        try:
            (tmp_path / name).touch()
            time.sleep(60)
        finally:
            (tmp_path / f"{name} cleaned").touch()

    run = Pcall(careful, name="ab")

    async def main():
        task = asyncio.ensure_future(run)
        while len(list(tmp_path.iterdir())) < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [is_reaped(pid) for pid in run.pids]

    assert asyncio.run(main()) == [True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a cleaned", "b", "b cleaned"]
    assert [type(outcome.error) for outcome in run.outcomes] == [TaskCancelled] * 2
    run.join()
    assert run.results is None


def test_cancelling_kills_what_ignores_sigterm(each_system, tmp_path):
    """Cancelled, what ignores SIGTERM is killed after the grace period; the loop goes on."""
    run = Pcall.options(grace_period=0.3, max_workers=1)(
        deaf, ready=[tmp_path / "ready", tmp_path / "never"]
    )

    async def main():
        task = asyncio.ensure_future(run)
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.005)
        task.cancel()
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(asyncio.CancelledError):
            await task
        return ticks

    assert asyncio.run(main()) >= 5
    assert [child.exitcode for child in run.childs] == [-signal.SIGKILL, None]
    assert not (tmp_path / "never").exists()


def test_cancelled_twice(tmp_path):
    """Cancelled again while the children have their grace period, it kills them at once."""
    run = Pcall.options(grace_period=600)(deaf, ready=[tmp_path / "ready"])

    async def main():
        task = asyncio.ensure_future(run)
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.005)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, SOON)

    asyncio.run(main())
    assert run.childs[0].exitcode == -signal.SIGKILL


def test_wait_for(each_system):
    """asyncio.wait_for ends the children when its time is up."""
    run = Pcall(time.sleep, iargs=[(60,)] * 2)

    async def main():
        await asyncio.wait_for(run, 0.3)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())
    assert not isinstance(caught.value, PcallTimeout)
    assert [child.exitcode for child in run.childs] == [-signal.SIGTERM] * 2


def test_asyncio_timeout():
    """A block under asyncio.timeout ends the children when its time is up."""
    run = Pcall(time.sleep, iargs=[(60,)])

    async def main():
        async with asyncio.timeout(0.3):
            await run

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert run.childs[0].exitcode == -signal.SIGTERM


def test_one_of_a_group_fails():
    """In a task group the failure of one run ends the children of the other."""
    other = Pcall(time.sleep, iargs=[(60,)])

    async def wait():
        await other

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(pcall.aio(square, x=[-1]))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [type(error) for error in caught.value.exceptions] == [ChildProcessException]
    assert not other.childs[0].is_alive()


@pytest.mark.engines(why="a script makes the run")
def test_ctrl_c():
    """A Ctrl-C while a run is awaited ends the children, and goes on as KeyboardInterrupt."""
    with subprocess.Popen(
        python(ROOT / "tests/scripts/objects.py", system_name(), "awaited"),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            pids = [int(word) for word in process.stdout.readline().split()]
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert rest == "interrupted\n"
    assert process.returncode == FINE
    assert len(pids) == 3
    assert all(is_reaped(pid) for pid in pids)
