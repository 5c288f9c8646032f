"""Runs a job on an engine and yields outcomes: what ``Cluster.execute`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.failure_report import failure_of
from pcall._core.options import Options
from pcall._core.records import Outcome, show
from pcall._errors import NotStarted
from pcall._faces.make_run import make_run
from pcall._pcall import Pcall
from pcall._run import Run
from pcall.plan.plan import Plan
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_report import call_error
from pcall.plan.plan_run import PlanRun

__all__ = ["execute"]

__tracebackhide__ = True  # pytest shows the frames of its user


def execute(
    job: Plan | Pcall, engine: Any, ordered: bool, attempts: int | None
) -> Iterator[Outcome]:
    """Run a plan or a ``Pcall``, and yield outcomes.

    The first failure for good ends all calls, and is raised.

    Args:
        job: what to run.
        engine: for the option of that name.
        ordered: True: yield in call order; False: as calls end.
        attempts: the number of attempts of each call; None: as the job says.

    Raises:
        TypeError: the job is neither, or was started.
    """
    policy: dict[str, Any] = {"engine": engine}
    if attempts is not None:
        policy["retry"] = attempts
    if isinstance(job, Plan):
        job.check_cycles()
        options = Options(max_tasks_per_child=None).but(policy)
        planned = PlanRun(PlanCalls(job, None), options, None, None, True)
        return _iterate_plan(job, planned, ordered)
    if not isinstance(job, Pcall):
        raise TypeError(f"job must be a Plan or a Pcall, not {show(job)} ({type(job).__name__})")
    if job._started:
        raise TypeError("job was started before; build a new Pcall to run again")
    options = job._options.but(policy)
    run = make_run(job._run.state.calls, options, job._limit)
    job._started = True
    job._let_go()  # of the finalizer that warns of a job which is never started
    return _iterate_calls(run, job._limit, ordered)


def _iterate_calls(run: Run, limit: float | None, ordered: bool) -> Iterator[Outcome]:
    state = run.state

    def failure() -> BaseException | None:
        return failure_of(
            [each for each in state.outcomes if each is not None],
            state.timed_out,
            limit,
            state.ended_by_us,
            ended_from_outside=state.ended_from_outside,
        )

    yield from _iterate(run, range(len(state.calls)), ordered, failure, lambda index: None)


def _iterate_plan(plan: Plan, planned: PlanRun, ordered: bool) -> Iterator[Outcome]:
    def failure() -> BaseException | None:
        outcomes = [each for each in planned.outcomes if each is not None]
        return call_error(plan, outcomes, planned.run.state.ended_by_us)

    try:
        planned.scheduler.look_at_all()
        wanted = [index for index, state in enumerate(bytes(planned.scheduler.state)) if state]
        yield from _iterate(planned.run, wanted, ordered, failure, planned.release)
    finally:
        planned.note()
        planned.close()


def _iterate(
    run: Run,
    wanted: Any,
    ordered: bool,
    failure: Callable[[], BaseException | None],
    release: Callable[[int], None],
) -> Iterator[Outcome]:
    outcomes = run.state.outcomes
    yielded: set[int] = set()
    waiting = iter(wanted)
    following = next(waiting, None)
    try:
        run.start()
        for index in run.as_completed():
            if not outcomes.has(index):
                continue  # it is being made again
            if _failed(outcomes[index]):
                run.terminate()
                error = failure()
                assert error is not None
                raise error
            ready = [] if ordered else [index]
            while ordered and following is not None and outcomes.has(following):
                ready.append(following)
                following = next(waiting, None)
            for each in ready:
                if each not in yielded:
                    yielded.add(each)
                    outcome = outcomes[each]
                    release(each)
                    yield outcome
        while not run.over:
            run.turn(None)
        run.finish()
    except BaseException:
        with suppress(Exception):
            run.abandon_if_owner()
        raise


def _failed(outcome: Outcome) -> bool:
    return not outcome.ok and not isinstance(outcome.error, NotStarted)
