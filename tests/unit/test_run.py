"""The logic of runs on a fake engine, without a process or a clock (docs/design.rst)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcall import ChildDied, DependenciesFailed, NotStarted, Outcome, PcallTimeout, Plan, Retry
from pcall._core.arguments import build_calls
from pcall._core.calls import Calls
from pcall._core.growing_calls import GrowingCalls
from pcall._core.records import Event
from pcall._run import Run
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.rerun_scheduler import RerunScheduler
from tests.helpers.fake_engine import Attempt, FakeEngine, fake_run

FOREVER = Attempt(math.inf, grace=math.inf)


def work(x: int) -> int:
    raise AssertionError("a fake engine calls nothing")


def calls(count: int) -> Calls:
    return build_calls(work, iargs=[(x,) for x in range(count)])


def play(run: Run) -> Run:
    """Run to the end."""
    run.start()
    while not run.over:
        run.turn(None)
    run.finish()
    return run


def outcomes(run: Run) -> list[Outcome]:
    found = list(run.state.outcomes)
    assert None not in found
    return found  # type: ignore[return-value]


def started(engine: FakeEngine) -> list[int]:
    return [index for _, what, index in engine.log if what == "start"]


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.begun = self.ended = 0

    def begin(self) -> None:
        self.begun += 1

    def observe(self, events: Sequence[Event]) -> None:
        self.events += events

    def end(self) -> None:
        self.ended += 1

    def count(self, kind: str) -> int:
        return sum(event.count for event in self.events if event.kind == kind)


# ------------------------------------------------------------ order and workers


def test_all_calls_start_at_once():
    """Without a limit every call starts at once, in call order, and values are in call order."""
    run, engine = fake_run(calls(5), {0: [Attempt(3.0, value="slow")]})
    play(run)
    assert engine.log[:5] == [(0.0, "start", index) for index in range(5)]
    assert [o.value for o in outcomes(run)] == ["slow", 1, 2, 3, 4]


@pytest.mark.parametrize(("limit", "capacity"), [(2, None), (None, 2), (3, 2)])
def test_no_more_calls_at_once_than_workers(limit, capacity):
    """Neither max_workers nor the engine's capacity is exceeded; a free worker takes the next."""
    run, engine = fake_run(calls(5), {0: [Attempt(2.5)]}, max_workers=limit, capacity=capacity)
    play(run)
    assert engine.most_at_once == 2
    starts = [(when, index) for when, what, index in engine.log if what == "start"]
    assert starts == [(0.0, 0), (0.0, 1), (1.0, 2), (2.0, 3), (2.5, 4)]


def test_outcomes_are_iterated_as_calls_end():
    """as_completed yields calls in the order of their ends, those of failed calls too."""
    script = {0: [Attempt(3.0)], 1: [Attempt(2.0, error=ValueError())], 2: [Attempt(1.0)]}
    run, _ = fake_run(calls(3), script)
    run.start()
    assert list(run.as_completed()) == [2, 1, 0]


# ------------------------------------------------------------ retries and limits of errors


def test_a_failed_call_is_retried_after_its_wait():
    """Attempts come after the waits that the rule asks for; the wait blocks no worker."""
    failing = [Attempt(error=OSError()), Attempt(error=OSError()), Attempt(value="at last")]
    run, engine = fake_run(
        calls(4), {0: failing}, max_workers=1, retry=Retry(3, on=OSError, wait=2.0)
    )
    play(run)
    starts = [(when, index) for when, what, index in engine.log if what == "start"]
    assert starts == [(0.0, 0), (1.0, 1), (2.0, 2), (3.0, 0), (4.0, 3), (8.0, 0)]
    first = outcomes(run)[0]
    assert (first.value, first.attempts) == ("at last", 3)


def test_a_call_fails_with_its_last_error():
    """After its last attempt a call has failed, with the error of that attempt."""
    errors = [OSError(number) for number in range(3)]
    run, _ = fake_run(calls(1), {0: [Attempt(error=e) for e in errors]}, retry=3)
    play(run)
    assert outcomes(run)[0].error is errors[2]
    assert outcomes(run)[0].attempts == 3


