"""Which workers get which calls."""

from __future__ import annotations

import os
import time

import pytest

from pcall import (
    CallError,
    ChildProcessException,
    DependenciesFailed,
    NoWorkers,
    Pcall,
    Plan,
    current_call,
    run,
)

pytest.importorskip("distributed", reason="distributed is not installed")


def briefly(x):
    time.sleep(0.05)
    return x


def names(cluster):
    return sorted(worker.name for worker in cluster.workers)


def placed(cluster, locality, count=8):
    options = Pcall.options(engine=cluster, return_outcomes=True, locality=locality)
    return [outcome.worker for outcome in options.pcall(briefly, x=range(count))]


def test_a_required_worker(cluster):
    """Calls that forbid all workers but one run on that one."""
    first, second = sorted(cluster.workers, key=lambda worker: worker.name)
    forbid = [(second, -1)]
    assert placed(cluster, lambda call, workers: forbid) == [first.name] * 8


def test_a_preference_lets_no_worker_idle(cluster):
    """Thirty short calls that all prefer one worker are run by both."""
    preferred = cluster.workers[0].name
    assert set(placed(cluster, lambda call, workers: {preferred: 1}, 30)) == {*names(cluster)}


def test_the_highest_preference_first(cluster):
    """A worker gets the calls that prefer it most, and the others as far as it is free."""
    first, second = names(cluster)
    found = placed(cluster, lambda call, workers: {first if call.index < 4 else second: 2})
    assert found == [first] * 4 + [second] * 4


def test_all_workers_forbidden(cluster):
    """A call that may run nowhere is an error at once, which names it and the workers."""
    with pytest.raises(NoWorkers, match=r"briefly\(x=0\) \(call 0\) may run on none") as info:
        placed(cluster, lambda call, workers: [(worker, -1) for worker in workers])
    assert all(name in str(info.value) for name in names(cluster))


def test_locality_of_planned_calls(cluster):
    """A mapping, or a function of the workers."""
    first, second = names(cluster)
    plan = Plan()
    for number in range(4):
        call = plan.call(briefly, number)
        call.locality = {first: 1} if number % 2 else lambda workers: [(second, 1), (first, -1)]
    found = [outcome.worker for outcome in cluster.execute(plan)]
    assert found == [second, first, second, first]


def test_execute_uses_the_workers_it_is_told(cluster):
    """``workers`` and ``concurrency`` hold for a flat job."""
    first = names(cluster)[0]
    begin = time.monotonic()
    found = list(cluster.execute(Pcall(briefly, x=range(6)), workers=[first], concurrency=1))
    assert [outcome.value for outcome in found] == [*range(6)]
    assert {outcome.worker for outcome in found} == {first}
    assert time.monotonic() - begin > 6 * 0.05
    with pytest.raises(NoWorkers, match="there is no worker 'nobody'"):
        cluster.execute(Plan(), workers=["nobody"])


def fail_once(folder, x):
    if x == 1 and current_call().attempt == 1:
        raise LookupError(x)
    return x


def test_another_attempt_is_made_elsewhere(cluster, tmp_path):
    """A call that raised is tried again on another worker."""
    where = []

    class Seen:
        def begin(self): ...

        def observe(self, events):
            where.extend(event.outcome.worker for event in events if event.kind == "retried")

        def end(self): ...

    options = Pcall.options(engine=cluster, retry=2, return_outcomes=True, progress=Seen())
    outcomes = options.pcall(fail_once, cargs=[tmp_path], x=range(3))
    assert [outcome.value for outcome in outcomes] == [0, 1, 2]
    assert outcomes[1].attempts == 2
    assert where != [outcomes[1].worker]


def fail_at_two(x):
    time.sleep(0.1 * x)
    if x == 2:
        raise LookupError(x)
    return x


def test_execute_raises_the_first_failure(cluster):
    """The first call that fails for good ends all others, and is raised."""
    begin = time.monotonic()
    got = []
    with pytest.raises(ChildProcessException) as info:
        for outcome in cluster.execute(Pcall(fail_at_two, x=[0, 1, 2, 600])):
            got.append(outcome.value)
    assert isinstance(info.value.__cause__, LookupError)
    assert got == [0, 1]
    assert time.monotonic() - begin < 30


def test_settled_calls_are_yielded(cluster):
    """A settled call has 0 attempts; a failed plan raises ``CallError``."""
    plan = Plan()
    given = plan.call(briefly, 1)
    added = plan.call(briefly, given)
    plan.mark_done(given, 5)
    assert [(o.value, o.attempts) for o in cluster.execute(plan)] == [(5, 0), (5, 1)]
    plan.call(fail_at_two, 2)
    with pytest.raises(CallError):
        list(cluster.execute(plan))
    assert added.done


def make(folder):
    """How often it was made, and the node that has made it."""
    with open(folder / "made", "a") as file:
        file.write("x")
    return (folder / "made").stat().st_size, os.getppid()


@pytest.mark.parametrize("how", ["no worker", "the worker", "another worker"])
def test_dependencies_failed(cluster, tmp_path, how):
    """Without a worker's name the dependency is made again; with it, on another worker.

    A report about another worker than the one that made it last is stale: the reporter alone is
    made again.
    """
    here, other = names(cluster)
    named = {"no worker": None, "the worker": here, "another worker": other}[how]
    plan = Plan()
    for name in (here, other):  # both have run a call of this run
        plan.call(briefly, 0).locality = {name: 1}
    first = plan.call(make, tmp_path)
    first.locality = {here: 1}

    def use(value):
        with open(tmp_path / "used", "a") as file:
            file.write("x")
        if (tmp_path / "used").stat().st_size == 1:
            raise DependenciesFailed({named: [first]})
        return value, os.getppid()

    last = plan.call(use, first)
    last.locality = {other: 1}
    (made, there), here = run(plan, output=last, engine=cluster)
    assert made == (1 if how == "another worker" else 2)
    assert (there == here) == (how == "the worker")
