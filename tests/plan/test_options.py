"""docs/plans.rst: options of ``run`` and ``run_iter`` that are those of ``Pcall.options``."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest

from pcall import (
    CallError,
    NotStarted,
    PcallTimeout,
    Plan,
    TaskCancelled,
    run,
    run_iter,
)
from tests.helpers.waiting import until

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(("most", "children"), [(1, 12), (5, 3), (None, 1)])
def test_a_child_makes_so_many_calls(most, children):
    """``max_tasks_per_child`` counts as in ``Pcall.options``, in a chain with large values, too."""

    def step(array):
        return numpy.append(array, os.getpid())

    plan = Plan()
    call = plan.call(step, numpy.zeros(300_000))
    for _ in range(11):
        call = plan.call(step, call)
    result = run(plan, output=call, max_workers=1, max_tasks_per_child=most)
    assert len(set(result[300_000:])) == children
    pids = [o.pid for o in run_iter(plan, max_workers=1, max_tasks_per_child=most)]
    assert len(set(pids)) == children


def test_a_wide_plan_runs_in_fresh_children(tmp_path):
    """With one call for each child there are as many children as calls, and all values."""
    plan = Plan()
    parts = [plan.call(abs, -number) for number in range(30)]
    total = plan.call(sum, parts)
    outcomes = list(run_iter(plan, max_tasks_per_child=1, max_workers=3, order_results=False))
    assert len({outcome.pid for outcome in outcomes}) == 31
    assert run(plan, output=[total, parts], max_tasks_per_child=1) == [435, [*range(30)]]


def test_a_child_is_killed_a_grace_period_after_sigterm():
    """A call that ignores SIGTERM is killed once ``grace_period`` is over."""

    def stay():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    plan = Plan()
    plan.call(stay)
    began = time.monotonic()
    with pytest.raises(CallError) as caught:
        run(plan, timeout=0.5, grace_period=0.2, max_errors=None)
    assert isinstance(caught.value.__cause__, PcallTimeout)
    assert time.monotonic() - began < 4  # the usual grace period alone is 5 seconds


def run_for_long(path):
    path.touch()
    time.sleep(60)


def fail_when_there(path):
    assert until(path.exists, 30, 0.01)
    raise LookupError("enough")


def test_a_failure_ends_running_calls(tmp_path):
    """With ``fail_fast`` they are ended at once, and are no failures; the error tells of them."""
    plan = Plan()
    plan.call(run_for_long, tmp_path / "there")
    failed = plan.call(fail_when_there, tmp_path / "there")
    plan.call(str, failed)
    began = time.monotonic()
    with pytest.raises(CallError, match="enough") as caught:
        run(plan, max_workers=2, fail_fast=True)
    assert time.monotonic() - began < 30
    error = caught.value
    assert [outcome.index for outcome in error.failures] == [1]
    assert [type(o.error) for o in error.outcomes] == [TaskCancelled, LookupError, NotStarted]
    assert "1 more was ended while running" in error.__notes__


@pytest.mark.parametrize("order_results", [True, False])
def test_outcomes_of_ended_calls_are_yielded(tmp_path, order_results):
    """``run_iter`` with ``fail_fast`` yields each call once, those that were ended too."""
    plan = Plan()
    plan.call(run_for_long, tmp_path / "there")
    plan.call(fail_when_there, tmp_path / "there")
    made = run_iter(plan, max_workers=2, fail_fast=True, order_results=order_results)
    errors = {outcome.index: type(outcome.error) for outcome in made}
    assert errors == {0: TaskCancelled, 1: LookupError}


def test_a_call_that_is_marked_as_failed_ends_running_calls(tmp_path):
    """It counts as any failure, also where it comes from another thread."""
    plan = Plan()
    running = plan.call(run_for_long, tmp_path / "there")
    waiting = plan.call(str, running)

    def mark():
        assert until((tmp_path / "there").exists, 30, 0.01)
        plan.mark_failed(waiting, LookupError("from outside"))

    thread = threading.Thread(target=mark)
    thread.start()
    with pytest.raises(CallError, match="from outside"):
        run(plan, max_workers=1, fail_fast=True)
    thread.join()


@pytest.mark.parametrize("tasklog", [True, False])
def test_logging_is_left_alone_where_that_is_asked_for(tmp_path, tasklog):
    """``tasklog=False`` leaves no sections in a log file."""
    handler = logging.FileHandler(tmp_path / "main.log")
    logger = logging.getLogger("plan-options-test")
    logger.addHandler(handler)
    try:
        plan = Plan()
        plan.call(logger.error, "logged")
        run(plan, tasklog=tasklog)
    finally:
        logger.removeHandler(handler)
        handler.close()
    text = (tmp_path / "main.log").read_text()
    assert "logged" in text
    assert ("Begin child log" in text) == tasklog


@pytest.mark.parametrize(
    "wrong", [{"max_tasks_per_child": 0}, {"grace_period": -1}, {"tasklog": 1}]
)
def test_wrong_options_are_told_at_once(wrong):
    """They are checked as those of ``Pcall.options`` are."""
    plan = Plan()
    plan.call(os._exit, 3)
    for way in (run, run_iter):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            way(plan, **wrong)
