"""docs/plans.rst: retries, logs, progress, random numbers, coroutines."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time

import pytest

from pcall import CallError, Plan, Retry, run, run_iter


class Seen:
    """An observer that keeps what it is told."""

    def begin(self):
        self.events = []

    def observe(self, events):
        self.events += events

    def end(self):
        pass

    def count(self, kind):
        found = {}
        for event in self.events:
            if event.kind == kind:
                found[event.scope] = found.get(event.scope, 0) + event.count
        return found


@pytest.mark.fast
@pytest.mark.parametrize("max_workers", [0, 2])
def test_progress_counts_by_scope(max_workers):
    """Calls count under their scope's names, or their function's; skipped and unneeded ones too."""

    def fail(value):
        raise ValueError(value)

    plan = Plan()
    with plan.scope("first", 2):
        parts = [plan.call(abs, number) for number in range(20)]
    failed = plan.call(fail, parts)
    skipped = plan.call(str, failed)
    plan.call(os._exit, 3)  # not needed
    seen = Seen()
    with pytest.raises(CallError):
        run(plan, output=[skipped, parts], progress=seen, max_workers=max_workers, max_errors=None)
    name = (failed.name,)
    assert seen.count("planned") == {("first", "2"): 20, name: 1, ("str",): 1}
    assert seen.count("started") == {("first", "2"): 20, name: 1}
    assert seen.count("done") == {("first", "2"): 20}
    assert seen.count("failed") == {name: 1}
    assert seen.count("skipped") == {("str",): 1}


@pytest.mark.parametrize("max_workers", [0, 2])
def test_progress_counts_all_calls_of_a_large_plan(max_workers):
    """All calls are reported as planned, also those that the scheduler has not looked at yet."""
    plan = Plan()
    for number in range(25_000):
        plan.call(abs, number)
    seen = Seen()
    run(plan, progress=seen, max_workers=max_workers)
    assert seen.count("planned") == seen.count("done") == {("abs",): 25_000}


@pytest.mark.needs("concurrency")
def test_logs_come_home_in_plan_order(tmp_path):
    """What calls log to a file comes home as one section each, in plan order."""
    handler = logging.FileHandler(tmp_path / "main.log")
    logger = logging.getLogger("plan-test")
    logger.addHandler(handler)
    try:
        plan = Plan()
        slow = plan.call(lambda: (time.sleep(0.3), logger.error("slow")))
        quick = [plan.call(logger.error, f"quick {number}") for number in range(3)]
        plan.call(lambda *given: logger.error("last"), slow, quick)
        run(plan, max_workers=2)
    finally:
        logger.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "main.log").read_text().splitlines()
    told = [line for line in lines if "child log" not in line]
    assert told == ["slow", "quick 0", "quick 1", "quick 2", "last"]
    assert len(lines) == 15


@pytest.mark.parametrize("max_workers", [1, 3])
def test_random_numbers_repeat_for_a_seeded_parent(max_workers):
    """Each call draws its own numbers, the same again, however many children there are."""

    def draw():
        plan = Plan()
        first = [plan.call(random.random) for _ in range(5)]
        after = [plan.call(lambda given: random.random(), call) for call in first]
        random.seed(7)
        return run(plan, output=[first, after], max_workers=max_workers)

    numbers = draw()
    assert numbers == draw()
    assert len({*numbers[0], *numbers[1]}) == 10


@pytest.mark.parametrize("max_workers", [0, 2])
def test_a_call_is_tried_again(tmp_path, max_workers):
    """``retry`` has a failed call tried again, and what needs it waits for that."""

    def work():
        with open(tmp_path / "attempts", "a") as file:
            file.write(".")
            if file.tell() < 3:
                raise OSError("not yet")
            return file.tell()

    plan = Plan()
    after = plan.call(str, plan.call(work))
    assert run(plan, output=after, max_workers=max_workers, retry=3) == "3"
    (tmp_path / "attempts").unlink()
    with pytest.raises(CallError, match="not yet"):
        run(plan, output=after, max_workers=max_workers, retry=Retry(3, on=ValueError))


def test_retry_may_be_a_decorator():
    """A decorator as ``retry`` is put around each function."""

    def decorate(fn):
        return lambda *args: (fn(*args), "decorated")

    plan = Plan()
    call = plan.call(abs, -3)
    assert run(plan, output=call, retry=decorate) == (3, "decorated")


@pytest.mark.parametrize("max_workers", [0, 1])
def test_a_call_that_raises_stop_iteration_fails_as_any_other(max_workers):
    """It is the cause as itself, and what does not need the call is made."""
    plan = Plan()
    plan.call(next, plan.call(iter, ()))
    other = plan.call(abs, -1)
    outcomes = list(run_iter(plan, max_workers=max_workers, max_errors=None))
    assert type(outcomes[1].error) is StopIteration
    assert outcomes[other.index].value == 1


@pytest.mark.engines("inline", why="it is about this engine")
def test_without_children_a_value_need_not_be_picklable():
    """Where nothing is forked nothing has to be sent."""
    plan = Plan()
    function = plan.call(lambda: lambda x: -x)
    assert run(plan, output=plan.call(lambda f: f(1), function), max_workers=0) == -1


def test_a_coroutine_function_is_run_to_its_end():
    """A coroutine function gets values like any other, and its own result is the value."""

    async def later(value):
        await asyncio.sleep(0)
        return value + 1

    plan = Plan()
    call = plan.call(later, plan.call(later, 1))
    for max_workers in (0, 2):
        assert run(plan, output=call, max_workers=max_workers) == 3


@pytest.mark.needs("concurrency", "inheritance")
def test_calls_run_beside_each_other():
    """Calls that wait for each other's doings run at the same time, with workers for both."""
    reader, writer = os.pipe()
    plan = Plan()
    plan.call(os.read, reader, 1)
    plan.call(os.write, writer, b"x")
    try:
        outcomes = list(run_iter(plan, max_workers=2, timeout=30))
        assert [outcome.value for outcome in outcomes] == [b"x", 1]
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.needs("concurrency")
def test_a_long_call_does_not_hold_up_what_became_ready():
    """A call behind a quick function that this time takes long starts in another child."""

    def work(seconds):
        time.sleep(seconds)
        return time.monotonic()

    plan = Plan()
    for _ in range(50):
        plan.call(work, 0)
    slow = plan.call(work, 5)
    later = [plan.call(work, 0) for _ in range(50)]
    slow_end, *ends = run(plan, output=[slow, *later], max_workers=2)
    assert min(ends) < slow_end


@pytest.mark.needs("isolation", "inheritance")
def test_a_function_of_the_parent_is_inherited():
    """Functions and plain arguments are never pickled: locks and open files will do."""
    lock = threading.Lock()
    plan = Plan()
    call = plan.call(lambda held: held is lock and lock.acquire(False), lock)
    assert run(plan, output=call) is True
    assert not lock.locked()
