"""docs/cluster.rst, "Profiles": where the time and the memory of a cluster's calls went."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import pytest

from pcall import Pcall, Plan, Retry, run
from pcall.profiling import CpuProfile, MemoryProfile
from tests.helpers.waiting import until

POLICIES = {"fresh": {}, "reused": {"max_tasks_per_child": None}}
MIB = 1 << 20
kept: list[bytes] = []


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request, cluster):
    """Calls on the cluster, in fresh and in reused children."""
    yield Pcall.options(engine=cluster, max_errors=None, **request.param)
    kept.clear()


def hot(count):
    return sum(i * i for i in range(count))


def work(count):
    """Most of the time goes to hot(). Return the time that the kernel measured."""
    began = time.process_time()
    hot(4 * count)
    sum(list(map(abs, range(3 * count))))
    return time.process_time() - began


def small():
    return len("abc")


def keep(size):
    bytes(2 * size)  # freed at once
    kept.append(bytes(size))  # the line


LINE = keep.__code__.co_firstlineno + 2


def rows_of(profile):
    return profile.stats.stats


def calls_of(profile, name):
    """How often functions of this name were called."""
    return sum(row[1] for function, row in rows_of(profile).items() if function[2] == name)


def seconds_of(profile, name):
    """Their seconds, with those of the functions that they called."""
    return sum(row[3] for function, row in rows_of(profile).items() if function[2] == name)


def finished(made):
    """The run, once it has ended in whatever way."""
    made.start()
    made.wait()
    return made


def size_of(profile, line=LINE):
    """The bytes of a line of this file."""
    for each in profile.statistics():
        if (each.traceback[0].filename, each.traceback[0].lineno) == (__file__, line):
            return each.size
    return 0


def printed(method, **arguments):
    """The text that a method prints."""
    stream = io.StringIO()
    method(file=stream, **arguments)
    return stream.getvalue()


def test_the_hot_function_is_found(policy):
    """It stands first, with its number of calls and the seconds that the kernel measured."""
    p = finished(policy.options(profile="cpu")(work, count=[40_000] * 24))
    profile, measured = p.profile, sum(outcome.value for outcome in p.outcomes)
    assert calls_of(profile, "work") == calls_of(profile, "hot") == 24
    assert seconds_of(profile, "work") == pytest.approx(measured, rel=0.05)
    lines = printed(profile.print_stats, include=__name__).splitlines()
    assert [line.split()[1:3] for line in lines[1:3]] == [["work", "24"], ["hot", "24"]]
    assert seconds_of(profile, "hot") > 0.6 * measured
    assert "getpid" not in printed(profile.print_stats)  # which the library calls


def test_workers_are_those_of_the_cluster(policy, cluster):
    """Profiles are kept apart by the worker that each outcome names."""
    p = finished(policy.options(profile="cpu")(work, count=[3_000] * 24))
    assert set(p.profile.workers) == {outcome.worker for outcome in p.outcomes}
    assert set(p.profile.workers) <= {worker.name for worker in cluster.workers}
    text = printed(p.profile.print_stats, per_worker=True)
    for name in p.profile.workers:
        assert f"worker {name}\n" in text
    assert sum(calls_of(each.profile, "hot") for each in p.outcomes) == 24


def spin(path):
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        end = time.monotonic() + 1.4
        while time.monotonic() < end:
            hot(2_000)
        os.kill(os.getpid(), signal.SIGKILL)
    hot(2_000)


def test_a_killed_and_a_retried_call_count(policy, tmp_path):
    """Both attempts of a call do, the one that was killed with its last snapshot."""
    p = finished(policy.options(profile="cpu", retry=2)(spin, path=[str(tmp_path / "seen")]))
    assert p.outcomes[0].ok
    assert p.outcomes[0].attempts == 2
    assert calls_of(p.profile, "spin") == 2
    assert 0.3 < seconds_of(p.profile, "hot") < 1.5
    assert calls_of(p.outcomes[0].profile, "spin") == 2


def fails_once(path):
    hot(500)
    if not os.path.exists(path):
        with open(path, "w"):
            raise LookupError(path)


def test_all_attempts_of_a_call_count(policy, tmp_path):
    """Those that raised, too."""
    paths = [str(tmp_path / str(number)) for number in range(3)]
    retrying = policy.options(profile="cpu", retry=Retry(3, on=LookupError))
    p = finished(retrying(fails_once, path=paths))
    assert [outcome.attempts for outcome in p.outcomes] == [2, 2, 2]
    assert calls_of(p.profile, "hot") == 6
    assert calls_of(p.outcomes[0].profile, "hot") == 2


def join(parts):
    hot(500)
    return b"".join(parts)


def part(number):
    hot(500)
    return bytes(200_000)


def test_a_plan_whose_values_stay_on_workers(cluster):
    """Its calls are profiled, wherever their values go, and the library's own work is left out."""
    plan = Plan()
    whole = plan.call(join, [plan.call(part, number) for number in range(8)])
    assert run(plan, output=plan.call(len, whole), engine=cluster, profile="cpu") == 1_600_000
    assert calls_of(plan.profile, "hot") == 9
    assert calls_of(plan.profile, "<built-in method builtins.len>") == 1
    assert {os.path.basename(function[0]) for function in rows_of(plan.profile)} <= {
        "~",
        os.path.basename(__file__),
    }


