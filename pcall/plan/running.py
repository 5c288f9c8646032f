"""``run`` and ``run_iter``: a plan's calls in children, and its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pcall._core.options import Options
from pcall._core.records import Observer, Outcome, show
from pcall._core.retry import Retry
from pcall._core.seconds import limit_of
from pcall.plan.gathering import Gatherer
from pcall.plan.nodes import Node, resolve
from pcall.plan.plan import Plan
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_report import call_error
from pcall.plan.plan_run import PlanRun

__all__ = ["run", "run_iter"]

__tracebackhide__ = True  # pytest shows the frames of its user

_Retry = int | Retry | Callable[[Any], Any] | None
_Progress = bool | Observer | Iterable[Observer] | None


def run(
    plan: Plan,
    *,
    output: Any = None,
    max_workers: int | None = None,
    max_errors: int | None = 0,
    retry: _Retry = None,
    timeout: float | None = None,
    progress: _Progress = None,
    profile: str | None = None,
    engine: Any = None,
    order_results: bool = True,
) -> Any:
    """Make the calls of a plan, each as soon as those that it waits for are done.

    Calls run in forked children, which live on and take the next call. Of the calls that are
    ready, those with the higher priority start first, and of these the one that was planned
    first. A value is dropped as soon as nothing needs it. What a call does to its arguments is
    seen by no other call: each gets objects of its own for the values of calls.

    Args:
        plan: the plan. It must not be changed meanwhile.
        output: a call, or any structure with calls in it. Only what it needs is run. None:
            all calls are made.
        max_workers: calls that run at once; default: one a core. 0: no child is forked, and
            calls run one after another in this process, for a debugger.
        max_errors: failed calls after which, when there are more, no further call starts;
            those that run are waited for. Default 0. None: no limit.
        retry: attempts in all; or a :class:`pcall.Retry`; or a decorator of the functions.
        timeout: seconds that each call may run; None and 0: no limit. When one runs longer,
            with ``max_errors=0`` all calls are ended, and otherwise that call alone.
        progress: see ``Pcall.options``. The scopes are those of the plan; a call in none is
            counted under its function's name.
        profile: None; there is no other choice yet.
        engine: None, this machine; there is no other choice yet.
        order_results: of no meaning here; see :func:`run_iter`.

    Returns:
        The output, with values in place of calls; None without an output.

    Raises:
        TypeError, ValueError: an argument is wrong, or calls of the plan wait for each other.
            Nothing was run.
        CallError: a call failed.
        OSError: a child could not be forked.
    """
    planned, structure = _prepare(
        plan, output, max_workers, max_errors, retry, timeout, progress, profile, engine,
        order_results, False,
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
        if planned.outcomes.failed:  # else no outcome is made
            error = call_error(plan, [each for each in planned.outcomes if each is not None])
            if error is not None:
                raise error
        return resolve(structure, planned.value)
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
    profile: str | None = None,
    engine: Any = None,
    order_results: bool = True,
) -> Iterator[Outcome]:
    """The same, but the outcomes of the calls are iterated over while they run.

    Nothing is raised for a failed call: its outcome tells, and those of calls that did not
    start have a :class:`pcall.NotStarted` as error. Where the iteration is left, the calls that
    run are ended.

    Args: those of :func:`run`.
        order_results: True: in plan order. False: as they come.

    Yields:
        The outcome of each call that is needed, with its value.

    Raises:
        TypeError, ValueError: at once, as in :func:`run`.
    """
    planned, _ = _prepare(
        plan, output, max_workers, max_errors, retry, timeout, progress, profile, engine,
        order_results, True,
    )  # fmt: skip
    return _iterate(planned, order_results)


def _iterate(planned: PlanRun, ordered: bool) -> Iterator[Outcome]:
    run = planned.run
    try:
        try:
            run.start()
            for index in _in_order(planned) if ordered else run.as_completed():
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


def _prepare(
    plan: Plan,
    output: Any,
    max_workers: int | None,
    max_errors: int | None,
    retry: _Retry,
    timeout: float | None,
    progress: _Progress,
    profile: str | None,
    engine: Any,
    order_results: bool,
    keep: bool,
) -> tuple[PlanRun, Any]:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, not {show(plan)} ({type(plan).__name__})")
    for name, value in (("profile", profile), ("engine", engine)):
        if value is not None:
            raise NotImplementedError(f"{name} must be None: there is no other choice yet")
    if not isinstance(order_results, bool):
        raise TypeError(f"order_results must be True or False, not {show(order_results)}")
    options = Options(
        max_workers=max_workers,
        max_tasks_per_child=None,
        max_errors=max_errors,
        retry=retry,
        progress=progress,
    )
    limit = limit_of(timeout)
    wanted, structure = None, None
    if output is not None:
        structure = Gatherer(plan, few=math.inf).convert(output)
        vertices = structure.vertices if isinstance(structure, Node) else ()
        wanted = plan.graph.calls_among(vertices)
    plan.check_cycles()
    calls = PlanCalls(plan, options.decorator)
    return PlanRun(calls, options, limit, wanted, keep), structure
