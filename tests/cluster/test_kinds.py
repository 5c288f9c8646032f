"""The main promises, on clusters that were started by hand: with nannies, and without."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pcall import (
    ChildDied,
    ChildProcessException,
    DependenciesFailed,
    Pcall,
    PcallTimeout,
    Plan,
    run,
)
from tests.helpers.waiting import until

pytest.importorskip("distributed", reason="distributed is not installed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["nannies", "no nannies"])
def kind(request, own_temporary_folder):
    """A hand-started cluster of three workers."""
    from pcall.cluster import Cluster
    from tests.helpers.hand_started import HandStarted

    started = HandStarted(3, nanny=request.param == "nannies")
    try:
        with Cluster(scheduler_file=started.scheduler_file, connect_timeout=30) as made:
            made.await_workers(3, connect_timeout=60)
            made.nannies = request.param == "nannies"
            yield made
    finally:
        started.close()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """The cluster of the module has programs and connections of its own."""


def where(x, seconds=0.05):
    time.sleep(seconds)
    return x


def fail(x):
    if x == 3:
        raise LookupError(x)
    if x == 4:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x


def link(*groups):
    return 1 + max((value for group in groups for value in group), default=0)


def worker_pid():
    """The process of the worker whose node has forked this call."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def kill_once(x, folder):
    if x == 2 and not os.path.exists(f"{folder}/killed"):
        with open(f"{folder}/killed", "w"):
            pass
        os.kill(worker_pid(), signal.SIGKILL)
        time.sleep(30)
    return x


def lost_first(values, folder):
    if not os.path.exists(f"{folder}/told"):
        with open(f"{folder}/told", "w"):
            pass
        raise DependenciesFailed({None: values})
    return values


def note(x, folder):
    with open(f"{folder}/made", "a") as file:
        file.write(f"{x} ")
    return x


@pytest.mark.parametrize("most", [1, None])
def test_results_errors_and_deaths(kind, most):
    """Each call has its result or its own error; a crash harms no worker."""
    before = {worker.address for worker in kind.workers}
    options = Pcall.options(
        engine=kind, max_errors=None, return_outcomes=True, max_tasks_per_child=most
    )
    outcomes = options.pcall(fail, x=range(12))
    assert [each.value for each in outcomes if each.ok] == [*range(3), *range(5, 12)]
    assert isinstance(outcomes[3].error, LookupError)
    assert isinstance(outcomes[4].error, ChildDied)
    assert {worker.address for worker in kind.workers} == before


def test_a_timeout(kind):
    """A call that runs too long is ended."""
    begin = time.monotonic()
    with pytest.raises(PcallTimeout):
        Pcall.options(engine=kind, grace_period=1).pcall(time.sleep, 0.5, iargs=[(60,)])
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 10])
def test_fully_linked_groups(kind, groups):
    """Each call of a group needs all calls of the one before."""
    plan = Plan()
    group = []
    for _ in range(groups):
        group = [plan.call(link, group) for _ in range(7)]
    assert run(plan, output=group, engine=kind) == [groups] * 7


def test_a_failure_ends_the_siblings(kind):
    """``execute`` raises the original error at once, and starts nothing further."""
    p = Pcall.options(engine=kind, grace_period=1)(
        [lambda: time.sleep(60), lambda: 1 / 0, *[lambda: time.sleep(60)] * 10]
    )
    begin = time.monotonic()
    with pytest.raises(ChildProcessException) as info:
        list(kind.execute(p))
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert time.monotonic() - begin < 20


def test_dependencies_that_failed(kind, tmp_path):
    """They are made again, and then the call; nothing else is."""
    plan = Plan()
    parts = [plan.call(note, number, str(tmp_path)) for number in range(4)]
    last = plan.call(_tell, parts, str(tmp_path))
    # By closure a target knows calls, not values.
    first = parts[1]
    again = plan.call(lambda: lost_first([first], str(tmp_path)) and 5)
    plan.add_dependency(first, again)
    assert run(plan, output=[last, again], engine=kind) == [[0, 1, 2, 3], 5]
    made = sorted((tmp_path / "made").read_text().split())
    assert made == ["0", "1", "1", "2", "3"]


def _tell(values, folder):
    return values


def test_all_workers_are_used(kind):
    """Short calls that all prefer one of three workers use all three."""
    preferred = kind.workers[0].name
    options = Pcall.options(
        engine=kind, return_outcomes=True, locality=lambda call, workers: [(preferred, 2)]
    )
    outcomes = options.pcall(where, x=range(30), ckwargs={"seconds": 0.1})
    assert {each.worker for each in outcomes} == {worker.name for worker in kind.workers}


def test_required_and_forbidden(kind):
    """A call runs where it must, and not where it may not."""
    wanted = kind.workers[1].name

    def only(call, workers):
        return [(each, -1) for each in workers if each.name != wanted]

    options = Pcall.options(engine=kind, return_outcomes=True, locality=only)
    assert {each.worker for each in options.pcall(where, x=range(8))} == {wanted}


def test_a_worker_killed_by_its_call(kind, tmp_path):
    """The call is made again elsewhere; a nanny starts the worker again. The last of all tests."""
    found = Pcall.options(engine=kind).pcall(
        kill_once, x=range(9), ckwargs={"folder": str(tmp_path)}
    )
    assert found == tuple(range(9))
    until(lambda: kind.worker_count == (3 if kind.nannies else 2), 30)
    if kind.nannies:  # a node is there again, too
        options = Pcall.options(engine=kind, return_outcomes=True)
        until(lambda: len({e.worker for e in options.pcall(where, x=range(9))}) == 3, 20)
