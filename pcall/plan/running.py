"""``run`` and ``run_iter``: run the calls of a plan, and return its output or the outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from pcall._core.options import Options
from pcall._core.records import Observer, Outcome, show
from pcall._core.retry import Retry
from pcall._core.seconds import limit_of
from pcall._profiles.current_profiles import ProfileKind
from pcall.plan.gathering import Gatherer
from pcall.plan.nodes import Node
from pcall.plan.plan import Plan
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_report import call_error
from pcall.plan.plan_run import PlanRun

if TYPE_CHECKING:
    from pcall._core.policy_types import RunPolicy
    from pcall.plan.plan_call import PlanCall

    K = TypeVar("K")
    T = TypeVar("T")

__all__ = ["run", "run_iter"]

__tracebackhide__ = True  # pytest shows the frames of its user

_Retry = int | Retry | Callable[[Any], Any] | None
_Progress = bool | Observer | Iterable[Observer] | None


@overload
def run(plan: Plan, *, output: None = None, **policy: Unpack[RunPolicy]) -> None: ...


@overload
def run(plan: Plan, *, output: Node[T], **policy: Unpack[RunPolicy]) -> T: ...


@overload
def run(plan: Plan, *, output: list[PlanCall[T]], **policy: Unpack[RunPolicy]) -> list[T]: ...


@overload
def run(
    plan: Plan, *, output: tuple[Node[T], ...], **policy: Unpack[RunPolicy]
) -> tuple[T, ...]: ...


@overload
def run(plan: Plan, *, output: dict[K, PlanCall[T]], **policy: Unpack[RunPolicy]) -> dict[K, T]: ...


@overload
def run(plan: Plan, *, output: Any, **policy: Unpack[RunPolicy]) -> Any: ...


def run(
    plan: Plan,
    *,
    output: Any = None,
    max_workers: int | None = None,
    max_errors: int | None = 0,
    retry: _Retry = None,
    timeout: float | None = None,
    progress: _Progress = None,
    profile: ProfileKind | None = None,
    engine: Any = None,
    order_results: bool = True,
    max_tasks_per_child: int | None = None,
    grace_period: float = 5.0,
    fail_fast: bool = False,
    tasklog: bool = True,
    capture_output: bool | Literal["group"] = False,
) -> Any:
    """Run the calls of a plan, each once its dependencies have finished.

    Calls run in forked workers, each of which takes call after call. Ready calls start in the
    order of their priority, the highest first, and then in plan order. A value is dropped once
    no call needs it any more. Each call gets objects of its own for the values of other calls,
    so no call sees the changes that another one makes to them.

    Args:
        plan: the plan. It must not be changed during the run.
        output: a call, or any structure with calls in it. Only the calls that it needs are run.
            None: all calls are run.
        max_workers: the number of calls that run at once. Default: one per core. 0: nothing is
            forked, and calls run one after another in this process, for a debugger.
        max_errors: once more calls than this have failed, no further call starts, and running
            calls are waited for. Default 0. None: no limit.
        retry: the number of attempts in all; or a :class:`pcall.Retry`; or a decorator of the
            functions. Default None: one attempt.
        timeout: seconds that each call may run; None and 0: no limit. If a call runs longer, it
            is ended; with ``max_errors=0``, all calls are.
        progress: see ``Pcall.options``. The scopes are those of the plan; a call without one is
            counted under its function's name.
        profile: ``"cpu"`` or ``"memory"``: each call is profiled; the plan's attribute ``profile``
            has all of them, merged, and each outcome its call's (see :mod:`pcall.profiling`).
            Default None.
        engine: a :class:`pcall.cluster.Cluster` on whose workers the calls run. Default None: on
            this machine.
        order_results: has no effect here; see :func:`run_iter`.
        max_tasks_per_child: the number of calls after which a worker exits. Default None: no
            limit. 1: a fresh process for each call.
        grace_period: seconds from SIGTERM to SIGKILL. Default 5.
        fail_fast: True: once more calls than ``max_errors`` have failed, running calls are ended
            (SIGTERM, grace period, SIGKILL). Default False: they are waited for.
        tasklog: True: what calls log is passed to this process's handlers, in plan order. False:
            logging is left alone.
        capture_output: see ``Pcall.options``. Default False.

    Returns:
        The output, with values in place of calls; None without an output.

    Raises:
        TypeError, ValueError: an argument is wrong. Nothing was run.
        CycleError: calls of the plan wait for each other. Nothing was run.
        CallError: a call failed; or its value can't be loaded in this process, or is not what
            ``output`` takes: it has another number of items than it is unpacked to, for example.
        OSError: a child could not be forked.
    """
    planned, structure = _prepare(
        plan, output, timeout, order_results, False,
        max_workers=max_workers, max_tasks_per_child=max_tasks_per_child, max_errors=max_errors,
        retry=retry, grace_period=grace_period, progress=progress, tasklog=tasklog,
        capture_output=capture_output, fail_fast=fail_fast, profile=profile, engine=engine,
    )  # fmt: skip
    run = planned.run
    try:
        try:
            run.start()
            while not run.over:
                run.turn(None)
            run.finish()
        except BaseException:
            run.abandon_if_owner()
            raise
        finally:
            planned.note()
        made = None if planned.outcomes.failed else planned.output(structure)
        if planned.outcomes.failed:  # otherwise do not even make the outcomes
            outcomes = [each for each in planned.outcomes if each is not None]
            error = call_error(plan, outcomes, run.state.ended_by_us)
            if error is not None:
                raise error
        return made
    finally:
        planned.close()


def run_iter(
    plan: Plan,
    *,
    output: Any = None,
    max_workers: int | None = None,
    max_errors: int | None = 0,
    retry: _Retry = None,
    timeout: float | None = None,
    progress: _Progress = None,
    profile: ProfileKind | None = None,
    engine: Any = None,
    order_results: bool = True,
    max_tasks_per_child: int | None = None,
    grace_period: float = 5.0,
    fail_fast: bool = False,
    tasklog: bool = True,
    capture_output: bool | Literal["group"] = False,
) -> Iterator[Outcome[Any]]:
    """Run the calls of a plan, and yield their outcomes meanwhile.

    Nothing is raised for a failed call: its outcome has the error. The error of a call that did
    not start is a :class:`pcall.NotStarted`. Leaving the loop ends the running calls.

    Args: see :func:`run`.
        order_results: True: yield in plan order. False: yield as calls end.

    Yields:
        The outcome of each call that is needed, once, with its value. Where a call is made again
        for a ``DependenciesFailed`` before its outcome was yielded, it is the last one.

    Raises:
        TypeError, ValueError, CycleError: at once, as in :func:`run`.
    """
    planned, _ = _prepare(
        plan, output, timeout, order_results, True,
        max_workers=max_workers, max_tasks_per_child=max_tasks_per_child, max_errors=max_errors,
        retry=retry, grace_period=grace_period, progress=progress, tasklog=tasklog,
        capture_output=capture_output, fail_fast=fail_fast, profile=profile, engine=engine,
    )  # fmt: skip
    return _iterate(planned, order_results)


def _iterate(planned: PlanRun, ordered: bool) -> Iterator[Outcome]:
    run = planned.run
    try:
        try:
            run.start()
            for index in _in_order(planned) if ordered else _as_completed(planned):
                outcome = planned.outcomes[index]
                planned.release(index)
                yield outcome
            while not run.over:
                run.turn(None)
            run.finish()
        except BaseException:
            run.abandon_if_owner()
            raise
        finally:
            planned.note()
    finally:
        planned.close()


def _in_order(planned: PlanRun) -> Iterator[int]:
    planned.scheduler.look_at_all()
    for index, state in enumerate(bytes(planned.scheduler.state)):
        if state:
            while not planned.outcomes.has(index):
                planned.run.turn(None)
            yield index


def _as_completed(planned: PlanRun) -> Iterator[int]:
    """Each call once, although one that is made again ends several times."""
    yielded: set[int] = set()
    for index in planned.run.as_completed():
        # One without an outcome is being made again since, and will end once more.
        if index not in yielded and planned.outcomes.has(index):
            yielded.add(index)
            yield index


def _prepare(
    plan: Plan,
    output: Any,
    timeout: float | None,
    order_results: bool,
    keep: bool,
    **policy: Any,
) -> tuple[PlanRun, Any]:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, not {show(plan)} ({type(plan).__name__})")
    if not isinstance(order_results, bool):
        raise TypeError(f"order_results must be True or False, not {show(order_results)}")
    options = Options(**policy)
    limit = limit_of(timeout)
    wanted, structure = None, None
    if output is not None:
        structure = Gatherer(plan, few=math.inf).convert(output)
        vertices = structure.vertices if isinstance(structure, Node) else ()
        wanted = plan.graph.calls_among(vertices)
    plan.check_cycles()
    calls = PlanCalls(plan, options.decorator)
    return PlanRun(calls, options, limit, wanted, keep), structure