def test_another_error_is_not_retried():
    """Only the classes of the rule are retried."""
    run, engine = fake_run(calls(1), {0: [Attempt(error=KeyError())]}, retry=Retry(5, on=OSError))
    play(run)
    assert started(engine) == [0]


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_no_call_starts_after_too_many_errors(limit):
    """Once more calls have failed than max_errors, no further one starts; the rest ends."""
    failing = {index: [Attempt(error=ValueError(index))] for index in range(6)}
    run, engine = fake_run(calls(6), failing, max_workers=1, max_errors=limit)
    play(run)
    assert started(engine) == list(range(limit + 1))
    skipped = [o for o in outcomes(run) if isinstance(o.error, NotStarted)]
    assert [o.index for o in skipped] == list(range(limit + 1, 6))
    assert f"call {limit} failed, and max_errors is {limit}" in str(skipped[0].error)


def test_calls_in_flight_are_waited_for():
    """Calls that run when the limit of errors is reached keep their time and their results."""
    script = {0: [Attempt(1.0, error=ValueError())], 1: [Attempt(9.0, value="done")]}
    run, _ = fake_run(calls(3), script, max_workers=2)
    play(run)
    assert [o.ok for o in outcomes(run)] == [False, True, False]
    assert outcomes(run)[1].value == "done"


@pytest.mark.parametrize("max_workers", [None, 4])
def test_calls_in_flight_are_ended_where_the_policy_asks_for_it(max_workers):
    """With fail_fast, one failure too many ends the others at once, as terminate() does."""
    script: dict[int, list[Attempt]] = {index: [Attempt(math.inf)] for index in range(6)}
    script[1] = [Attempt(1.0)]
    script[2] = [Attempt(2.0, error=ValueError("first"))]
    run, engine = fake_run(calls(6), script, max_workers=max_workers, capacity=4, fail_fast=True)
    play(run)
    assert started(engine) == [0, 1, 2, 3, 4]
    ended = [(when, index) for when, what, index in engine.log if what == "SIGTERM"]
    assert ended == [(2.0, 0), (2.0, 3), (2.0, 4)]
    assert run.state.ended_by_us == {0, 3, 4}
    kinds = [type(outcome.error) for outcome in outcomes(run)]
    assert kinds == [ChildDied, type(None), ValueError, ChildDied, ChildDied, NotStarted]


def test_tolerated_failures_end_nothing():
    """With fail_fast as without it, max_errors failures are tolerated, and retries are none."""
    script = {
        0: [Attempt(math.inf)],
        1: [Attempt(1.0, error=OSError()), Attempt(1.0)],
        2: [Attempt(1.0, error=ValueError())],
        3: [Attempt(5.0, error=ValueError())],
    }
    policy = {"retry": Retry(2, on=OSError, wait=1.0), "max_errors": 1, "fail_fast": True}
    run, engine = fake_run(calls(4), script, **policy)
    play(run)
    assert [each for each in engine.log if each[1] == "SIGTERM"] == [(5.0, "SIGTERM", 0)]
    assert [outcome.ok for outcome in outcomes(run)] == [False, True, False, False]


def test_a_failure_gives_up_what_waits_for_another_attempt():
    """With fail_fast a call that waits is not tried again, and fails with its last error."""
    script = {0: [Attempt(1.0, error=OSError())], 1: [Attempt(2.0, error=ValueError())]}
    policy = {"retry": Retry(2, on=OSError, wait=60.0), "fail_fast": True}
    run, engine = fake_run(calls(2), script, **policy)
    play(run)
    assert started(engine) == [0, 1]
    assert [type(outcome.error) for outcome in outcomes(run)] == [OSError, ValueError]
    assert run.state.ended_by_us == set()


def test_what_ignores_the_end_is_killed():
    """What is ended for a failure has the grace period, and no more."""
    script = {0: [FOREVER], 1: [Attempt(1.0, error=ValueError())]}
    run, engine = fake_run(calls(2), script, fail_fast=True, grace_period=3.0)
    play(run)
    assert engine.log[-1] == (4.0, "end", 0)


