"""docs/policy.rst: runs of reused children, held against a model that has no children."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcall import ChildDied, NotStarted, Pcall, PcallTimeout, TaskCancelled

TIMEOUT = 0.4
# What a call does in one attempt.
OK, TEXT, ARRAY, NAP, FAIL, DIE, KILL, HANG = (
    *("ok", "text", "array", "nap"),
    *("fail", "die", "kill", "hang"),
)
GOOD = [OK, TEXT, ARRAY, NAP]
ERRORS = {FAIL: ValueError, DIE: ChildDied, KILL: ChildDied, HANG: PcallTimeout}
VALUES: dict[str, Any] = {OK: 7, TEXT: "text" * 50, ARRAY: bytearray(b"x") * 40_000, NAP: None}


def attempt(what: str) -> Any:
    if what == FAIL:
        raise ValueError(what)
    if what == DIE:
        os._exit(5)
    if what == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == HANG:
        time.sleep(600)
    if what == NAP:
        time.sleep(0.003)
    return VALUES[what]


def runs_of(path: str) -> Counter[int]:
    with open(path) as file:
        return Counter(int(line.split()[0]) for line in file)


def per_child(path: str) -> Counter[int]:
    with open(path) as file:
        return Counter(int(line.split()[1]) for line in file)


def play(programs: list[list[str]], timeout: float | None, **policy: Any) -> Any:
    """Run calls of which each does, in its n-th attempt, what its program says.

    Returns:
        The outcomes, how often each call was run, and how many runs each child made.
    """
    with tempfile.NamedTemporaryFile("w", prefix="runs-") as record:

        def call(index: int) -> Any:
            fd = os.open(record.name, os.O_RDWR | os.O_APPEND)
            with open(fd) as file:
                number = [int(line.split()[0]) for line in file].count(index)
                os.write(fd, f"{index} {os.getpid()}\n".encode())
            program = programs[index]
            return attempt(program[min(number, len(program) - 1)])

        tolerant = Pcall.options(return_outcomes=True, grace_period=0.5, **policy)
        outcomes = tolerant.pcall(call, timeout, index=range(len(programs)))
        return outcomes, runs_of(record.name), per_child(record.name)


def expected(program: list[str], attempts: int) -> tuple[str, int]:
    """What comes of a call by itself: what its last attempt does, and which that is."""
    for number in range(1, attempts + 1):
        what = program[min(number, len(program)) - 1]
        if what in GOOD:
            return what, number
    return what, attempts


def check(outcome: Any, what: str, attempts: int) -> None:
    assert outcome.attempts == attempts
    assert outcome.ok == (what in GOOD)
    if outcome.ok:
        assert outcome.value == VALUES[what]
        assert type(outcome.value) is type(VALUES[what])
    else:
        assert type(outcome.error) is ERRORS[what]


def programs(*bad: str, most: int = 40) -> st.SearchStrategy[list[list[str]]]:
    step = st.sampled_from([*GOOD, *bad])
    return st.lists(
        st.one_of(
            st.sampled_from([[what] for what in GOOD]), st.lists(step, min_size=1, max_size=3)
        ),
        max_size=most,
    )


POLICY = {
    "max_workers": st.sampled_from([1, 2, 3, 8]),
    "max_tasks_per_child": st.sampled_from([None, None, 2, 5]),
    "retry": st.sampled_from([None, 2, 3]),
}
slowly = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@slowly
@given(calls=programs(FAIL, DIE, KILL), policy=st.fixed_dictionaries(POLICY))
def test_each_call_comes_to_its_own_end(
    each_system: str, calls: list[list[str]], policy: dict[str, Any]
) -> None:
    """With no limit of errors each call's outcome, attempts and runs are what it alone makes."""
    outcomes, runs, children = play(calls, None, max_errors=None, **policy)
    assert len(outcomes) == len(calls)
    for index, program in enumerate(calls):
        what, attempts = expected(program, policy["retry"] or 1)
        check(outcomes[index], what, attempts)
        assert runs[index] == attempts
    assert max(children.values(), default=0) <= (policy["max_tasks_per_child"] or len(calls) * 3)


