"""However a call of an executor ends, its future alone tells, and nothing is left."""

from __future__ import annotations

import gc
import os
import signal
import time
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from pcall import ChildDied, Executor, PcallTimeout, ResultError
from tests.helpers.processes import assert_ended, children, descriptors, resident_memory
from tests.helpers.waiting import until
from tests.local.test_crash_matrix import STAGES, WAYS, neighbour


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", ["running", "pickling", "unpickling"])
def test_a_call_that_ends_so(stage: str, way: str, kind: dict[str, Any]) -> None:
    """No hang, the right error, the other futures intact, and the executor goes on."""
    with Executor(2, grace_period=1, **kind) as executor:
        first = executor.submit(neighbour, 1)
        limited = executor.options(timeout=1) if way == "hang" else executor
        broken = limited.submit(STAGES[stage], way)
        last = executor.submit(neighbour, 2)
        error = broken.exception(60)
        assert (first.result(30), last.result(30)) == (11, 22)
        expected = WAYS[way]
        if expected.exitcode is not None:
            assert isinstance(error, ChildDied)
            assert isinstance(error, BrokenProcessPool)
            assert error.exitcode == expected.exitcode
        elif way == "hang":
            assert isinstance(error, PcallTimeout)
        elif stage == "running":
            assert type(error) is expected.error
        else:
            assert isinstance(error, ResultError)
            assert type(error.__cause__) is expected.error
        assert executor.submit(neighbour, 3).result(30) == 33


class EndsOnArrival:
    """An argument that ends the worker in which it is unpickled."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __reduce__(self) -> Any:
        return end_in_child, (self.way, os.getpid())


def end_in_child(way: str, parent: int) -> Any:
    return WAYS[way].do() if os.getpid() != parent else None


@pytest.mark.parametrize("way", ["exception", "os._exit", "SIGKILL", "hang"])
def test_an_argument_that_ends_its_worker(way: str) -> None:
    """That is the call's own failure as well."""
    with Executor(1, max_tasks_per_child=None, grace_period=1) as executor:
        assert executor.submit(neighbour, 1).result(30) == 11
        error = executor.options(timeout=1).submit(id, EndsOnArrival(way)).exception(60)
        assert isinstance(error, WAYS[way].error)
        assert executor.submit(neighbour, 2).result(30) == 22


class Unpicklable:
    def __reduce__(self) -> Any:
        raise KeyError("no pickle")


def test_an_argument_that_no_pickle_takes() -> None:
    """A child is forked for its call, also where workers are idle."""
    with Executor(2, max_tasks_per_child=None) as executor:
        assert executor.submit(neighbour, 1).result(30) == 11
        assert executor.submit(isinstance, Unpicklable(), Unpicklable).result(30)
        calls = [executor.submit(isinstance, Unpicklable(), Unpicklable) for _ in range(10)]
        assert all(each.result(30) for each in calls)


def test_a_child_that_can_not_be_forked(
    kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is the failure of its call, and the executor goes on once there is room."""
    with Executor(2, **kind) as executor:
        with monkeypatch.context() as patch:

            def refuse() -> int:
                raise OSError(11, "Resource temporarily unavailable")

            patch.setattr(os, "fork", refuse)
            future = executor.submit(neighbour, 1)
            assert isinstance(future.exception(30), OSError)
        assert executor.submit(neighbour, 2).result(30) == 22


def test_idle_workers_that_somebody_kills() -> None:
    """Others take their place, and no call is lost."""
    with Executor(2, max_tasks_per_child=None) as executor:
        for _ in range(5):
            calls = [executor.submit(neighbour, each) for each in range(6)]
            assert [each.result(30) for each in calls] == [11 * each for each in range(6)]
            pids = list(executor._processes)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert_ended(pids)


def test_files_grow_with_nothing(kind: dict[str, Any]) -> None:
    """Descriptors and children are those of the calls in flight."""
    with Executor(2, **kind) as executor:
        wait([executor.submit(neighbour, each) for each in range(20)])
        before = len(descriptors())
        for _ in range(3):
            futures = [executor.submit(neighbour, each) for each in range(20)]
            futures += [executor.submit(time.sleep, 60) for _ in range(4)]
            for future in futures[-4:]:
                future.cancel()
            assert not wait(futures, 60).not_done
        until(lambda: len(descriptors()) <= before + 2)
        assert len(descriptors()) <= before + 2
        assert len(children()) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, None], ids=["fresh", "reused"])
def test_a_long_life_takes_no_memory(tasks: int | None) -> None:
    """After thousands of calls, some of which fail, an executor is no larger than before."""
    count = 20_000 if tasks is None else 800
    with Executor(2, max_tasks_per_child=tasks, grace_period=1) as executor:

        def work(calls: int) -> None:
            for start in range(0, calls, 200):
                futures = [executor.submit(divmod, n, n % 50) for n in range(start, start + 200)]
                for number, future in enumerate(futures):
                    if number % 50:
                        assert future.result(60) == divmod(start + number, number % 50)
                    else:
                        assert isinstance(future.exception(60), ZeroDivisionError)

        work(1000 if tasks is None else 200)
        gc.collect()
        before = resident_memory()
        work(count)
        gc.collect()
        assert resident_memory() - before < 6 << 20
