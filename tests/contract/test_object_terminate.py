"""README.rst: ``terminate()`` and ``kill()``, and what a later ``join()`` says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcall import ChildDied, ChildProcessException, NotStarted, Pcall, TaskCancelled
from tests.helpers import ROOT
from tests.helpers.processes import has_ended
from tests.helpers.scripts import environment, python
from tests.helpers.waiting import until

pytestmark = pytest.mark.needs("processes")

ENDS = ["terminate", "kill"]


def sleep(ready: Path, seconds: float = 60):
    """Say that this runs, and sleep."""
    ready.touch()
    time.sleep(seconds)


def fail():
    raise ValueError("by itself")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A file that a call makes once it runs."""
    return tmp_path / "ready"


@pytest.mark.fast
@pytest.mark.parametrize("end", ENDS)
def test_running_and_queued_calls(each_system, ready, end):
    """All children are signalled, queued calls never start, join() raises for none of them."""
    run = Pcall.options(max_workers=1)(sleep, iargs=[(ready,), (ready,), (ready,)])
    run.start()
    assert until(ready.exists)
    assert getattr(run, end)() is None
    assert run.pids[1:] == (None, None)
    run.join()
    assert run.results is None
    assert run.done
    assert run.livings == ()
    kinds = [TaskCancelled if end == "terminate" else ChildDied, NotStarted, NotStarted]
    assert [type(o.error) for o in run.outcomes] == kinds
    number = signal.SIGTERM if end == "terminate" else signal.SIGKILL
    assert [o.exitcode for o in run.outcomes] == [-number, None, None]
    assert [o.pid for o in run.outcomes] == list(run.pids)
    assert run.pids[0] is not None
    assert run.pids[1:] == (None, None)


@pytest.mark.parametrize("end", ENDS)
def test_it_does_not_wait(ready, end):
    """terminate() and kill() do not wait for the children's ends."""

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep(ready)

    run = Pcall.options(grace_period=1)(deaf)
    run.start()
    assert until(ready.exists)
    getattr(run, end)()
    if end == "terminate":
        assert run.livings, "it ignores SIGTERM and has its grace period"
    run.join()
    assert run.outcomes[0].exitcode == -signal.SIGKILL


def test_grace_period_ends_by_polling_alone(ready):
    """What ignores SIGTERM is killed after the grace period, also by one who only polls."""

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep(ready)

    run = Pcall.options(grace_period=0.3)(deaf)
    run.start()
    assert until(ready.exists)
    run.terminate()
    run.terminate()
    assert until(lambda: not run.livings)
    assert run.outcomes[0].exitcode == -signal.SIGKILL
    run.join()


def test_kill_after_terminate(ready):
    """kill() ends at once what terminate() left its grace period."""

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep(ready)

    run = Pcall.options(grace_period=600)(deaf)
    run.start()
    assert until(ready.exists)
    run.terminate()
    assert run.wait(0.2) is False
    run.kill()
    assert run.wait(30)
    run.join()
    assert run.outcomes[0].exitcode == -signal.SIGKILL


def test_terminate_lets_clean_up(ready, tmp_path):
    """SIGTERM raises TaskCancelled in the main thread, so that finally blocks run."""

    def careful():
        try:
            sleep(ready)
        finally:
            time.sleep(0.2)
            (tmp_path / "cleaned").touch()

    run = Pcall(careful)
    run.start()
    assert until(ready.exists)
    run.terminate()
    run.join()
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("end", ENDS)
def test_what_children_started_ends_too(each_system, ready, end):
    """The signal goes to all children and what they started."""

    def start_another():
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        ready.write_text(str(other.pid))
        os.rename(ready, f"{ready}-now")
        time.sleep(60)

    run = Pcall(start_another)
    run.start()
    written = Path(f"{ready}-now")
    assert until(written.exists)
    getattr(run, end)()
    run.join()
    assert has_ended(int(written.read_text()))


@pytest.mark.parametrize("end", ENDS)
def test_harmless_when_all_is_over(end):
    """terminate() and kill() change nothing when all is over, joined or not."""
    run = Pcall(abs, iargs=[(-1,), (2,)])
    run.start()
    assert run.wait()
    getattr(run, end)()
    run.join()
    assert run.results == (1, 2)
    getattr(run, end)()
    run.join()
    assert run.results == (1, 2)
    assert [o.exitcode for o in run.outcomes] == [0, 0]


@pytest.mark.parametrize("end", ENDS)
def test_what_had_ended_keeps_its_outcome(ready, end):
    """Outcomes tell which calls ended and how: those that were over keep their value."""
    run = Pcall([abs, sleep], iargs=[(-5,), (ready,)])
    run.start()
    assert until(lambda: run.outcomes[0] and ready.exists())
    getattr(run, end)()
    run.join()
    assert run.results is None
    ended, stopped = run.outcomes
    assert (ended.ok, ended.value, ended.exitcode) == (True, 5, 0)
    assert (stopped.ok, stopped.value) == (False, None)


@pytest.mark.parametrize("end", ENDS)
def test_a_failure_of_before_is_still_raised(ready, end):
    """join() does not raise for calls ended so, but for one that had failed by itself it does."""
    run = Pcall([fail, sleep], iargs=[(), (ready,)])
    run.start()
    assert until(lambda: run.outcomes[0] and ready.exists())
    getattr(run, end)()
    with pytest.raises(ChildProcessException, match="by itself") as caught:
        run.join()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(caught.value.outcomes) == 2


@pytest.mark.parametrize("end", ENDS)
def test_before_start(end):
    """A run that was ended before its start starts nothing."""
    run = Pcall(abs, iargs=[(-1,)])
    getattr(run, end)()
    run.start()
    assert run.pids == (None,)
    run.join()
    assert run.results is None
    assert isinstance(run.outcomes[0].error, NotStarted)


@pytest.mark.parametrize("end", ENDS)
def test_the_ways_to_wait_after_it(ready, end):
    """wait() and as_completed() come to their ends after it, too."""
    run = Pcall.options(max_workers=1)(sleep, iargs=[(ready,), (ready,)])
    run.start()
    assert until(ready.exists)
    getattr(run, end)()
    assert run.wait(30)
    assert sorted(outcome.index for outcome in run.as_completed()) == [0, 1]
    run.join()


@pytest.mark.parametrize("end", ENDS)
def test_return_outcomes(ready, end):
    """With return_outcomes the results of an ended run are its outcomes."""
    run = Pcall.options(return_outcomes=True)(sleep, iargs=[(ready,)])
    run.start()
    assert until(ready.exists)
    getattr(run, end)()
    run.join()
    assert run.results == run.outcomes
    assert not run.results[0].ok


def test_in_a_block(ready):
    """A block whose run was ended is left without an error."""
    with Pcall(sleep, iargs=[(ready,)]) as run:
        assert until(ready.exists)
        run.terminate()
    assert run.results is None


@pytest.fixture(scope="module")
def nobody_reaps() -> str:
    """Return what the script prints until it ends, or is ended."""
    with subprocess.Popen(
        python(ROOT / "tests/scripts/objects.py", "linux", "join_among_orphans"),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            return process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0]


@pytest.mark.engines(why="a script makes the run")
def test_join_ends_where_orphans_are_not_reaped(nobody_reaps):
    """join() does not wait for the zombies of what a call started, which somebody else reaps."""
    assert "joined" in nobody_reaps


@pytest.mark.engines(why="a script makes the run")
def test_orphans_that_this_process_inherits_are_reaped(nobody_reaps):
    """Where orphans become children of the parent, none of them stays a zombie."""
    assert "gone" in nobody_reaps
