"""docs/profiling.rst, "Memory": ``profile="memory"`` tells which lines hold memory."""

from __future__ import annotations

import io
import os
import pickle
import signal
import threading
import time
import tracemalloc

import pytest

from pcall import Pcall, Plan, Retry, pcall, run
from pcall.profiling import MemoryProfile
from tests.helpers.waiting import until

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

MIB = 1 << 20
POLICIES = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "two a worker": {"max_tasks_per_child": 2},
    "inline": {"max_workers": 0},
}
Profiled = Pcall.options(profile="memory", max_errors=None, max_workers=3)
kept: list[bytes] = []


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request):
    """One of each engine, with profiles."""
    yield Profiled.options(**request.param)
    kept.clear()


def keep(size):
    bytes(2 * size)  # freed at once
    kept.append(bytes(size))  # the line


LINE = keep.__code__.co_firstlineno + 2


def finished(made):
    """The run, once it has ended in whatever way."""
    made.start()
    made.wait()
    return made


def size_of(profile, line=LINE):
    """The bytes of a line of this file."""
    found = [
        each.size
        for each in profile.statistics()
        if (each.traceback[0].filename, each.traceback[0].lineno) == (__file__, line)
    ]
    return sum(found)


@pytest.mark.fast
def test_the_line_that_keeps_memory_comes_first(each_system, policy):
    """A call that keeps 10 MB is found at its line; what it freed again is not there."""
    p = finished(policy(keep, size=[10 * MIB] * 3))
    p.join()
    assert isinstance(p.profile, MemoryProfile)
    first = p.profile.statistics()[0]
    assert (first.traceback[0].filename, first.traceback[0].lineno) == (__file__, LINE)
    assert first.size == pytest.approx(30 * MIB, rel=0.01)
    assert size_of(p.profile, LINE - 1) == 0
    printed = io.StringIO()
    p.profile.print_top(limit=1, file=printed)
    assert printed.getvalue().startswith(f"#1 test_profile_memory.py:{LINE}: 30.0 MiB in ")
    assert not any("pcall/_" in each.traceback[0].filename for each in p.profile.statistics())


@pytest.mark.fast
def test_each_call_has_its_own(policy):
    """In reused children, too, a call has what it allocated itself, not what was there."""
    p = finished(policy(keep, size=[MIB, 2 * MIB, 3 * MIB, 4 * MIB]))
    p.join()
    sizes = [size_of(outcome.profile) / MIB for outcome in p.outcomes]
    assert sizes == pytest.approx([1, 2, 3, 4], rel=0.02)


def test_comparing_two_runs():
    """The difference of two runs stands at the line."""
    less, more = (finished(Profiled(keep, size=[size] * 2)).profile for size in (MIB, 3 * MIB))
    printed = io.StringIO()
    more.print_top(limit=1, compare_to=less, file=printed)
    assert printed.getvalue().startswith(
        f"#1 test_profile_memory.py:{LINE}: 6.0 MiB (+4.0 MiB) in "
    )


def in_a_thread(size):
    thread = threading.Thread(target=keep, args=(size,))
    thread.start()
    thread.join()


def makes_calls(size):
    pcall(keep, size=[size, size])


def fails_twice(path, size):
    with open(path, "a") as file:
        file.write("x")
    keep(size)
    if os.path.getsize(path) < 3:
        raise LookupError("not yet")


def test_threads_nested_calls_and_attempts_count(tmp_path):
    """What a call's threads, children and failed attempts held is its own."""
    p = finished(Profiled([in_a_thread, makes_calls], size=[2 * MIB, MIB]))
    p.join()
    for outcome in p.outcomes:
        assert size_of(outcome.profile) == pytest.approx(2 * MIB, rel=0.02)
    retried = Profiled.options(retry=Retry(3, wait=0))
    p = finished(retried(fails_twice, path=[tmp_path / "a"], size=[MIB]))
    p.join()
    assert size_of(p.profile) == pytest.approx(3 * MIB, rel=0.02)


def stop_hard(size):
    keep(size)
    threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    time.sleep(60)


@pytest.mark.slow
def test_a_killed_call_has_its_profile():
    """What it held about a second before its death is there."""
    p = finished(Profiled(stop_hard, size=[5 * MIB]))
    assert not p.outcomes[0].ok
    assert size_of(p.outcomes[0].profile) == pytest.approx(5 * MIB, rel=0.02)


@pytest.mark.fast
def test_a_plan_has_the_profile_of_its_run():
    """``plan.profile`` is a memory profile, too."""
    plan = Plan()
    first = plan.call(keep, MIB)
    plan.add_dependency(first, plan.call(keep, MIB))
    run(plan, profile="memory")
    assert size_of(plan.profile) == pytest.approx(2 * MIB, rel=0.02)


def test_somebody_elses_tracing_goes_on():
    """In this process the user may trace already: it goes on, and calls have their own part."""
    tracemalloc.start()
    try:
        keep(MIB)
        p = finished(Profiled.options(max_workers=0)(keep, size=[2 * MIB]))
        assert tracemalloc.is_tracing()
        assert size_of(p.profile) == pytest.approx(2 * MIB, rel=0.02)
    finally:
        tracemalloc.stop()
        kept.clear()
    finished(Profiled.options(max_workers=0)(keep, size=[2 * MIB]))
    assert not tracemalloc.is_tracing()
    kept.clear()


def test_profiles_can_be_pickled():
    """Rows travel, not snapshots: they are small."""
    p = finished(Profiled(keep, size=[10 * MIB] * 3))
    content = pickle.dumps(p.profile)
    assert len(content) < 10_000
    assert size_of(pickle.loads(content)) == size_of(p.profile)
    until(lambda: not p.livings)
