"""README.rst: a ``Pcall`` that is dropped, or could not start, leaves nothing."""

from __future__ import annotations

import gc
import os
import time
import weakref

import pytest

from pcall import Pcall, pcall
from tests.helpers.processes import has_ended
from tests.helpers.scripts import run_case, run_python, system_name

pytestmark = pytest.mark.needs("processes")


@pytest.mark.fast
def test_a_dropped_run_leaves_nothing(each_system):
    """A Pcall that is garbage-collected takes its children with it."""
    run = Pcall(time.sleep, iargs=[(60,)] * 2)
    run.start()
    pids = run.pids
    del run
    gc.collect()
    assert all(has_ended(pid) for pid in pids)


def fail_or_sleep(seconds):
    if not seconds:
        raise LookupError("no time")
    time.sleep(seconds)


@pytest.mark.engines(why="it chooses the engines itself")
@pytest.mark.parametrize("most", [1, None])
def test_a_dropped_run_with_a_failure_leaves_nothing(each_system, most):
    """The traceback of a failure that was looked at does not hold the run."""

    def first_of_a_run():
        run = Pcall.options(max_tasks_per_child=most, max_workers=2)(fail_or_sleep, seconds=(0, 60))
        run.start()
        return next(run.as_completed()), run.livings, weakref.ref(run)

    outcome, living, run = first_of_a_run()
    gc.collect()
    assert isinstance(outcome.error, LookupError)
    assert run() is None
    assert all(has_ended(child.pid) for child in living)


@pytest.mark.engines(why="a script makes the run")
@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise LookupError('mine')", "1 / 0"])
def test_the_end_of_the_interpreter_leaves_nothing(end):
    """An interpreter that ends without join() ends the children, in the grace period."""
    script = (
        "import signal, sys, time\n"
        "from pcall import Pcall\n"
        "def f(deaf):\n"
        "    if deaf: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    time.sleep(60)\n"
        "p = Pcall.options(grace_period=0.3)(f, deaf=(False, True))\n"
        "p.start()\n"
        "print(*p.pids, flush=True)\n"
        f"{end}\n"
    )
    done = run_python("-c", script, status={"": 0, "sys.exit(3)": 3}.get(end, 1))
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert all(has_ended(pid) for pid in pids)


@pytest.mark.engines(why="a script makes the run")
def test_a_start_that_failed_leaves_nothing(tmp_path):
    """Where no descriptor is left the start raises OSError, and takes none with it."""
    done = run_case("objects.py", "start_fails", system=system_name(), folder=tmp_path)
    assert done.stderr == ""
    assert "0 failed 24" in done.stdout


def test_a_failed_fork_leaves_nothing(monkeypatch):
    """Where not one child could be forked, no descriptor is left."""

    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch, pytest.raises(BlockingIOError, match="call 0"):
        patch.setattr(os, "fork", fork)
        pcall(abs, iargs=[(1,), (2,)])
