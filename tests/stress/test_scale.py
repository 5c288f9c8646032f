"""docs/performance.rst: many calls give right results, and cost the parent nothing that stays."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import resource
import threading
import time
from collections.abc import Iterator

import pytest

from pcall import ChildProcessException, Pcall, PcallTimeout, pcall
from tests.helpers.processes import children, descriptors, resident_memory
from tests.helpers.scripts import run_case

pytestmark = pytest.mark.usefixtures("each_system")
fork = multiprocessing.get_context("fork")
# Shared memory comes in arenas; while this lives, no test opens the first or closes the last.
_arena = fork.Value("i")
MB = 1 << 20


def resident() -> int:
    """Return the bytes of this process's own memory, after a garbage collection."""
    gc.collect()
    return resident_memory()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as the system lets us have, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The number alone is what 5000 are about: once is enough.
@pytest.mark.parametrize(
    ("each_system", "count"),
    [
        *itertools.product(("linux", "portable"), (1, 100, 1000)),
        pytest.param("linux", 5000, marks=pytest.mark.slow),
    ],
    indirect=["each_system"],
)
def test_many_calls(each_system, tmp_path, count):
    """Each of many calls gives its result, and the parent is as it was, but for the results."""
    # In a small process: forks of the one that runs the tests take several times as long.
    run_case("scale.py", "many_calls", count, system=each_system, folder=tmp_path)


def test_descriptors_do_not_pile_up_while_calls_queue():
    """With few workers a run of 300 calls holds descriptors for the running ones alone."""
    run = Pcall.options(max_workers=4)(int, iargs=[()] * 300)
    before, most = len(descriptors()), 0
    run.start()
    while not run.done:
        most = max(most, len(descriptors()))
        run.wait(0.001)
    run.join()
    assert run.results == (0,) * 300
    assert most - before < 40


def fails():
    raise LookupError("one of many")


def test_200_runs_in_a_row_leak_nothing():
    """After 200 runs, good, failed, timed out and dropped ones, nothing more is held."""

    def run_one(n):
        if n % 10 == 1:
            with pytest.raises(ChildProcessException):
                pcall([int, fails])
        elif n % 50 == 2:
            with pytest.raises(PcallTimeout):
                pcall(time.sleep, 0.01, iargs=[(60,)])
        elif n % 50 == 3:
            Pcall(time.sleep, iargs=[(60,)]).start()  # and forgotten
        else:
            assert pcall(bytes, iargs=[(n,), (100_000,)]) == (bytes(n), bytes(100_000))

    for n in range(30):
        run_one(n)
    gc.collect()
    before = len(descriptors()), threading.active_count(), resident()
    for n in range(200):
        run_one(n)
    gc.collect()
    assert (len(descriptors()), threading.active_count()) == before[:2]
    assert not children()
    assert resident() - before[2] < 8 * MB


def test_results_are_freed_with_their_run():
    """Of 20 runs with results of 40 MB each, no result outlives its run."""
    # Above 32 MB the C library gives what is freed back to the system, and below it may not.
    size = 40 * MB
    pcall(bytes, iargs=[(size,)])
    before = len(descriptors()), resident()
    for _ in range(20):
        (value,) = pcall(bytes, iargs=[(size,)])
        assert len(value) == size
    del value
    assert len(descriptors()) == before[0]
    assert resident() - before[1] < size // 2


def test_300_children_alive_at_the_same_time(many_descriptors):
    """300 calls that wait for each other work: without max_workers all run at once."""
    barrier = fork.Barrier(300)
    found = pcall(barrier.wait, iargs=[(60,)] * 300)
    assert sorted(found) == list(range(300))


def test_300_children_can_be_seen_and_ended(many_descriptors):
    """Of 300 sleeping children each is seen living, and all are gone after kill()."""
    run = Pcall(time.sleep, iargs=[(300,)] * 300)
    run.start()
    with contextlib.ExitStack() as stack:
        stack.callback(run.wait)
        stack.callback(run.kill)
        assert len(run.livings) == 300
        assert len(set(run.pids)) == 300
        assert children() >= set(run.pids)
    assert run.livings == ()
    assert not children()