@settings(slowly, max_examples=10)
@given(calls=programs(FAIL, KILL, HANG, most=12), policy=st.fixed_dictionaries(POLICY))
def test_also_where_time_runs_out(
    each_system: str, calls: list[list[str]], policy: dict[str, Any]
) -> None:
    """A call whose time is up is a failure like any: it costs itself and its child alone."""
    outcomes, runs, _ = play(calls, TIMEOUT, max_errors=None, **policy)
    for index, program in enumerate(calls):
        what, attempts = expected(program, policy["retry"] or 1)
        check(outcomes[index], what, attempts)
        assert runs[index] == attempts


@pytest.mark.fast
@slowly
@given(
    calls=programs(FAIL, DIE, KILL),
    limit=st.integers(0, 4),
    policy=st.fixed_dictionaries({**POLICY, "retry": st.none()}),
)
def test_the_limit_of_errors(
    each_system: str, calls: list[list[str]], limit: int, policy: dict[str, Any]
) -> None:
    """At most one call a worker fails beyond the limit, and what is skipped was never run."""
    outcomes, runs, _ = play(calls, None, max_errors=limit, **policy)
    failed = skipped = 0
    for index, program in enumerate(calls):
        if isinstance(outcomes[index].error, NotStarted):
            skipped += 1
            assert runs[index] == outcomes[index].attempts == 0
        else:
            check(outcomes[index], program[0], 1)
            assert runs[index] == 1
            failed += not outcomes[index].ok
    would_fail = sum(program[0] not in GOOD for program in calls)
    if would_fail <= limit:
        assert (failed, skipped) == (would_fail, 0)
    else:
        assert limit + 1 <= failed <= min(would_fail, limit + policy["max_workers"])


@slowly
@given(
    calls=programs(FAIL, KILL, HANG, most=30),
    moment=st.floats(0, 0.05),
    end=st.sampled_from(["terminate", "kill"]),
    policy=st.fixed_dictionaries({**POLICY, "retry": st.none()}),
)
def test_a_run_that_is_ended_at_any_moment(
    each_system: str,
    calls: list[list[str]],
    moment: float,
    end: str,
    policy: dict[str, Any],
) -> None:
    """Ended at any moment, a run says of each call how it ended, and raises for none of these."""
    run = Pcall.options(max_errors=None, grace_period=0.5, **policy)(
        attempt, iargs=[(program[0],) for program in calls]
    )
    run.start()
    run.wait(moment)
    getattr(run, end)()
    failed_before = any(
        outcome and isinstance(outcome.error, ValueError | ChildDied) for outcome in run.outcomes
    )
    try:
        run.join()
    except Exception:
        assert failed_before
    assert run.done
    assert not run.livings
    for program, outcome in zip(calls, run.outcomes, strict=True):
        if outcome.ok:
            assert program[0] in GOOD
            assert outcome.value == VALUES[program[0]]
        else:
            own = ERRORS.get(program[0], NotStarted)
            assert isinstance(outcome.error, NotStarted | TaskCancelled | ChildDied | own)


@pytest.mark.parametrize("count", [5000])
def test_many_calls_of_which_some_fail(each_system: str, count: int) -> None:
    """Where calls are run in blocks, too, each is run as often as it has to be."""
    calls = [
        [FAIL, OK] if x % 97 == 0 else [KILL, TEXT] if x % 701 == 0 else [OK] for x in range(count)
    ]
    policy = {"max_workers": 3, "max_tasks_per_child": None, "retry": 2, "max_errors": None}
    tolerant = Pcall.options(return_outcomes=True, **policy)
    with tempfile.TemporaryDirectory(prefix="tries-") as folder:

        def call(index: int) -> Any:
            if len(calls[index]) == 1:
                return attempt(calls[index][0])
            again = os.path.exists(f"{folder}/{index}")
            open(f"{folder}/{index}", "w").close()
            return attempt(calls[index][again])

        outcomes = tolerant.pcall(call, index=range(count))
    for program, outcome in zip(calls, outcomes, strict=True):
        check(outcome, program[-1], len(program))
