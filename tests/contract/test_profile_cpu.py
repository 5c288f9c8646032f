"""docs/profiling.rst, "Processor time": ``profile="cpu"`` tells where the time of calls went."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import io
import os
import pickle
import pstats
import signal
import sys
import threading
import time

import pytest

from pcall import Pcall, Plan, Retry, pcall, run, run_iter
from pcall.profiling import CpuProfile
from tests.helpers.processes import descriptors

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

POLICIES = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "two a worker": {"max_tasks_per_child": 2},
    "inline": {"max_workers": 0},
}
FORKING = {name: options for name, options in POLICIES.items() if name != "inline"}
Profiled = Pcall.options(profile="cpu", max_errors=None, max_workers=3)


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request):
    """One of each engine, with profiles."""
    return Profiled.options(**request.param)


@pytest.fixture(params=FORKING.values(), ids=FORKING)
def forking(request):
    """One of each engine with children, with profiles."""
    return Profiled.options(**request.param)


def small(i):
    return i * i


def burn(count):
    total = 0
    for i in range(count):
        total += small(i)
    return total


def rest(count):
    return sum(map(len, map(str, range(count))))


def work(i):
    burn(6_000)
    rest(1_000)
    return i


def finished(made):
    """The run, once it has ended in whatever way."""
    made.start()
    made.wait()
    return made


def calls_of(profile, name):
    """How often functions of this name were called."""
    return sum(row[1] for function, row in rows_of(profile).items() if function[2] == name)


def rows_of(profile):
    return profile.stats.stats


def seconds(profile):
    return sum(row[2] for row in rows_of(profile).values())


@pytest.mark.fast
def test_the_calls_of_each_function_are_exact(each_system, policy):
    """Over 24 calls on 3 workers the burner comes first, with its exact number of calls."""
    p = finished(policy(work, i=range(24)))
    p.join()
    assert p.results == tuple(range(24))
    assert isinstance(p.profile, CpuProfile)
    assert calls_of(p.profile, "work") == calls_of(p.profile, "burn") == 24
    assert calls_of(p.profile, "small") == 24 * 6_000
    printed = io.StringIO()
    p.profile.print_stats(sort_by="tsub", file=printed)
    assert "burn" in printed.getvalue().splitlines()[1]
    assert "pcall" not in "".join(f"{f[0]}{f[2]}" for f in rows_of(p.profile) if f[0] != __file__)


def some_tenths(i):
    end = time.thread_time() + 0.4
    while time.thread_time() < end:
        burn(5_000)


@pytest.mark.slow
def test_the_seconds_are_those_that_the_kernel_measured(forking):
    """The sum is within 5 % of the children's processor time, however busy the machine is."""
    p = finished(forking(some_tenths, i=range(3)))
    p.join()
    measured = sum(outcome.cpu_time for outcome in p.outcomes)
    assert seconds(p.profile) == pytest.approx(measured, rel=0.05)
    (row,) = [row for function, row in rows_of(p.profile).items() if function[2] == "some_tenths"]
    assert row[3] == pytest.approx(measured, rel=0.05)


@pytest.mark.fast
def test_an_outcome_has_the_profile_of_its_call(policy):
    """The profiles of calls are their own, in reused children, too, and sum to the run's."""
    p = finished(policy(burn, count=[10, 200, 3_000, 7_000]))
    p.join()
    assert [calls_of(outcome.profile, "small") for outcome in p.outcomes] == [
        10,
        200,
        3_000,
        7_000,
    ]
    assert [calls_of(outcome.profile, "burn") for outcome in p.outcomes] == [1] * 4
    total = sum(seconds(outcome.profile) for outcome in p.outcomes)
    assert seconds(p.profile) == pytest.approx(total)


@pytest.mark.fast
def test_without_the_option_there_is_none(each_system):
    """There is no profile where none was asked for."""
    p = finished(Pcall(burn, count=[5]))
    assert p.profile is None
    assert p.outcomes[0].profile is None


