"""docs/plans.rst: calls that are settled while a run lasts."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path

import pytest

from pcall import CallError, FailedDependency, NotStarted, Plan, ResultError, Retry, run, run_iter
from tests.helpers.waiting import until

LONG = 60  # seconds that no test takes


@contextlib.contextmanager
def meanwhile(function, *args):
    """Call this in another thread while the block runs."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def note(path: Path) -> int:
    """Note that this was called; how often it was."""
    with open(path, "ab", 0) as file:
        file.write(b".")
    return path.stat().st_size


def sleep_long(path: Path) -> None:
    note(path)
    time.sleep(LONG)


def when_there(path: Path, function, *args):
    assert until(path.exists, 20, 0.01)
    function(*args)


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 3])
@pytest.mark.parametrize("large", [False, True])
def test_a_thread_gives_a_running_call_its_value(tmp_path, max_workers, large):
    """What runs for the call is ended, and what waits gets the value."""
    value = b"x" * 2_000_000 if large else b"x"
    plan = Plan()
    slow = plan.call(sleep_long, tmp_path / "runs")
    after = plan.call(len, plan.call(lambda given: given, slow))
    began = time.monotonic()
    with meanwhile(when_there, tmp_path / "runs", plan.mark_done, slow, value):
        result = run(plan, output=[slow, after], max_workers=max_workers)
    assert result == [value, len(value)]
    assert time.monotonic() - began < LONG / 2
    assert (slow.started, slow.done) == (False, True)


@pytest.mark.needs("concurrency")
def test_what_waits_does_not_wait_for_the_end_of_what_runs(tmp_path):
    """A call that does not mind SIGTERM keeps nothing waiting, and no value of its own counts."""

    def stay():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(tmp_path / "runs")
        end = time.monotonic() + LONG / 2
        while not (tmp_path / "after").exists() and time.monotonic() < end:
            time.sleep(0.01)
        return "too late"

    plan = Plan()
    slow = plan.call(stay)
    after = plan.call(lambda given: (given, note(tmp_path / "after")), slow)
    with meanwhile(when_there, tmp_path / "runs", plan.mark_done, slow, "given"):
        result = run(plan, output=[slow, after], max_workers=2, grace_period=LONG)
    assert result == ["given", ("given", 1)]


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 2])
def test_a_thread_settles_a_call_that_waits(tmp_path, max_workers):
    """A call that has not started never does."""
    plan = Plan()
    gate = plan.call(lambda: (note(tmp_path / "gate"), time.sleep(1)))
    waiting = plan.call(note, tmp_path / "waiting")
    plan.add_dependency(gate, waiting)
    after = plan.call(abs, waiting)
    with meanwhile(when_there, tmp_path / "gate", plan.mark_done, waiting, -5):
        assert run(plan, output=after, max_workers=max_workers) == 5
    assert not (tmp_path / "waiting").exists()


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 2])
@pytest.mark.parametrize("runs", [True, False])
def test_a_thread_fails_a_call(tmp_path, max_workers, runs):
    """What needs the call is skipped, and the run fails from that error."""
    plan = Plan()
    failed = plan.call(sleep_long, tmp_path / "runs")
    gate = plan.call(sleep_long, tmp_path / "gate")
    if not runs:
        plan.add_dependency(gate, failed)
    skipped = plan.call(str, failed)

    def settle():
        plan.mark_failed(failed, LookupError("gone"))
        plan.mark_done(gate, 1)

    with (
        meanwhile(when_there, tmp_path / ("runs" if runs else "gate"), settle),
        pytest.raises(CallError, match="gone") as caught,
    ):
        run(plan, output=[failed, gate, skipped], max_workers=max_workers, max_errors=None)
    assert isinstance(caught.value.__cause__, LookupError)
    assert [o.ok for o in caught.value.outcomes] == [False, True, False]
    assert isinstance(caught.value.outcomes[skipped.index].error, NotStarted)
    assert [o.index for o in caught.value.failures] == [failed.index]