def test_a_timeout_that_ends_the_run_sends_no_second_signal():
    """With fail_fast too, each call gets one SIGTERM, and all count as out of time."""
    script = {index: [Attempt(math.inf, grace=index)] for index in range(3)}
    run, engine = fake_run(calls(3), script, timeout=5.0, fail_fast=True)
    play(run)
    assert [each for each in engine.log if each[1] == "SIGTERM"] == [
        (5.0, "SIGTERM", index) for index in range(3)
    ]
    assert run.state.timed_out == (0, 1, 2)
    assert run.state.ended_by_us == set()


def test_no_limit_of_errors():
    """With max_errors=None every call runs, whatever fails."""
    failing = {index: [Attempt(error=ValueError())] for index in range(5)}
    run, engine = fake_run(calls(9), failing, max_workers=2, max_errors=None)
    play(run)
    assert started(engine) == list(range(9))
    assert run.state.outcomes.failed == 5


def test_a_lost_process_is_a_failure_of_its_call():
    """A process that dies costs its call alone, and is known to have died."""
    run, _ = fake_run(calls(3), {1: [Attempt(dies=True)]})
    play(run)
    assert [o.ok for o in outcomes(run)] == [True, False, True]
    assert isinstance(outcomes(run)[1].error, ChildDied)
    assert run.state.ended_from_outside == {1}


# ------------------------------------------------------------ timeouts


def test_a_timeout_ends_the_run():
    """With max_errors=0 all running calls are ended when the time of one is up."""
    run, engine = fake_run(
        calls(3), {1: [Attempt(math.inf)], 2: [Attempt(math.inf)]}, timeout=5.0, max_workers=3
    )
    play(run)
    assert (5.0, "SIGTERM", 1) in engine.log
    assert (5.0, "SIGTERM", 2) in engine.log
    assert run.state.timed_out == (1, 2)
    assert [type(o.error) for o in outcomes(run)] == [type(None), PcallTimeout, PcallTimeout]


def test_a_timeout_is_that_calls_failure_alone():
    """With another max_errors only the overdue call is ended, and the others go on."""
    run, engine = fake_run(
        calls(4), {0: [Attempt(math.inf)]}, timeout=5.0, max_workers=1, max_errors=None
    )
    play(run)
    assert started(engine) == [0, 1, 2, 3]
    assert [o.ok for o in outcomes(run)] == [False, True, True, True]
    assert run.state.timed_out == ()


def test_the_timeout_counts_from_the_start_of_the_call():
    """Queued calls do not use their time up."""
    run, _ = fake_run(calls(5), timeout=1.5, max_workers=1)
    play(run)
    assert all(o.ok for o in outcomes(run))


def test_an_overdue_call_is_retried():
    """A timeout is retried where the rule covers it, and each attempt has its own time."""
    script = {0: [Attempt(math.inf), Attempt(math.inf), Attempt(1.0, value="fast")]}
    run, _ = fake_run(calls(1), script, timeout=2.0, retry=3)
    play(run)
    assert outcomes(run)[0].value == "fast"
    assert run.state.overdue == set()


def test_the_grace_period():
    """What ignores SIGTERM is killed when the grace period is over, and not before."""
    run, engine = fake_run(calls(1), {0: [FOREVER]}, timeout=2.0, grace_period=4.0)
    play(run)
    assert engine.log[-1] == (6.0, "end", 0)


def test_a_timeout_is_logged_with_call_and_process(caplog):
    """The log names the timeout, the call and its process."""
    run, _ = fake_run(calls(1), {0: [Attempt(math.inf)]}, timeout=2.0)
    with caplog.at_level(logging.ERROR, "pcall"):
        play(run)
    assert caplog.messages == ["timeout of 2 s: call 0, work(0), is still running in process 1000"]


# ------------------------------------------------------------ ending a run


def test_terminate():
    """Running calls get SIGTERM at once, waiting ones never start, nothing is waited for."""
    run, engine = fake_run(calls(3), {0: [FOREVER]}, max_workers=1, grace_period=5.0)
    run.start()
    run.terminate()
    assert (0.0, "SIGTERM", 0) in engine.log
    assert not run.over
    play_on(run)
    assert started(engine) == [0]
    assert run.state.ended_by_us == {0, 1, 2}
    assert engine.log[-1] == (5.0, "end", 0)


