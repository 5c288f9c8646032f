"""docs/policy.rst: ``fail_fast``, which ends running calls once too many have failed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pcall import ChildDied, ChildProcessException, NotStarted, Pcall, Retry, TaskCancelled
from tests.helpers.waiting import until, wait_for

Fast = Pcall.options(fail_fast=True)


def fail_last(x: int, folder: Path, last: int = 2) -> None:
    """The last call fails once the others run; these would run for long."""
    (folder / str(x)).touch()
    if x == last:
        assert until(lambda: len(list(folder.iterdir())) > last, 60)
        raise LookupError("enough")
    time.sleep(60)


@pytest.mark.needs("concurrency")
def test_running_calls_are_ended_at_once(tmp_path):
    """The failure is raised; calls that were ended are no failures, and their outcomes tell."""
    began = time.monotonic()
    with pytest.raises(ChildProcessException, match="enough") as info:
        Fast.pcall(fail_last, x=range(3), ckwargs={"folder": tmp_path})
    assert time.monotonic() - began < 30
    error = info.value
    assert isinstance(error.__cause__, LookupError)
    assert [outcome.index for outcome in error.failures] == [2]
    assert "2 more were ended while running" in error.__notes__
    assert [type(o.error) for o in error.outcomes] == [TaskCancelled, TaskCancelled, LookupError]


@pytest.mark.needs("concurrency")
def test_queued_calls_never_start(tmp_path):
    """Beside the running calls, which are ended, the queued ones are given up."""
    policy = Fast.options(max_workers=3, return_outcomes=True)
    outcomes = policy.pcall(fail_last, x=range(6), ckwargs={"folder": tmp_path})
    kinds = [TaskCancelled, TaskCancelled, LookupError, *[NotStarted] * 3]
    assert [type(o.error) for o in outcomes] == kinds
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("max_workers", [0, 1])
def test_one_call_after_another(max_workers):
    """Where no call runs beside another, it comes to the same as without the option."""
    policy = Fast.options(max_workers=max_workers, return_outcomes=True)
    outcomes = policy.pcall(int, iargs=[("1",), ("x",), ("2",)])
    assert [type(o.error) for o in outcomes] == [type(None), ValueError, NotStarted]
    assert outcomes[0].value == 1


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_errors", [1, None])
def test_tolerated_failures_end_nothing(max_errors):
    """As many failures as ``max_errors`` says are tolerated, and calls go on."""

    def work(x):
        if x == 0:
            raise LookupError("tolerated")
        time.sleep(0.3)
        return x

    policy = Fast.options(max_errors=max_errors, max_workers=3, return_outcomes=True)
    assert [o.value for o in policy.pcall(work, x=range(4))] == [None, 1, 2, 3]


@pytest.mark.needs("concurrency")
def test_an_attempt_that_is_repeated_ends_nothing(tmp_path):
    """A call has failed with its last attempt, and not before."""

    def work(x):
        if x == 0:
            with open(tmp_path / "tries", "a") as file:
                file.write("x")
            if os.path.getsize(tmp_path / "tries") < 2:
                raise LookupError("not yet")
            return "at last"
        assert until(lambda: (tmp_path / "tries").exists(), 60)
        time.sleep(0.2)
        return x

    policy = Fast.options(retry=Retry(2), max_workers=2)
    assert policy.pcall(work, x=range(2)) == ("at last", 1)


@pytest.mark.needs("isolation")
def test_a_death_is_a_failure_too(tmp_path):
    """A child that dies ends the others as well; the run is ``ChildDied``."""

    def work(x):
        if x:
            (tmp_path / "runs").touch()
            time.sleep(60)
        wait_for(tmp_path / "runs")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildDied, match="SIGKILL") as info:
        Fast.options(max_workers=2).pcall(work, x=range(2))
    assert [outcome.index for outcome in info.value.failures] == [0]


@pytest.mark.needs("concurrency")
def test_what_resists_is_killed(tmp_path):
    """A call that ignores SIGTERM is killed when the grace period is over."""

    def work(x):
        if x:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (tmp_path / "runs").touch()
            time.sleep(60)
        wait_for(tmp_path / "runs")
        raise LookupError("enough")

    policy = Fast.options(max_workers=2, grace_period=0.2, return_outcomes=True)
    assert policy.pcall(work, x=range(2))[1].exitcode == -signal.SIGKILL


@pytest.mark.needs("concurrency")
def test_polling_ends_running_calls_too(tmp_path):
    """Where the run is only polled, the failure ends the others as well."""
    run = Fast(fail_last, x=range(3), ckwargs={"folder": tmp_path})
    run.start()
    assert until(lambda: run.done, 30)
    with pytest.raises(ChildProcessException, match="enough"):
        run.join()
    assert run.results is None