@pytest.mark.needs("concurrency")
def test_a_failure_from_outside_counts():
    """More of them than ``max_errors`` stop the run."""
    plan = Plan()
    slow = plan.call(time.sleep, 1)
    never = plan.call(time.sleep, LONG)
    plan.add_dependency(slow, never)
    failed = plan.call(str)
    plan.add_dependency(never, failed)
    with (
        meanwhile(lambda: (time.sleep(0.3), plan.mark_failed(failed, LookupError("gone")))),
        pytest.raises(CallError, match="gone") as caught,
    ):
        run(plan)
    assert [o.ok for o in caught.value.outcomes] == [True, False, False]


class Marks:
    """An observer that settles calls once so many have started."""

    def __init__(self, count, mark):
        self.count, self.mark = count, mark
        self.seen = {}

    def begin(self):
        pass

    def observe(self, events):
        for event in events:
            self.seen[event.kind] = self.seen.get(event.kind, 0) + event.count
        if self.mark is not None and self.seen.get("started", 0) >= self.count:
            mark, self.mark = self.mark, None
            mark()

    def end(self):
        pass


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 2])
def test_an_observer_settles_calls(tmp_path, max_workers):
    """An observer may do it, in the thread of the run; progress counts each call once."""
    plan = Plan()
    slow = plan.call(time.sleep, LONG)
    waiting = plan.call(str, slow)
    other = plan.call(str, waiting)
    marks = Marks(1, lambda: (plan.mark_done(slow, 1), plan.mark_done(waiting, "w")))
    assert run(plan, output=other, max_workers=max_workers, progress=marks) == "w"
    assert marks.seen["planned"] == marks.seen["done"] == 3
    assert marks.seen["started"] == 1


@pytest.mark.engines("inline", why="it is about calls of this process")
def test_an_observer_settles_calls_of_this_process():
    """Without children what waits can be settled; what runs goes on to its end."""
    plan = Plan()
    first = plan.call(time.sleep, 0.5)  # an observer is told a few times a second
    waiting = plan.call(time.sleep, LONG)
    plan.add_dependency(first, waiting)
    after = plan.call(str, waiting)
    marks = Marks(0, lambda: plan.mark_done(waiting, 3))
    assert run(plan, output=after, max_workers=0, progress=marks) == "3"
    assert marks.seen["planned"] == marks.seen["done"] == 3
    assert marks.seen["started"] == 2


@pytest.mark.needs("concurrency")
def test_a_call_that_waits_for_another_attempt_is_settled(tmp_path):
    """There is no other attempt."""

    def fail():
        note(tmp_path / "tried")
        raise OSError("not yet")

    plan = Plan()
    failing = plan.call(fail)
    after = plan.call(str, failing)
    with meanwhile(
        when_there, tmp_path / "tried", lambda: (time.sleep(0.5), plan.mark_done(failing, 1))
    ):
        assert run(plan, output=after, retry=Retry(3, wait=LONG), max_workers=1) == "1"
    assert (tmp_path / "tried").stat().st_size == 1


@pytest.mark.needs("concurrency")
def test_a_settled_call_runs_out_of_no_time(tmp_path):
    """A call that still runs when it is settled has no timeout any more."""

    def stay():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(tmp_path / "runs")
        time.sleep(3)

    plan = Plan()
    slow = plan.call(stay)
    with meanwhile(when_there, tmp_path / "runs", plan.mark_done, slow, 1):
        assert run(plan, output=slow, timeout=1.5, max_workers=2, grace_period=LONG) == 1


