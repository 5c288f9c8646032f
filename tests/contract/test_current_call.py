"""docs/design.rst, "Random numbers": ``current_call()``, what a call can know about itself."""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import threading
from multiprocessing.pool import ThreadPool

import numpy
import pytest

from pcall import CurrentCall, Pcall, Plan, Retry, current_call, pcall, run
from tests.helpers.scripts import run_python

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

POLICIES = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "three a worker": {"max_tasks_per_child": 3},
    "inline": {"max_workers": 0},
}


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request):
    """One of each engine, as a subclass of ``Pcall``."""
    return Pcall.options(**request.param)


def look(i):
    return current_call()


def seeds(entry, count=30):
    return [found.seed for found in entry(look, i=range(count))]


@pytest.mark.fast
def test_a_call_knows_itself(each_system, policy):
    """Each call finds its index, its attempt, its target's name and a seed; the parent nothing."""
    found = policy.pcall(look, i=range(30))
    assert [(each.index, each.attempt, each.name) for each in found] == [
        (i, 1, "look") for i in range(30)
    ]
    assert all(type(each) is CurrentCall for each in found)
    assert len({each.seed for each in found}) == 30
    assert current_call() is None


def test_the_record_is_frozen(policy):
    """The record can't be changed, and is the same each time."""

    def target():
        current = current_call()
        assert current == current_call()
        try:
            current.seed = 1
        except dataclasses.FrozenInstanceError:
            return True

    assert policy.pcall(target) == (True,)


def test_a_seed_has_128_bits(policy):
    """Every part of a seed differs from call to call, so a part of it is a seed, too."""
    found = seeds(policy.pcall, 1000)
    assert all(type(seed) is int and 0 <= seed < 1 << 128 for seed in found)
    for shift in (0, 32, 64, 96):
        assert len({seed >> shift & 0xFFFFFFFF for seed in found}) > 990
    for bit in range(128):
        assert 350 < sum(seed >> bit & 1 for seed in found) < 650
    numpy.random.default_rng(found[0])


def test_a_second_run_has_other_seeds(policy):
    """No two runs share a seed, and a parent that is seeded again gives the same ones again."""
    random.seed(5)
    first, second = seeds(policy.pcall), seeds(policy.pcall)
    assert len({*first, *second}) == 60
    random.seed(5)
    assert [seeds(policy.pcall), seeds(policy.pcall)] == [first, second]


def test_the_seeds_are_the_same_on_all_engines():
    """Which engine runs the calls makes no difference to their seeds."""

    def found(options):
        random.seed(5)
        return seeds(Pcall.options(**options).pcall)

    assert len({tuple(found(options)) for options in POLICIES.values()}) == 1


@pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)
def test_an_attempt_knows_its_number(options):
    """Another attempt of a call has another number and another seed."""
    path = []

    def target(i):
        current = current_call()
        raise LookupError(current.attempt, current.seed)

    def note(error):
        path.append(error.args)
        return True

    entry = Pcall.options(**options, retry=Retry(3, on=note), return_outcomes=True)
    (outcome,) = entry.pcall(target, i=[7])
    found = [*path, outcome.error.args]
    assert [attempt for attempt, _ in found] == [1, 2, 3]
    assert len({seed for _, seed in found}) == 3


def test_in_threads_and_processes_of_a_child(each_system):
    """The threads of a child, and the processes that its target forks, are part of the call."""
    fork = multiprocessing.get_context("fork")

    def target(i):
        with ThreadPool(1) as threads, fork.Pool(1) as processes:
            return current_call(), threads.apply(look, (0,)), processes.apply(look, (0,))

    for i, found in enumerate(pcall(target, i=range(3))):
        assert len(set(found)) == 1
        assert found[0].index == i


def test_nested_calls(policy):
    """A call of a call is a call of its own; what made it finds itself again afterwards."""

    def target(i):
        before = current_call()
        inner = [policy.pcall(look, i=range(2)), pcall(look, i=range(2))]
        assert before == current_call()
        return [before, *inner[0], *inner[1]]

    found = policy.pcall(target, i=range(2))
    assert [[each.index for each in row] for row in found] == [[0, 0, 1, 0, 1], [1, 0, 1, 0, 1]]
    assert len({each.seed for row in found for each in row}) == 10


def test_other_threads_of_the_parent_run_no_call():
    """With ``max_workers=0`` only the thread that runs the call has a current call."""
    found = []

    def target():
        thread = threading.Thread(target=lambda: found.append(current_call()))
        thread.start()
        thread.join()
        return current_call()

    (current,) = Pcall.options(max_workers=0).pcall(target)
    assert (found, current.index) == ([None], 0)
    assert current_call() is None


@pytest.mark.parametrize("max_workers", [0, 2])
def test_in_a_plan(max_workers):
    """A call of a plan knows its number in the plan, and has a seed that repeats."""

    def planned():
        plan = Plan()
        calls = [plan.call(look, i) for i in range(5)]
        last = plan.call(lambda given: (given, current_call()), calls)
        random.seed(3)
        return run(plan, output=last, max_workers=max_workers)

    given, last = planned()
    assert [each.index for each in given] == [0, 1, 2, 3, 4]
    assert (last.index, last.attempt) == (5, 1)
    assert len({each.seed for each in [*given, last]}) == 6
    assert planned() == (given, last)


SCRIPT = """
import sys
from pcall import Pcall, current_call

def look(i):
    return current_call().seed
found = [Pcall.options(max_workers=n).pcall(look, i=range(5)) for n in (None, 0, None)]
assert len({seed for row in found for seed in row}) == 15, found
assert all(seed >> 96 for row in found for seed in row), found
assert not {"random", "numpy"} & set(sys.modules)
"""


def test_without_a_generator():
    """Where neither random nor numpy is imported, nothing imports them, and seeds are there."""
    run_python("-c", SCRIPT)
