"""What holds on one machine holds on a cluster."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from pcall import Pcall, Plan, current_call, pcall, run, run_iter

pytest.importorskip("distributed", reason="distributed is not installed")


def draw(_):
    call = current_call()
    return random.random(), call.seed, call.index, call.attempt, call.name


@pytest.mark.parametrize("policy", [{}, {"max_tasks_per_child": None}], ids=["fresh", "reused"])
def test_random_numbers_of_a_seeded_caller(cluster, policy):
    """They are the same as on one machine, and others in the next run."""
    found = []
    for engine in (None, cluster, cluster):
        random.seed(11)
        options = Pcall.options(engine=engine, **policy)
        runs = [options.pcall(draw, iargs=[(n,) for n in range(40)]) for _ in range(3)]
        found.append(runs)
    # Dask's own threads draw nothing in between.
    assert found[0] == found[1] == found[2]
    assert found[2][0] != found[2][1]


def test_random_numbers_of_a_plan(cluster):
    """The same for planned calls."""
    plan = Plan()
    drawn = [plan.call(draw, number) for number in range(6)]
    found = []
    for engine in (None, cluster):
        random.seed(11)
        found.append(run(plan, output=drawn, engine=engine))
    assert found[0] == found[1]


def inner(x):
    return x, os.getppid()


def outer(x):
    return os.getpid(), pcall(inner, x=[x, x + 1])


def test_nested_calls(cluster):
    """A call may make calls of its own, on its machine."""
    for pid, found in Pcall.options(engine=cluster).pcall(outer, x=[1, 5]):
        assert [parent for _, parent in found] == [pid, pid]
    assert found == ((5, pid), (6, pid))


async def later(x):
    await asyncio.sleep(0.01)
    return x


def test_coroutine_functions(cluster):
    """They run to their end in the child, for calls and plans."""
    assert Pcall.options(engine=cluster).pcall(later, x=range(3)) == (0, 1, 2)
    plan = Plan()
    assert run(plan, output=plan.call(later, plan.call(later, 3)), engine=cluster) == 3


def test_quick_calls_go_in_chunks(cluster):
    """Two thousand quick calls are some dozens of messages, and each is made once."""
    p = Pcall.options(engine=cluster, max_tasks_per_child=None)(
        abs, iargs=[(n,) for n in range(2000)]
    )
    with p:
        pass
    assert p.results == tuple(range(2000))
    assert p._run._engine._sent < 400


def test_a_chain_goes_in_chunks(cluster):
    """The links of a chain are no message each."""
    plan = Plan()
    call = plan.call(abs, -1)
    for _ in range(200):
        call = plan.call(abs, call)
    begin = time.monotonic()
    assert run(plan, output=call, engine=cluster) == 1
    assert time.monotonic() - begin < 30


def test_fully_linked_groups(cluster):
    """Each call is made once, after all of the group before it."""
    plan = Plan()
    before = ()
    for _ in range(5):
        group = [plan.call(lambda n, given: (n, len(given)), n, list(before)) for n in range(20)]
        before = tuple(group)
    outcomes = list(run_iter(plan, engine=cluster))
    assert [outcome.value for outcome in outcomes] == [
        (n, 20 if number else 0) for number in range(5) for n in range(20)
    ]
    assert all(outcome.attempts == 1 for outcome in outcomes)


def test_values_go_from_worker_to_worker(cluster):
    """A large value is used on both workers, and does not come to the caller."""
    first, second = (worker.name for worker in cluster.workers)
    plan = Plan()
    large = plan.call(bytes, 5_000_000)
    large.locality = {first: 1}
    sizes = [plan.call(len, large) for _ in range(4)]
    for number, call in enumerate(sizes):
        call.locality = {(first, second)[number % 2]: 1}
    assert run(plan, output=sizes, engine=cluster) == [5_000_000] * 4


def overlap(folder, x):
    (folder / str(x)).touch()
    seen = len(list(folder.iterdir()))
    time.sleep(0.1)
    (folder / str(x)).unlink()
    return seen


def test_max_workers_is_kept(cluster, tmp_path):
    """On all workers together."""
    options = Pcall.options(engine=cluster, max_workers=2)
    assert max(options.pcall(overlap, cargs=[tmp_path], x=range(8))) <= 2


@pytest.mark.slow
def test_a_worker_that_joins_late_is_used(own_temporary_folder):
    """It opens the run, and gets calls."""
    from pcall.cluster import Cluster
    from pcall.engines.dask.local_workers import LocalWorkers

    workers = LocalWorkers(1)
    try:
        with Cluster(workers.address, connect_timeout=30) as cluster:
            cluster.await_workers(1, connect_timeout=30)
            options = Pcall.options(engine=cluster, return_outcomes=True)
            p = options(time.sleep, iargs=[(0.5,)] * 40)
            p.start()
            workers.add()
            p.join()
            assert {outcome.worker for outcome in p.outcomes} == {"0", "1"}
    finally:
        workers.close()


@pytest.mark.slow
def test_a_closed_cluster(own_temporary_folder):
    """It says so."""
    from pcall import ClusterError
    from pcall.cluster import Cluster
    from pcall.engines.dask.local_workers import LocalWorkers

    workers = LocalWorkers(1)
    try:
        cluster = Cluster(workers.address, connect_timeout=30)
        cluster.close()
        cluster.close()
        with pytest.raises(ClusterError, match="was closed"):
            Pcall.options(engine=cluster)(abs, iargs=[(1,)])
    finally:
        workers.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(request, chosen_system):
    """Some clusters are a test's own; those leave threads of dask to the garbage collector."""
