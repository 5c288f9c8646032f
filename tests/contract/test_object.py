"""README.rst: the ``Pcall`` object, member by member."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import time
from pathlib import Path

import pytest

from pcall import ChildDied, ChildProcessException, NotStarted, Pcall, TaskCancelled
from tests.helpers.scripts import run_python
from tests.helpers.waiting import SOON, until


def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x


@pytest.fixture
def latch(tmp_path: Path) -> Path:
    """A file that is not there yet; calls may wait for it."""
    return tmp_path / "latch"


def after(latch: Path, x=None):
    """Return once the file is there."""
    assert until(latch.exists, 60)
    return x


def stubborn(ready: Path):
    """Ignore SIGTERM, say so, and go on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.touch()
    time.sleep(60)


# ------------------------------------------------------------------ start and join


@pytest.mark.fast
def test_start_and_join(each_system):
    """start() forks, join() waits and sets results; both return None."""
    run = Pcall(square, x=(1, 2, 3))
    assert run.results is None
    assert run.start() is None
    assert run.results is None
    assert run.join() is None
    assert run.results == (1, 4, 9)


def test_a_second_start_raises(each_system):
    """A second start() raises AssertionError, before and after the end of the run."""
    run = Pcall(square, x=(1, 2))
    run.start()
    with pytest.raises(AssertionError):
        run.start()
    run.join()
    with pytest.raises(AssertionError):
        run.start()
    assert run.results == (1, 4)


@pytest.mark.filterwarnings("ignore:.* never made:ResourceWarning")
@pytest.mark.parametrize("name", ["join", "wait", "as_completed"])
def test_before_start_raises(name):
    """join() raises AssertionError before start(), and so does what waits as it does."""
    with pytest.raises(AssertionError, match="start"):
        getattr(Pcall(square, x=[1]), name)()


@pytest.mark.engines(why="a script makes the run")
@pytest.mark.parametrize("calls", ["p.join()", "p.start(); p.start()"])
def test_misuse_raises_in_optimized_mode_too(calls):
    """start() twice and join() before start() raise AssertionError under ``python -O`` as well."""
    script = (
        "from pcall import Pcall\n"
        "p = Pcall(abs, x=())\n"
        f"try:\n    {calls}\n"
        "except AssertionError:\n    print('raised')\n"
    )
    done = run_python("-O", "-c", script)
    assert (done.stdout, done.stderr) == ("raised\n", "")


def test_a_second_join_gives_the_same_results():
    """A second join() gives the same answer again: the results."""
    run = Pcall(square, x=(1, 2))
    run.start()
    run.join()
    results = run.results
    run.join()
    assert run.results is results == (1, 4)


def test_a_second_join_raises_the_same_error():
    """A second join() gives the same answer again: the exception, which does not grow."""
    run = Pcall(square, x=(1, -2))
    run.start()
    told = []
    for _ in range(3):
        with pytest.raises(ChildProcessException) as caught:
            run.join()
        told.append((caught.value, list(caught.value.__notes__), len(caught.traceback)))
    assert told[0] == told[1] == told[2]
    assert run.results is None


@pytest.mark.needs("no queue")
def test_outcomes_of_a_failed_run():
    """results is None when the run failed; what succeeded stays available in outcomes."""
    run = Pcall(square, x=(1, -2, 3))
    run.start()
    with pytest.raises(ChildProcessException):
        run.join()
    assert run.results is None
    assert [o.value for o in run.outcomes] == [1, None, 9]
    assert [o.index for o in run.outcomes] == [0, 1, 2]


def test_a_run_of_no_calls():
    """A run of no calls is a run: it starts, is done, and its results are ()."""
    with Pcall(square, x=()) as run:
        assert run.done
        assert run.livings == ()
    assert (run.results, run.outcomes, run.childs, run.pids) == ((), (), (), ())
    assert list(run.as_completed()) == []


# ------------------------------------------------------------------ looking while it runs