def test_memory_is_found_at_its_line(policy):
    """What calls have kept is counted where they allocated it. Rows come home, no snapshot."""
    p = finished(policy.options(profile="memory")(keep, size=[10 * MIB, 2 * MIB]))
    assert size_of(p.profile) == pytest.approx(12 * MIB, rel=0.01)
    assert size_of(p.outcomes[1].profile) == pytest.approx(2 * MIB, rel=0.01)
    first = printed(p.profile.print_top).splitlines()[0]
    assert f"{os.path.basename(__file__)}:{LINE}" in first
    assert "12.0 MiB" in first
    sizes = [len(content) for _, content in p._run.state.profiles._by_call[0]]
    assert max(sizes) < 20_000


def test_profiling_of_a_cluster(policy, cluster):
    """All calls between start() and stop() count, and none after it."""
    cluster.cpu_profiling.start()
    policy.pcall(work, count=[2_000] * 6)
    p = finished(policy(work, count=[2_000] * 6))
    profile = cluster.cpu_profiling.stop()
    policy.pcall(work, count=[2_000] * 6)
    policy.pcall(small, iargs=[()])
    assert isinstance(profile, CpuProfile)
    assert calls_of(profile, "work") == calls_of(cluster.cpu_profiling, "hot") == 12
    assert calls_of(profile, "small") == 0
    assert "work" in printed(cluster.cpu_profiling.print_stats, max_rows=2)
    assert p.profile is None  # nobody has asked for those of single runs


def slow(path, count):
    while not os.path.exists(path):
        time.sleep(0.01)
    hot(count)


def test_calls_that_end_after_stop_do_not_count(policy, cluster, tmp_path):
    """A run that goes on when the profiling stops has its earlier calls in the profile."""
    first, second = tmp_path / "first", tmp_path / "second"
    with cluster.cpu_profiling as profile:
        p = policy(slow, path=[str(first), str(second)], count=[500, 500])
        p.start()
        first.touch()
        assert until(lambda: p.outcomes[0] is not None)
    second.touch()
    p.join()
    assert calls_of(profile, "slow") == 1


def test_memory_profiling_of_a_cluster(policy, cluster):
    """Two of its profiles can be compared."""
    with cluster.memory_profiling as before:
        policy.pcall(keep, size=[MIB])
    with cluster.memory_profiling as after:
        policy.pcall(keep, size=[10 * MIB])
    assert isinstance(before, MemoryProfile)
    assert size_of(cluster.memory_profiling) == pytest.approx(10 * MIB, rel=0.02)
    first = printed(cluster.memory_profiling.print_top, compare_to=before).splitlines()[0]
    assert f":{LINE}" in first
    assert "+9.0 MiB" in first
    assert after is cluster.memory_profiling.profile


def test_a_run_within_a_profiling_has_its_own_profile(policy, cluster):
    """The option and the cluster's profiling go together, where they are of one kind."""
    with cluster.cpu_profiling as profile:
        p = finished(policy.options(profile="cpu")(work, count=[2_000] * 3))
        assert calls_of(p.profile, "hot") == 3
        memory = policy.options(profile="memory")(work, count=[2_000])
        with pytest.raises(ValueError, match="cpu_profiling is on"):
            memory.start()
    assert calls_of(profile, "hot") == 3


def test_one_profiling_at_a_time(cluster):
    """A call is profiled in one way; to stop what is off is harmless."""
    with cluster.cpu_profiling:
        for other in (cluster.cpu_profiling, cluster.memory_profiling):
            with pytest.raises(RuntimeError, match=r"cpu_profiling\.stop"):
                other.start()
        cluster.memory_profiling.stop()
        assert cluster.cpu_profiling.running
    assert not cluster.cpu_profiling.running
    assert cluster.cpu_profiling.stop() is cluster.cpu_profiling.profile


def test_runs_of_several_threads_in_one_profile(cluster):
    """The calls of all of them count, and the profile can be read meanwhile."""
    calls = Pcall.options(engine=cluster, max_tasks_per_child=None)
    with cluster.cpu_profiling as profile:
        threads = [
            threading.Thread(target=lambda: calls.pcall(work, count=[500] * 20)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            printed(profile.print_stats)
        for thread in threads:
            thread.join()
    assert calls_of(profile, "work") == 60