def test_kill():
    """SIGKILL, which nothing survives."""
    run, engine = fake_run(calls(2), {0: [FOREVER], 1: [FOREVER]})
    run.start()
    run.kill()
    play_on(run)
    assert [what for _, what, _ in engine.log[2:4]] == ["SIGKILL", "SIGKILL"]
    assert run.over
    assert not engine.is_open


def test_what_breaks_into_a_turn_ends_the_run():
    """An exception out of a turn goes on once every call has been ended."""

    class Alarm(Exception):
        pass

    run, engine = fake_run(calls(2), {0: [FOREVER], 1: [FOREVER]}, grace_period=1.0)
    run.start()
    poll, engine.poll = engine.poll, lambda timeout: raise_once()  # type: ignore[method-assign]

    def raise_once() -> list[int]:
        engine.poll = poll  # type: ignore[method-assign]
        raise Alarm

    with pytest.raises(Alarm):
        run.turn(None)
    assert run.over
    assert not engine.is_open
    assert [index for _, what, index in engine.log if what == "end"] == [0, 1]


def test_no_calls():
    """A run without calls is over, and opens nothing."""
    run, engine = fake_run(calls(0))
    run.start()
    assert run.over
    assert not engine.is_open


def play_on(run: Run) -> None:
    for _ in range(20_000):
        if run.over:
            break
        run.turn(None)
    assert run.over, "there is no end to it"
    run.finish()


# ------------------------------------------------------------ growing


def test_a_run_grows_while_it_runs():
    """Calls that come later run beside those that are there, up to the limit."""
    growing = GrowingCalls()
    run, engine = fake_run(growing, growing=True, max_workers=2)
    run.start()
    assert not run.over, "more may come"
    for x in range(3):
        growing.append(work, (x,), {})
    run.grow(3)
    run.turn(0)
    assert started(engine) == [0, 1]
    while run.state.outcomes.ended < 3:
        run.turn(None)
    growing.append(work, (3,), {})
    run.grow(1)
    run.seal()
    play_on(run)
    assert [o.value for o in outcomes(run)] == [0, 1, 2, 3]
    assert not engine.is_open


def test_a_sealed_run_that_is_idle_is_over():
    """Without anything to run, sealing ends the run and gives its resources back."""
    growing = GrowingCalls()
    run, engine = fake_run(growing, growing=True)
    run.start()
    assert engine.is_open
    run.seal()
    assert run.over
    assert not engine.is_open


def test_calls_that_come_after_the_end_are_not_started():
    """A run that was stopped reports later calls as not started, with the reason."""
    growing = GrowingCalls()
    run, engine = fake_run(growing, growing=True, max_workers=1)
    growing.append(work, (0,), {})
    run.state.scheduler.add(1)
    run.start()
    run.terminate()
    growing.append(work, (1,), {})
    run.grow(1)
    run.seal()
    play_on(run)
    assert started(engine) == [0]
    assert isinstance(outcomes(run)[1].error, NotStarted)


def test_observers_are_told_of_calls_that_come_later():
    """Calls that come later are reported as planned, and their ends as any other's."""
    growing, recorder = GrowingCalls(), Recorder()
    run, _ = fake_run(growing, growing=True, progress=recorder)
    run.start()
    for x in range(3):
        growing.append(work, (x,), {})
        run.grow(1)
    run.seal()
    play_on(run)
    assert recorder.count("planned") == recorder.count("started") == recorder.count("done") == 3


# ------------------------------------------------------------ progress


def test_events_add_up():
    """Each call is planned once, and ends once: done, failed or skipped."""
    recorder = Recorder()
    script = {
        0: [Attempt(error=OSError()), Attempt(value=0)],
        2: [Attempt(error=ValueError())],
    }
    run, _ = fake_run(
        calls(6), script, max_workers=1, retry=Retry(2, on=OSError), progress=recorder
    )
    play(run)
    found = {kind: recorder.count(kind) for kind in ("planned", "done", "failed", "retried")}
    assert found == {"planned": 6, "done": 2, "failed": 1, "retried": 1}
    assert recorder.count("skipped") == 3
    assert (recorder.begun, recorder.ended) == (1, 1)


def test_observers_are_told_of_the_end_of_an_interrupted_run():
    """Also a run that was abandoned has an end."""
    recorder = Recorder()
    run, _ = fake_run(calls(2), {0: [FOREVER]}, progress=recorder, grace_period=1.0)
    run.start()
    run.abandon()
    assert recorder.ended == 1