@pytest.mark.filterwarnings("ignore:.* never made:ResourceWarning")
def test_before_start_nothing_runs():
    """Before start() there are children to look at, and none of them is a process."""
    run = Pcall(square, x=(1, 2))
    assert run.pids == (None, None)
    assert [(c.pid, c.exitcode, c.is_alive()) for c in run.childs] == [(None, None, False)] * 2
    assert (run.livings, run.outcomes, run.done) == ((), (None, None), False)
    with pytest.raises(ValueError, match="not started"):
        _ = run.childs[0].sentinel


@pytest.mark.needs("a fresh child", "processes")
def test_while_it_runs(each_system, latch):
    """outcomes has None for a call not over yet; livings are the children alive now."""
    run = Pcall([after, square], iargs=[(latch, "late"), (3,)])
    run.start()
    assert until(lambda: run.outcomes[1], SOON)
    assert run.outcomes[0] is None
    assert run.outcomes[1].value == 9
    assert run.livings == (run.childs[0],)
    assert run.childs[0].is_alive()
    assert not run.childs[1].is_alive()
    assert not run.done
    assert run.results is None
    latch.touch()
    assert until(lambda: run.done, SOON)
    assert run.livings == ()
    assert run.results is None, "not joined yet"
    run.join()
    assert run.results == ("late", 9)


@pytest.mark.needs("a fresh child", "processes")
def test_childs_are_the_processes(each_system):
    """childs are of the multiprocessing.Process family: pid, name, exitcode, is_alive()."""
    with Pcall(os.getpid, ikwargs=[{}] * 2) as run:
        childs = run.childs
        assert run.pids == tuple(child.pid for child in childs)
    assert run.results == run.pids
    assert run.childs == childs
    assert [(c.exitcode, c.is_alive(), c.name) for c in childs] == [
        (0, False, "getpid-0"),
        (0, False, "getpid-1"),
    ]
    assert all(isinstance(child, multiprocessing.Process) for child in childs)


@pytest.mark.needs("a fresh child", "processes")
def test_queued_calls_have_no_pid(latch):
    """childs and pids have None for a child that has not started."""
    run = Pcall.options(max_workers=1)(after, cargs=[latch], iargs=[("a",), ("b",)])
    run.start()
    first, second = run.childs
    assert run.pids == (first.pid, None)
    assert first.is_alive()
    assert (second.pid, second.is_alive(), second.exitcode) == (None, False, None)
    assert run.livings == (first,)
    latch.touch()
    run.join()
    assert None not in run.pids
    assert run.results == ("a", "b")


@pytest.mark.needs("concurrency")
def test_polling_takes_the_run_forward():
    """Polling is safe: queued calls start and the loop ends, though nobody joins."""
    run = Pcall.options(max_workers=2)(bytes, iargs=[(10_000_000,)] * 6)
    run.start()
    assert until(lambda: not run.livings, 60)
    assert run.done
    run.join()
    assert run.results == (bytes(10_000_000),) * 6


@pytest.mark.needs("a fresh child", "processes")
def test_sentinels_can_be_waited_for(each_system, latch):
    """multiprocessing.connection.wait takes the children's sentinels."""
    run = Pcall([after, square], iargs=[(latch,), (3,)])
    run.start()
    late, quick = (child.sentinel for child in run.childs)
    assert multiprocessing.connection.wait([late, quick], timeout=SOON) == [quick]
    latch.touch()
    assert multiprocessing.connection.wait([late], timeout=SOON) == [late]
    run.join()
    both = [child.sentinel for child in run.childs]
    assert multiprocessing.connection.wait(both, timeout=0) == both


@pytest.mark.needs("a fresh child", "processes")
def test_a_child_can_be_joined_and_ended_by_itself(latch):
    """A child takes join(), terminate() and kill() as one of multiprocessing does."""
    run = Pcall.options(max_errors=None)(after, cargs=[latch], ikwargs=[{}] * 3)
    run.start()
    terminated, killed, left = run.childs
    terminated.terminate()
    killed.kill()
    terminated.join(SOON)
    killed.join(SOON)
    left.join(0)
    assert (terminated.exitcode, killed.exitcode, left.exitcode) == (-15, -9, None)
    latch.touch()
    with pytest.raises(ChildProcessException):
        run.join()
    assert [o.exitcode for o in run.outcomes] == [-15, -9, 0]
    assert isinstance(run.outcomes[0].error, TaskCancelled)
    assert isinstance(run.outcomes[1].error, ChildDied)