@pytest.mark.fast
@pytest.mark.parametrize("bad", ["gpu", "CPU", True, 3, ("cpu",)])
def test_a_wrong_kind_is_refused_at_once(bad):
    """The text names the kinds that there are."""
    expected = ValueError if isinstance(bad, str) else TypeError
    with pytest.raises(expected, match="profile must be 'cpu', 'memory' or None, not"):
        Pcall.options(profile=bad)
    plan = Plan()
    plan.call(burn, 1)
    for runs in (run, run_iter):
        with pytest.raises(expected, match="profile must be 'cpu', 'memory' or None, not"):
            runs(plan, profile=bad)


def in_threads(i):
    threads = [threading.Thread(target=burn, args=(2_000,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    burn(2_000)
    for thread in threads:
        thread.join()


def test_threads_of_a_call_count(policy):
    """What a call does in threads that it starts is counted exactly."""
    p = finished(policy(in_threads, i=range(2)))
    p.join()
    assert calls_of(p.profile, "burn") == 8
    assert calls_of(p.profile, "small") == 8 * 2_000
    assert calls_of(p.outcomes[1].profile, "small") == 4 * 2_000


def thread_of_threads(i):
    inner = threading.Thread(target=in_threads, args=(i,))
    inner.start()
    inner.join()


def test_threads_of_threads_count(forking):
    """So do the threads that a call's threads start."""
    p = finished(forking(thread_of_threads, i=[0]))
    p.join()
    assert calls_of(p.profile, "small") == 4 * 2_000


def leave_a_thread():
    threading.Thread(target=keep_calling, daemon=True).start()
    burn(100)


def keep_calling():
    while True:
        rest(1)
        time.sleep(0.001)


def test_a_thread_that_stays_is_not_counted_in_later_calls():
    """A reused child has a call's thread still running: the next call's profile is its own."""
    reused = Profiled.options(max_tasks_per_child=None, max_workers=1)
    p = finished(reused([leave_a_thread, *[count_a_little] * 3]))
    p.join()
    assert calls_of(p.outcomes[0].profile, "keep_calling") <= 1
    for outcome in p.outcomes[1:]:
        assert calls_of(outcome.profile, "rest") == calls_of(outcome.profile, "keep_calling") == 0
        assert calls_of(outcome.profile, "small") == 1_500


def count_a_little():
    burn(1_500)


async def in_a_loop(i):
    await asyncio.sleep(0.001)
    await asyncio.gather(a_task(), a_task())
    return i


async def a_task():
    burn(1_000)
    await asyncio.sleep(0)


@pytest.mark.fast
def test_coroutine_targets_count(policy):
    """A coroutine is run, and profiled, in its event loop."""
    p = finished(policy(in_a_loop, i=range(3)))
    p.join()
    assert p.results == (0, 1, 2)
    assert calls_of(p.profile, "small") == 3 * 2_000


def fails_twice(path):
    with open(path, "a") as file:
        file.write("x")
    burn(1_000)
    if os.path.getsize(path) < 3:
        raise LookupError("not yet")


@pytest.mark.fast
def test_all_attempts_count(policy, tmp_path):
    """A call that was tried three times has the profile of all three attempts."""
    retried = policy.options(retry=Retry(3, wait=0))
    p = finished(retried(fails_twice, path=[tmp_path / "a", tmp_path / "b"]))
    p.join()
    assert [outcome.attempts for outcome in p.outcomes] == [3, 3]
    assert calls_of(p.profile, "fails_twice") == 6
    assert calls_of(p.outcomes[0].profile, "small") == 3_000


def fails(i):
    burn(500)
    raise LookupError(i)


@pytest.mark.fast
def test_failed_calls_count(policy):
    """A call that raises has its profile, its traceback, and the target's lines alone in it."""
    p = finished(policy(fails, i=range(3)))
    assert calls_of(p.profile, "small") == 1_500
    for outcome in p.outcomes:
        frames, tb = [], outcome.error.__traceback__
        while tb is not None:
            frames.append(tb.tb_frame.f_code.co_name)
            tb = tb.tb_next
        assert isinstance(outcome.error, LookupError)
        assert frames[-1] == "fails"


def stop_iteration(i):
    raise StopIteration(i)


@pytest.mark.fast
def test_a_stop_iteration_stays_one(policy):
    """A profiled call that raises StopIteration fails with it."""
    p = finished(policy(stop_iteration, i=range(2)))
    assert [type(outcome.error) for outcome in p.outcomes] == [StopIteration] * 2


def makes_calls(i):
    return pcall(burn, count=[1_000, 2_000])


def makes_reused_calls(i):
    return Pcall.options(max_tasks_per_child=None).pcall(burn, count=[1_000, 2_000])


@pytest.mark.parametrize("target", [makes_calls, makes_reused_calls])
def test_calls_that_a_call_makes_are_part_of_it(policy, target):
    """Nested calls count as their caller's, wherever they run."""
    p = finished(policy(target, i=range(2)))
    p.join()
    assert calls_of(p.profile, "small") == 6_000
    assert calls_of(p.outcomes[1].profile, "small") == 3_000


def stop_hard(i):
    burn(5_000)
    threading.Timer(3.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    spin()


def spin():
    while True:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("options", [FORKING["fresh"], FORKING["reused"]], ids=["fresh", "reused"])
def test_a_killed_call_has_its_profile_but_for_its_last_second(options):
    """What a call had done counts, the function that it was in, too, up to about a second."""
    p = finished(Profiled.options(**options)(stop_hard, i=[0]))
    (outcome,) = p.outcomes
    assert not outcome.ok
    assert calls_of(outcome.profile, "small") == calls_of(p.profile, "small") == 5_000
    assert calls_of(p.profile, "spin") == calls_of(p.profile, "stop_hard") == 1
    spent = {function[2]: row[2] for function, row in rows_of(p.profile).items()}
    assert spent["spin"] > 0


def blocked(i):
    burn(5_000)
    threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    time.sleep(60)


@pytest.mark.slow
def test_a_call_that_was_killed_in_its_sleep_has_its_profile():
    """The snapshot does not wait for the call to come back from a function in C."""
    p = finished(Profiled(blocked, i=[0]))
    assert calls_of(p.profile, "small") == 5_000
    assert calls_of(p.profile, "blocked") == 1


def too_long(i):
    burn(2_000)
    time.sleep(60)


def test_a_call_that_runs_out_of_time_has_its_profile(forking):
    """A timeout costs the call its result, and nothing of its profile."""
    p = finished(forking(too_long, timeout=0.5, i=range(2)))
    assert [outcome.ok for outcome in p.outcomes] == [False, False]
    assert calls_of(p.profile, "small") == 4_000
    assert calls_of(p.profile, "too_long") == 2


def forks(i):
    burn(10)
    if os.fork() == 0:
        burn(1_000)
        os._exit(0)
    os.wait()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_copy_that_the_target_forks_is_not_counted(forking):
    """A process that the target forks itself leaves the profile as it is."""
    p = finished(forking(forks, i=range(3)))
    p.join()
    assert calls_of(p.profile, "small") == 30


@pytest.mark.fast
def test_a_plan_has_the_profile_of_its_last_run():
    """``plan.profile`` is over all calls; a run without the option leaves none."""
    plan = Plan()
    parts = [plan.call(burn, 1_000) for _ in range(4)]
    total = plan.call(sum, parts)
    assert plan.profile is None
    assert run(plan, output=total, profile="cpu") == 4 * burn(1_000)
    assert calls_of(plan.profile, "small") == 4_000
    assert calls_of(plan.profile, "<built-in method builtins.sum>") == 1
    assert not any(
        "pcall" in function[0]
        for function in rows_of(plan.profile)
        if function[2] != "burn" and function[0] != __file__
    )
    outcomes = list(run_iter(plan, profile="cpu"))
    assert [calls_of(outcome.profile, "small") for outcome in outcomes] == [1_000] * 4 + [0]
    assert run(plan, output=parts[0], profile="cpu", max_workers=0) == burn(1_000)
    assert calls_of(plan.profile, "small") == 1_000
    run(plan)
    assert plan.profile is None


@pytest.mark.fast
def test_workers_have_names(policy):
    """``per_worker`` prints a table for each worker; the names are few, whatever runs."""
    p = finished(policy(burn, count=[100] * 12))
    p.join()
    printed = io.StringIO()
    p.profile.print_stats(per_worker=True, include="builtins", exclude="builtins", file=printed)
    heads = [line for line in printed.getvalue().splitlines() if line.startswith("worker")]
    assert tuple(heads) == p.profile.workers
    assert 1 <= len(heads) <= 3


def test_profiles_can_be_pickled_and_saved(tmp_path):
    """A profile is a plain object; ``pstats`` reads what it saves."""
    p = finished(Profiled(burn, count=[100] * 2))
    again = pickle.loads(pickle.dumps(p.profile))
    assert rows_of(again) == rows_of(p.profile)
    outcome = pickle.loads(pickle.dumps(p.outcomes[0]))
    assert calls_of(outcome.profile, "small") == 100
    p.profile.save(tmp_path / "profile")
    assert pstats.Stats(str(tmp_path / "profile")).stats == rows_of(p.profile)
    again.merge(p.profile)
    assert calls_of(again, "small") == 400


def test_the_profile_of_many_calls_is_as_large_as_that_of_few():
    """The merged profile does not grow with the number of calls."""
    reused = Profiled.options(max_tasks_per_child=None)
    few, many = (finished(reused(small, i=range(count))).profile for count in (20, 600))
    assert calls_of(many, "small") == 600
    assert len(pickle.dumps(many)) <= 1.2 * len(pickle.dumps(few)) + 300


def test_nothing_stays_behind():
    """The files of profiles are closed with the run, also where calls were killed."""
    finished(Profiled(burn, count=[1]))
    gc.collect()
    before = descriptors()
    p = finished(Profiled(too_long, timeout=0.2, i=range(3)))
    assert p.profile is not None
    gc.collect()
    assert descriptors() == before


def starts_of_threads():
    names = ("_start_new_thread", "_start_joinable_thread")
    return [getattr(threading, name, None) for name in names]


def test_profiles_in_this_process_leave_it_as_it_was():
    """An inline run gives back the profile function and the starts of threads that it found."""
    seen: list[str] = []

    def look(frame, event, arg):
        seen.append(frame.f_code.co_name)

    before = starts_of_threads()
    if sys.version_info < (3, 12):
        sys.setprofile(look)
    try:
        finished(Profiled.options(max_workers=0)(fails, i=range(2)))
        assert sys.getprofile() is (look if sys.version_info < (3, 12) else None)
    finally:
        sys.setprofile(None)
    assert starts_of_threads() == before


def test_runs_in_threads_of_this_process_are_told_apart():
    """Inline runs in two threads at once count their own calls, and leave nothing behind."""
    before = starts_of_threads()
    made = [Profiled.options(max_workers=0)(in_threads, i=[0]) for _ in range(2)]
    threads = [threading.Thread(target=finished, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert starts_of_threads() == before
    if sys.version_info < (3, 12):  # later there is one profiler for all threads
        assert [calls_of(each.profile, "small") for each in made] == [8_000] * 2


def test_under_somebody_elses_profiler_calls_run():
    """Calls in children are profiled while this process is, and the outer profile is whole."""
    outer = cProfile.Profile()
    outer.enable()
    try:
        p = finished(Profiled(burn, count=[1_000] * 2))
        small(3)
    finally:
        outer.disable()
    assert calls_of(p.profile, "small") == 2_000
    outer.create_stats()
    assert any(function[2] == "small" for function in outer.stats)