# ------------------------------------------------------------ plans


def test_dependent_calls_of_a_failed_one_are_skipped():
    """Calls that need a failed one never start, and say which one that was."""
    plan = Plan()
    first = plan.call(work, 0)
    second = plan.call(work, first)
    plan.call(work, second)
    plan.call(work, 3)
    run, engine = plan_run(plan, {0: [Attempt(error=ValueError())]}, max_errors=None)
    play(run)
    assert started(engine) == [0, 3]
    assert str(outcomes(run)[2].error).endswith(
        "it needs <call 1: work>, which was not started, either"
    )


def test_a_rerun_of_dependencies():
    """DependenciesFailed has the named calls executed again, and then the call: no attempt."""
    plan = Plan()
    first = plan.call(work, 0)
    second = plan.call(work, first)
    failed = DependenciesFailed({"input": [first]})
    script = {
        0: [Attempt(value="old"), Attempt(value="new")],
        1: [Attempt(error=failed), Attempt(value="fine")],
    }
    run, engine = plan_run(plan, script, output=[second.index])
    play(run)
    assert started(engine) == [0, 1, 0, 1]
    assert outcomes(run)[1].value == "fine"


def test_a_call_that_is_never_content_fails():
    """Reruns are bounded: then DependenciesFailed is the call's failure."""
    plan = Plan()
    first = plan.call(work, 0)
    plan.call(work, first)
    script = {1: [Attempt(error=DependenciesFailed({"input": [first]}))] * 9}
    run, engine = plan_run(plan, script)
    play(run)
    assert isinstance(outcomes(run)[1].error, DependenciesFailed)
    assert started(engine) == [0, 1] * 4


def plan_run(
    plan: Plan,
    script: dict[int, Sequence[Attempt]],
    output: list[int] | None = None,
    max_errors: int | None = 0,
) -> tuple[Run, FakeEngine]:
    planned = PlanCalls(plan)
    scheduler = RerunScheduler(plan, output, keep=True, max_workers=4, max_errors=max_errors)
    return fake_run(planned, script, scheduler=scheduler, max_errors=max_errors)


# ------------------------------------------------------------ everything at once

attempts = st.builds(
    Attempt,
    seconds=st.sampled_from([0.5, 1.0, 2.0, math.inf]),
    value=st.just("value"),
    error=st.sampled_from([None, None, OSError("x"), ValueError("y")]),
    dies=st.sampled_from([False, False, False, True]),
    grace=st.sampled_from([0.0, 1.0, math.inf]),
)


@given(
    st.integers(1, 8),
    st.dictionaries(st.integers(0, 7), st.lists(attempts, min_size=1, max_size=4)),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 0, 1, 2]),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.lists(st.integers(0, 2), max_size=3),
)
@settings(max_examples=300)
def test_whatever_happens_every_call_has_one_outcome(
    count, script, max_workers, max_errors, tries, capacity, grown
):
    """Random scripts, policies and growth: the run ends, in bounds, with an outcome a call."""
    growing = GrowingCalls()
    recorder = Recorder()
    run, engine = fake_run(
        growing,
        script,
        growing=True,
        timeout=3.0,
        capacity=capacity,
        max_workers=max_workers,
        max_errors=max_errors,
        retry=Retry(tries, wait=0.5, jitter=1.0),
        grace_period=2.0,
        progress=recorder,
    )
    run.start()
    for more in [count, *grown]:
        for _ in range(more):
            growing.append(work, (len(growing),), {})
        run.grow(more)
        run.turn(0.25)
    run.seal()
    play_on(run)
    found = outcomes(run)
    assert len(found) == run.state.outcomes.ended == len(growing)
    assert sorted(index for each in run.state.outcomes.completed for index in each) == list(
        range(len(growing))
    )
    ended = sum(recorder.count(kind) for kind in ("done", "failed", "skipped"))
    # A call whose attempts were cut short by the end of the run counts as skipped.
    assert ended == recorder.count("planned") == len(growing)
    assert all(o.attempts <= tries for o in found)
    assert engine.most_at_once <= min(max_workers or 99, capacity or 99)