# ------------------------------------------------------------------ wait, as_completed


@pytest.mark.needs("concurrency")
def test_wait(each_system, latch):
    """wait() returns done, after that many seconds or at the end, and raises for no call."""
    run = Pcall([after, square], iargs=[(latch,), (-1,)])
    run.start()
    assert run.wait(0) is False
    assert run.wait(timeout=0.05) is False
    latch.touch()
    assert run.wait() is True
    assert run.wait(0) is True
    assert run.results is None
    assert isinstance(run.outcomes[1].error, ValueError)
    with pytest.raises(ChildProcessException):
        run.join()


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_wait_checks_its_timeout(timeout, error):
    """A timeout of wait() that is negative or not a number raises, and harms no call."""
    with Pcall(square, x=[2]) as run, pytest.raises(error, match="timeout"):
        run.wait(timeout)
    assert run.results == (4,)


@pytest.mark.needs("concurrency")
def test_as_completed(each_system, latch):
    """as_completed() yields outcomes as they come, those of failed calls too."""
    run = Pcall([after, square, square], iargs=[(latch, "late"), (3,), (-1,)])
    run.start()
    order = []
    for outcome in run.as_completed():
        order.append(outcome.index)
        if len(order) == 2:
            latch.touch()
    assert sorted(order[:2]) == [1, 2]
    assert order[2:] == [0]
    assert [o.index for o in run.as_completed()] == order, "again, when all is over"
    with pytest.raises(ChildProcessException, match="negative"):
        run.join()


@pytest.mark.parametrize("max_workers", [1, 0])
def test_as_completed_of_skipped_calls(max_workers):
    """as_completed() has each call once, those too that never started."""
    run = Pcall.options(max_workers=max_workers)(square, x=(1, -1, 2, 3))
    run.start()
    outcomes = list(run.as_completed())
    assert [o.index for o in outcomes[:2]] == [0, 1]
    assert sorted(o.index for o in outcomes[2:]) == [2, 3]
    assert [type(o.error) for o in outcomes] == [type(None), ValueError, NotStarted, NotStarted]
    run.wait()


@pytest.mark.needs("concurrency")
def test_leaving_as_completed_early(latch):
    """A loop over as_completed() may be left; the run goes on."""
    with Pcall([square, after], iargs=[(2,), (latch, "late")]) as run:
        for outcome in run.as_completed():
            assert outcome.value == 4
            break
        latch.touch()
    assert run.results == (4, "late")


# ------------------------------------------------------------------ with


@pytest.mark.needs("a fresh child", "processes")
def test_with_starts_and_joins():
    """Entering the block starts, leaving it joins."""
    with Pcall(square, x=(1, 2)) as run:
        assert None not in run.pids
        assert run.results is None
    assert run.results == (1, 4)


def test_with_raises_for_a_failed_call():
    """Leaving the block raises what join() raises."""
    with pytest.raises(ChildProcessException, match="negative: -1"), Pcall(square, x=(1, -1)):
        pass


@pytest.mark.needs("processes")
def test_with_an_exception(each_system, tmp_path):
    """On an exception the children are terminated and reaped, and the exception goes on."""
    policy = Pcall.options(grace_period=0.2, max_workers=2)
    ready = [tmp_path / name for name in "ab"]
    with pytest.raises(LookupError, match="mine"), policy(stubborn, iargs=[*zip(ready), ()]) as run:
        assert until(lambda: all(path.exists() for path in ready), SOON)
        raise LookupError("mine")
    assert run.livings == ()
    assert [child.exitcode for child in run.childs] == [-9, -9, None]
    run.join()
    assert run.results is None
