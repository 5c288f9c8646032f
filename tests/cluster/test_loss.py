"""What happens to calls when workers, nodes or the scheduler of a cluster die."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pcall import ClusterError, NoWorkers, Pcall, Plan, WorkerLost, run
from tests.helpers.waiting import until

pytest.importorskip("distributed", reason="distributed is not installed")

pytestmark = pytest.mark.slow


@pytest.fixture
def own(own_temporary_folder):
    """A cluster of three workers that a test may kill, and its processes."""
    from pcall.cluster import Cluster
    from pcall.engines.dask.local_workers import LocalWorkers

    workers = LocalWorkers(3)
    try:
        with Cluster(workers.address, connect_timeout=30) as made:
            made.await_workers(3, connect_timeout=30)
            made._link.connect_timeout = 2
            yield made, workers
    finally:
        workers.close()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Each test has a cluster of its own, whose client leaves threads to the garbage collector."""


def note(folder, x, seconds=0.0):
    """Leave a file for each time that the call is made."""
    name = f"{x}-{os.getpid()}"
    (folder / name).touch()
    time.sleep(seconds)
    return x


def grandparent():
    """The worker of this call's node."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def kill_worker(x):
    if x == 1:
        os.kill(grandparent(), signal.SIGKILL)
        time.sleep(30)
    return x


def kill_node(x, folder):
    if x == 1 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return x


def test_a_worker_killed_under_its_calls(own, tmp_path):
    """What ran there runs again elsewhere; no other call runs twice, and it is no attempt."""
    cluster, workers = own
    p = Pcall.options(engine=cluster)(note, cargs=[tmp_path], x=range(9), ckwargs={"seconds": 0.5})
    p.start()
    until(lambda: len(list(tmp_path.iterdir())) >= 3, 20)
    os.kill(workers.pids[1], signal.SIGKILL)
    p.join()
    assert p.results == tuple(range(9))
    assert all(outcome.attempts == 1 for outcome in p.outcomes)
    assert 9 <= len(list(tmp_path.iterdir())) <= 11


def test_values_of_a_dead_worker_are_made_again(own, tmp_path):
    """A plan's values that only the dead worker had are made again when they are needed."""
    cluster, workers = own
    plan = Plan()
    parts = [plan.call(bytes, 100_000 + number) for number in range(6)]
    gate = plan.call(note, tmp_path, 0, 1.0)
    for part in parts:
        plan.add_dependency(part, gate)
    sizes = [plan.call(len, part) for part in parts]
    for size in sizes:
        plan.add_dependency(gate, size)

    def kill():
        until(lambda: any(tmp_path.iterdir()), 20)
        os.kill(workers.pids[2], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run(plan, output=sizes, engine=cluster)
    finally:
        killer.join()
    assert found == [100_000 + number for number in range(6)]


def test_a_call_that_kills_its_workers(own):
    """Three workers die under it: then it has failed, with their names; others are made."""
    cluster, _ = own
    options = Pcall.options(engine=cluster, max_errors=None, return_outcomes=True)
    first, second, third = options.pcall(kill_worker, x=range(3))
    assert (first.value, third.value) == (0, 2)
    assert isinstance(second.error, WorkerLost)
    assert len({*second.error.workers}) == 3


def test_a_call_that_kills_its_node(own, tmp_path):
    """A node is started again, and the call is made again."""
    cluster, _ = own
    found = Pcall.options(engine=cluster).pcall(kill_node, x=range(6), ckwargs={"folder": tmp_path})
    assert found == tuple(range(6))


def kill_each_node(x):
    if x == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
    return x


def test_a_call_that_kills_each_node(own):
    """It is ``WorkerLost`` the third time, and costs no other call its result."""
    cluster, _ = own
    options = Pcall.options(engine=cluster, max_errors=None, return_outcomes=True)
    first, second, third = options.pcall(kill_each_node, x=range(3))
    assert (first.value, third.value) == (0, 2)
    assert isinstance(second.error, WorkerLost)
    assert len(second.error.workers) == 3


def test_all_workers_killed(own):
    """Without workers there is one clear error after ``connect_timeout`` seconds."""
    cluster, workers = own
    p = Pcall.options(engine=cluster)(time.sleep, iargs=[(30,)] * 4)
    p.start()
    for pid in workers.pids[1:]:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(NoWorkers):
        p.join()


def test_the_scheduler_killed(own):
    """A scheduler that is gone is one clear error."""
    cluster, workers = own
    p = Pcall.options(engine=cluster, grace_period=1)(time.sleep, iargs=[(30,)] * 4)
    p.start()
    begin = time.monotonic()
    os.kill(workers.pids[0], signal.SIGKILL)
    with pytest.raises(ClusterError):
        p.join()
    assert time.monotonic() - begin < 30
    begin = time.monotonic()
    cluster.close()
    assert time.monotonic() - begin < 20, "close() waits for a scheduler that is gone"
