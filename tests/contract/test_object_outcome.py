"""README.rst: ``Outcome``, how one call ended, with its measured figures."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest

from pcall import Call, ChildDied, NotStarted, Outcome, Pcall
from tests.helpers.scripts import run_case, system_name

MB = 1 << 20
Quiet = Pcall.options(return_outcomes=True, max_errors=None)


def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x


def burn(seconds):
    """Take so many seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def allocate(size):
    """Touch so many bytes of memory of its own."""
    return len(bytearray(os.urandom(1) * size))


@pytest.mark.needs("processes")
@pytest.mark.fast
def test_of_a_call_that_returned(each_system):
    """index, call, ok, value, error, pid, exitcode, attempts, log of a call that returned."""
    before = time.time()
    (_, outcome) = Quiet.pcall(square, ckwargs={}, x=(1, 3))
    after = time.time()
    assert (outcome.index, outcome.ok, outcome.value, outcome.error) == (1, True, 9, None)
    assert (outcome.exitcode, outcome.attempts, outcome.log) == (0, 1, None)
    assert outcome.pid not in (None, os.getpid())
    assert outcome.call == Call(1, square, (), {"x": 3})
    assert outcome.call.name == "square"
    assert str(outcome.call) == "square(x=3)"
    assert before - 0.1 <= outcome.started <= after + 0.1
    assert 0 <= outcome.duration <= after - before + 0.1
    assert outcome.result() == 9


@pytest.mark.needs("processes")
def test_of_a_call_that_raised(each_system):
    """A call that raised has its error, no value, exit code 1, and figures as well."""
    (outcome,) = Quiet.pcall(square, x=[-3])
    assert (outcome.ok, outcome.value, outcome.exitcode) == (False, None, 1)
    assert outcome.cpu_time > 0
    assert outcome.max_rss > MB
    with pytest.raises(ValueError, match="negative: -3") as caught:
        outcome.result()
    assert caught.value is outcome.error


@pytest.mark.needs("processes")
@pytest.mark.parametrize(
    ("code", "exitcode"), [(None, 0), (0, 0), (3, 3), ("text", 1), (True, 1), (2.5, 1)]
)
def test_the_exitcode_of_a_call_that_exited(code, exitcode):
    """A call that exits has failed; its exit code is as the interpreter would have it."""

    def leave():
        raise SystemExit(code)

    (outcome,) = Quiet.pcall(leave)
    assert not outcome.ok
    assert outcome.error.code == code
    assert outcome.exitcode == exitcode


@pytest.mark.needs("a fresh child")
def test_of_a_call_that_died(each_system):
    """A child that died without answering has exit code and figures all the same."""
    (outcome,) = Quiet.pcall(os._exit, cargs=[7])
    assert isinstance(outcome.error, ChildDied)
    assert (outcome.exitcode, outcome.error.exitcode, outcome.error.signal) == (7, 7, None)
    assert outcome.pid is not None
    assert outcome.cpu_time is not None
    assert outcome.max_rss > MB
    assert outcome.duration >= 0


@pytest.mark.parametrize("max_workers", [1, 0])
def test_of_a_call_that_never_started(max_workers):
    """A call that never started has no process, no figures and no attempt."""
    run = Pcall.options(max_workers=max_workers, return_outcomes=True)
    _, outcome = run.pcall(square, x=[-1, 2])
    assert isinstance(outcome.error, NotStarted)
    assert outcome.attempts == 0
    figures = ["pid", "exitcode", "started", "duration", "cpu_time", "max_rss", "rss_growth"]
    assert [getattr(outcome, name) for name in figures] == [None] * len(figures)
    with pytest.raises(NotStarted, match=r"square\(x=2\)"):
        outcome.result()


def test_cpu_time(each_system):
    """cpu_time is that of this call alone: a busy one's own seconds, next to none asleep."""
    busy, asleep = Quiet.pcall([burn, time.sleep], cargs=[0.6])
    assert 0.55 <= busy.cpu_time <= 5
    assert asleep.cpu_time <= 0.4
    assert asleep.cpu_time < busy.cpu_time
    assert asleep.duration >= 0.6
    assert busy.duration >= 0.55


