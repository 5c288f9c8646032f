"""The whole public API, used as its types allow. Read by mypy and pyright, never run."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import pstats
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any, TypeVar, assert_type

import pcall as package
from pcall import (
    Call,
    CallError,
    ChildDied,
    ChildProcessException,
    ClusterError,
    CurrentCall,
    CycleError,
    DependenciesFailed,
    Executor,
    FailedDependency,
    InlineExecutor,
    NotStarted,
    NoWorkers,
    Outcome,
    Pcall,
    PcallError,
    PcallTimeout,
    Plan,
    Pool,
    RemoteError,
    ResultError,
    Retry,
    TaskCancelled,
    WorkerLost,
    __version__,
    current_call,
    pcall,
    run,
    run_iter,
)
from pcall.plan import PlanCall
from pcall.profiling import CpuProfile, MemoryProfile


def profiles(cpu: CpuProfile, memory: MemoryProfile) -> None:
    assert_type(cpu.stats, pstats.Stats)
    cpu.print_stats(10, "tsub", "desc", [("name", 40), ("ttot", 8)], per_worker=True)
    cpu.print_stats(strip_dirs=False, include=["json"], exclude="json.tool", file=sys.stderr)
    cpu.save("profile")
    cpu.merge(cpu)
    assert_type(memory.statistics("filename"), list[tracemalloc.Statistic])
    memory.print_top("lineno", 10, memory, True, False, ["json"], (), sys.stderr)
    assert_type(memory.workers, tuple[str, ...])


def add(x: int, y: int) -> int:
    return x + y


async def later(x: int) -> str:
    return str(x)


def untyped(x: Any) -> Any:
    return x


def double(x: int) -> float:
    return 2 * x


class Target:
    def __call__(self, x: int) -> int:
        return x


assert_type(__version__, str)


def arguments() -> None:
    assert_type(pcall(add, x=(1, 2, 3), y=(4, 5, 6)), tuple[int, ...])
    assert_type(package.pcall(add, None, (1,), [(2,)], {}, [{}]), tuple[int, ...])
    assert_type(pcall([add, add], timeout=1, cargs=(1, 2)), tuple[int, ...])
    assert_type(pcall(later, x=[1]), tuple[str, ...])
    assert_type(pcall([later, later], x=[1]), tuple[str, ...])
    assert_type(pcall(untyped, x=[1]), tuple[Any, ...])
    assert_type(pcall(Target, x="abc"), tuple[Target, ...])
    assert_type(pcall(lambda: None), tuple[None, ...])
    pcall([add, later], timeout=0.5)
    pcall((target for target in (add, later)), timeout=0.5)
    pcall(functools.partial(add, 1), y=itertools.count(), iargs=itertools.repeat((), 3))
    pcall(Target(), iargs=({1}, [2], "3"), ikwargs=({"x": 1},))
    pcall(Target, x="abc", self={"a": 1}.values(), cls=range(3))
    pcall(add, ckwargs={"x": 1}, ikwargs=None, iargs=None)


def calls_about_themselves() -> None:
    current = current_call()
    assert_type(current, CurrentCall | None)
    if current is not None:
        assert_type((current.index, current.attempt, current.seed), tuple[int, int, int])
        assert_type(current.name, str)


def objects() -> None:
    run = Pcall(add, x=(1, 2), y=(3, 4))
    assert_type(run, Pcall[int])
    assert_type(Pcall(later, x=[1]), Pcall[str])
    assert_type(run.results, tuple[int, ...] | None)
    assert_type(run.outcomes, tuple[Outcome[int] | None, ...])
    assert_type(run.pids, tuple[int | None, ...])
    assert_type(run.done, bool)
    assert_type(run.wait(), bool)
    assert_type(run.wait(timeout=0.1), bool)
    completed: Iterator[Outcome[int]] = run.as_completed()
    assert_type(next(completed), Outcome[int])
    children: tuple[multiprocessing.Process, ...] = run.childs + run.livings
    for child in children:
        assert_type(child.exitcode, int | None)
        assert_type(child.sentinel, int)
        assert_type(child.is_alive(), bool)
        assert_type(child.name, str)
    run.start()
    run.join()
    run.terminate()
    run.kill()
    with Pcall(add, timeout=3, x=(1, 2), y=(3, 4)) as entered:
        assert_type(entered, Pcall[int])
    print(run.targets, run.timeout, run.cargs, run.iargs, run.ckwargs, run.ikwargs, run.varkwargs)


def policy() -> None:
    Bounded = Pcall.options(
        max_workers=8,
        max_errors=None,
        fail_fast=True,
        strict=True,
        grace_period=0.5,
        max_tasks_per_child=1,
        retry=Retry(3, on=(OSError, KeyError), wait=1, max_wait=10, jitter=0.5),
    )
    assert_type(Bounded, type[Pcall])
    assert_type(Bounded.pcall(add, x=(1,), y=(2,)), tuple[int, ...])
    bounded: Pcall[int] = Bounded(add, x=(1,), y=(2,))
    assert_type(bounded.results, tuple[int, ...] | None)
    Outcomes = Pcall.options(return_outcomes=True, max_workers=2)
    assert_type(Outcomes.pcall(add, x=(1,), y=(2,)), tuple[Outcome[Any], ...])
    assert_type(Outcomes(add, x=(1,), y=(2,)).outcomes, tuple[Outcome[Any] | None, ...])
    assert_type(Outcomes(add, x=(1,), y=(2,)).results, tuple[Outcome[Any], ...] | None)
    assert_type(next(Outcomes.iter(add, x=(1,), y=(2,))), Outcome[Any])
    Either = Pcall.options(return_outcomes=bool(bounded.pids))
    Either.pcall(add, x=(1,), y=(2,))[0].anything


class Mine(Pcall):
    """A subclass keeps its type."""


class Careful(Pcall, max_workers=4, retry=Retry(2)):
    """A subclass with a policy."""


T = TypeVar("T")


class Kept(Pcall[T], strict=True):
    """A subclass that is generic, too."""


def subclass() -> None:
    assert_type(Mine.options(max_workers=2), type[Mine])
    assert_type(Careful.options(max_workers=2)(add, x=(1,), y=(2,)), Careful)
    assert_type(Careful.pcall(add, x=(1,), y=(2,)), tuple[int, ...])
    assert_type(Kept[int](add, x=(1,), y=(2,)).results, tuple[int, ...] | None)
    with Mine(add, x=(1,), y=(2,)) as mine:
        assert_type(mine, Mine)


async def awaiting() -> None:
    assert_type(await Pcall(later, x=(1, 2)), tuple[str, ...])
    assert_type(await pcall.aio(later, timeout=2, x=(1, 2)), tuple[str, ...])
    assert_type(await Mine.pcall.aio(later, x=(1, 2)), tuple[str, ...])
    async with Pcall(later, x=(1, 2)) as run:
        assert_type(run, Pcall[str])
        async for outcome in run.as_completed():
            assert_type(outcome, Outcome[str])


def looking(outcome: Outcome, typed: Outcome[int]) -> None:
    assert_type(typed.result(), int)
    assert_type(typed.value, int | Any)
    assert_type(outcome, Outcome[Any])
    assert_type(outcome.index, int)
    assert_type(outcome.call, Call)
    assert_type(outcome.ok, bool)
    assert_type(outcome.error, BaseException | None)
    assert_type(outcome.pid, int | None)
    assert_type(outcome.exitcode, int | None)
    assert_type(outcome.attempts, int)
    assert_type(outcome.started, float | None)
    assert_type(outcome.duration, float | None)
    assert_type(outcome.cpu_time, float | None)
    assert_type(outcome.max_rss, int | None)
    assert_type(outcome.rss_growth, int | None)
    assert_type(outcome.log, str | None)
    assert_type(outcome.stdout, str | None)
    assert_type(outcome.profile, CpuProfile | MemoryProfile | None)
    assert_type(outcome.stderr, str | None)
    print(outcome.value, outcome.result())
    assert_type(outcome.call.args, tuple[Any, ...])
    assert_type(outcome.call.name, str)
    assert_type(str(outcome.call), str)


def errors() -> None:
    try:
        pcall(add)
    except ChildDied as error:
        assert_type(error.exitcode, int | None)
        assert_type(error.signal, int | None)
    except ChildProcessException as error:
        assert_type(error.failures, tuple[Outcome, ...])
        assert_type(error.outcomes, tuple[Outcome | None, ...])
    except PcallTimeout as error:
        assert_type(error.timeout, float | None)
        assert_type(error.running, tuple[Outcome, ...])
        assert_type(error.failures, tuple[Outcome, ...])
        assert_type(error.outcomes, tuple[Outcome | None, ...])
    except RemoteError as error:
        assert_type(error.type_name, str)
        assert_type(error.text, str)
        assert_type(error.traceback, str)
    except (WorkerLost, NoWorkers, ClusterError):
        raise
    except (ResultError, NotStarted, PcallError, TaskCancelled):
        raise


def plans() -> None:
    plan = Plan(stacklevel=1)
    with plan.scope("load", 1):
        call = plan.call(add, 1, y=2)
        waiting = plan.call(later, call)
    assert_type(call, PlanCall[int])
    assert_type(waiting, PlanCall[str])
    assert_type(call.index, int)
    assert_type(call.name, str)
    assert_type(call.priority, float)
    assert_type(call.started, bool)
    plan.add_dependency(call, plan.call(add, call, plan.lit([1])))
    low, high = plan.unpack(plan.gather([call, 1]), 2)
    call.priority, call.name, call.locality = 2, "first", {"worker": 1}
    print(run(plan, output=[low, {"high": high}], max_workers=2, retry=Retry(2)))
    assert_type(run(plan, output=call), int)
    assert_type(run(plan, output=waiting, max_workers=2), str)
    assert_type(run(plan, output=[call, call]), list[int])
    assert_type(run(plan, output=(call, call)), tuple[int, ...])
    assert_type(run(plan, output={"one": call}), dict[str, int])
    assert_type(run(plan, output=plan.lit(1)), int)
    assert_type(run(plan, output=low), Any)
    assert_type(run_iter(plan, order_results=False, timeout=2.5), Iterator[Outcome])
    run(plan, max_tasks_per_child=1, grace_period=0.5, tasklog=False)
    run(plan, profile="cpu")
    assert_type(plan.profile, CpuProfile | MemoryProfile | None)
    assert_type(plan.render("svg"), str)
    plan.mark_done(call, 1)
    plan.mark_failed(call, DependenciesFailed({"x": [call]}))
    plan.mark_failed(call, FailedDependency())
    try:
        run(plan, max_errors=None, fail_fast=True)
    except CallError as error:
        assert_type(error.call, Call | None)
        assert_type(error.place, tuple[str, int, str] | None)
        assert_type(error.skipped, tuple[Call, ...])
    except CycleError as error:
        assert_type(error.calls, tuple[Any, ...])


def executors() -> None:
    with Executor(2, None, print, (1,), max_tasks_per_child=None, idle_timeout=None) as ex:
        future = ex.submit(add, 1, y=2)
        assert_type(future.result(), int)
        assert_type(future.pid, int | None)
        assert_type(future.outcome, Outcome | None)
        assert_type(future.cancel(), bool)
        assert_type(ex.map(add, [1], [2], buffersize=3), Iterator[int])
        assert_type(ex.submit(later, 1).result(), str)
        assert_type(ex.map(later, [1]), Iterator[str])
        ex.options(timeout=1.5, retry=Retry(2), capture_output="group").submit(add, 1, 2)
        ex.terminate_workers()
        ex.kill_workers()
        ex.shutdown(wait=False, cancel_futures=True)
    with InlineExecutor() as inline:
        assert_type(inline.submit(add, 1, 2).result(), int)
        assert_type(inline.submit(later, 1).result(), str)
    with Pool(2, print, (1,), 3) as pool:
        assert_type(pool.map(double, [1], chunksize=1), list[float])
        assert_type(pool.apply_async(add, (1, 2), callback=print).get(timeout=1), int)
        assert_type(next(pool.imap_unordered(double, [1])), float)
        assert_type(pool.starmap_async(add, [(1, 2)]).get(), list[int])


async def streams() -> None:
    for value in pcall.iter(add, x=itertools.count(), y=[1]):
        assert_type(value, int)
    async for text in Pcall.options(ordered=False, initializer=print, initargs=(1,)).iter(later):
        assert_type(text, str)