@pytest.mark.needs("concurrency")
def test_what_can_not_be_pickled_fails_the_call(tmp_path):
    """A value that is given during a run has to be picklable, as one that a call returns has."""
    plan = Plan()
    slow = plan.call(sleep_long, tmp_path / "runs")
    plan.call(str, slow)
    with (
        meanwhile(when_there, tmp_path / "runs", plan.mark_done, slow, threading.Lock()),
        pytest.raises(CallError, match="could not be pickled") as caught,
    ):
        run(plan)
    assert isinstance(caught.value.__cause__, ResultError)


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 2])
def test_a_lost_value_is_made_again(tmp_path, max_workers):
    """``FailedDependency`` has the call made again, and what waits gets the new value."""
    plan = Plan()
    source = plan.call(note, tmp_path / "source")
    unneeded = plan.call(note, tmp_path / "unneeded")
    gate = plan.call(lambda *_: (note(tmp_path / "gate"), time.sleep(1)), source, unneeded)
    used = plan.call(lambda number, _: number, source, gate)

    def lose():
        plan.mark_failed(source, FailedDependency())
        plan.mark_failed(unneeded, FailedDependency())

    with meanwhile(when_there, tmp_path / "gate", lose):
        assert run(plan, output=used, max_workers=max_workers) == 2
    assert (tmp_path / "unneeded").stat().st_size == 1
    assert source.done


@pytest.mark.needs("concurrency")
def test_a_lost_value_that_is_wanted_alone_is_made_again(tmp_path):
    """What the caller wants is needed, also when no call is left."""
    plan = Plan()
    source = plan.call(note, tmp_path / "source")
    plan.call(lambda: (note(tmp_path / "gate"), time.sleep(1)))
    with meanwhile(
        when_there,
        tmp_path / "gate",
        lambda: (time.sleep(0.3), plan.mark_failed(source, FailedDependency())),
    ):
        assert run(plan, output=plan.calls, max_workers=1)[0] == 2


@pytest.mark.needs("concurrency")
def test_a_lost_value_that_was_given_is_made(tmp_path):
    """A call that was settled during the run, and whose value is lost, is made after all."""
    plan = Plan()
    source = plan.call(lambda number: note(tmp_path / "source") + number, plan.call(abs, -10))
    first = plan.call(sleep_long, tmp_path / "first")
    plan.add_dependency(first, source)
    second = plan.call(sleep_long, tmp_path / "second")
    plan.add_dependency(source, second)
    used = plan.call(lambda number, _: number, source, second)

    def settle():
        plan.mark_done(source, 5)
        assert until((tmp_path / "second").exists, 20, 0.01)
        plan.mark_failed(source, FailedDependency())
        plan.mark_done(first, 1)
        plan.mark_done(second, 1)

    with meanwhile(when_there, tmp_path / "first", settle):
        assert run(plan, output=used, max_workers=2) in (11, 5)


def test_a_loss_before_a_run_takes_back_what_was_given(tmp_path):
    """A call that is settled no more is made."""
    plan = Plan()
    call = plan.call(note, tmp_path / "made")
    plan.mark_done(call, 7)
    assert call.done
    plan.mark_failed(call, FailedDependency())
    assert not call.done
    assert run(plan, output=call) == 1


@pytest.mark.needs("concurrency")
def test_what_is_over_stays_as_it_was(tmp_path):
    """A mark that comes too late counts for later runs."""
    plan = Plan()
    first = plan.call(note, tmp_path / "first")
    gate = plan.call(lambda: (note(tmp_path / "gate"), time.sleep(0.5)))
    plan.add_dependency(first, gate)
    used = plan.call(lambda number, _: number, first, gate)
    with meanwhile(when_there, tmp_path / "gate", plan.mark_done, first, 9):
        assert run(plan, output=used, max_workers=2) == 1
    assert run(plan, output=used, max_workers=2) == 9


@pytest.mark.needs("concurrency")
def test_the_iteration_yields_settled_calls(tmp_path):
    """Each once, with 0 attempts, from the loop itself, too."""
    plan = Plan()
    first = plan.call(abs, -1)
    slow = plan.call(sleep_long, tmp_path / "slow")
    after = plan.call(str, slow)
    found = []
    for outcome in run_iter(plan, order_results=False, max_workers=2):
        found.append((outcome.index, outcome.ok, outcome.value, outcome.attempts))
        if outcome.index == first.index:
            assert until((tmp_path / "slow").exists, 20, 0.01)
            plan.mark_done(slow, 3)
    assert found == [(0, True, 1, 1), (1, True, 3, 0), (after.index, True, "3", 1)]