def test_cpu_time_has_user_and_system_time():
    """cpu_time is user plus system time: a call that only asks the kernel takes it, too."""

    def ask(seconds):
        end = os.times().system + seconds
        with open("/dev/zero", "rb", buffering=0) as file:
            while os.times().system < end:
                file.read(MB)

    (outcome,) = Quiet.pcall(ask, cargs=[0.4])
    assert outcome.cpu_time >= 0.35


@pytest.mark.needs("concurrency")
def test_duration_is_from_start_to_answer():
    """duration counts from the start of the child, so a queued call's excludes its queueing."""
    run = Pcall.options(max_workers=1, return_outcomes=True)
    first, second = run.pcall(time.sleep, iargs=[(0.7,), (0,)])
    assert 0.7 <= first.duration <= 10
    assert second.started >= first.started + 0.6
    assert second.duration < 0.7 + 5
    assert second.started + second.duration >= first.started + first.duration - 0.1


@pytest.mark.needs("processes")
def test_max_rss(each_system):
    """max_rss is the child's peak memory in bytes, rss_growth what it grew over the parent's."""
    small, large = Quiet.pcall(allocate, iargs=[(0,), (50 * MB,)])
    assert large.value == 50 * MB
    assert large.max_rss >= 50 * MB
    assert 48 * MB <= large.rss_growth <= 150 * MB
    assert large.max_rss - small.max_rss >= 40 * MB
    assert 0 <= small.rss_growth <= 40 * MB
    assert small.max_rss >= MB


@pytest.mark.engines(why="a script makes the run")
def test_growth_over_a_large_parent(tmp_path):
    """rss_growth leaves out what the child has of its parent, however large that is."""
    done = run_case(
        "objects.py", "growth_over_a_large_parent", system=system_name(), folder=tmp_path
    )
    assert done.stderr == ""
    whole, small, large = (int(word) for word in done.stdout.split())
    assert whole >= 300
    assert small <= 40
    assert 48 <= large <= 200


def test_frozen():
    """An outcome, and its call, can't be changed."""
    (outcome,) = Quiet.pcall(square, x=[2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.value = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.call.index = 5
    # Python's frozen classes with slots raise one or the other for a new name.
    with pytest.raises((AttributeError, TypeError)):
        outcome.other = 5


def test_result_raises_each_time_the_same():
    """result() raises the error itself, each time that it is asked."""
    (outcome,) = Quiet.pcall(square, x=[-2])
    for _ in range(2):
        with pytest.raises(ValueError, match="negative") as caught:
            outcome.result()
        assert caught.value is outcome.error
        assert any(entry.name == "square" for entry in caught.traceback)


@pytest.mark.needs("processes")
def test_an_outcome_goes_through_another_child():
    """Outcomes can be a call's value: they come home from a nested run as they were."""

    def nested():
        return Quiet.pcall(square, x=[2, -2])

    ((good, bad),) = Pcall.pcall(nested)
    assert (type(good), good.value, good.call.target, good.index) == (Outcome, 4, square, 0)
    assert isinstance(bad.error, ValueError)
    assert (bad.exitcode, bad.attempts) == (1, 1)


@pytest.mark.engines("inline", why="it is about this engine")
def test_figures_inline():
    """max_workers=0 measures what can be measured in this process."""
    policy = Pcall.options(max_workers=0, return_outcomes=True)
    busy, asleep = policy.pcall([burn, time.sleep], cargs=[0.3])
    assert busy.pid == asleep.pid == os.getpid()
    assert busy.cpu_time >= 0.25
    assert asleep.cpu_time <= 0.2
    assert asleep.duration >= 0.3
    assert (busy.attempts, busy.exitcode, busy.max_rss) == (1, None, None)
