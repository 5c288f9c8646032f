"""docs/progress.rst: what observers are told of a run, whichever way its calls are made."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from pcall import Pcall, Plan, Retry, run_iter

MB = 1 << 20


class Recorder:
    """Keeps all events."""

    def __init__(self):
        self.events = []

    def begin(self):
        pass

    def observe(self, events):
        self.events += events

    def end(self):
        pass

    def counts(self):
        found = Counter()
        for event in self.events:
            found[event.kind] += event.count
        return found


def work(x):
    if x % 50 == 7:
        return len(bytearray(x % 40 * MB))  # memory, and a little time
    if x % 50 == 8:
        time.sleep(0.004)
    if x % 100 == 99:
        raise ValueError(x)
    return x


POLICY = {"max_errors": None, "retry": Retry(2)}


def make(count, max_workers, seen):
    """Run so many calls, and return their outcomes."""
    Watched = Pcall.options(return_outcomes=True, max_workers=max_workers, progress=seen, **POLICY)
    return Watched.pcall(work, x=range(count))


def make_planned(count, seen):
    """The same calls, planned."""
    plan = Plan()
    for x in range(count):
        plan.call(work, x)
    return list(run_iter(plan, progress=seen, **POLICY))


MANY = pytest.mark.engines("reused", why="so many fresh children take long")
RUNS = [(200, 3), (200, 0), pytest.param(3000, 3, marks=MANY)]


def check_counts(seen, outcomes):
    count = len(outcomes)
    bad = count // 100
    counts = seen.counts()
    assert counts["planned"] == count
    assert counts["started"] == count + bad
    assert (counts["done"], counts["failed"], counts["retried"]) == (count - bad, bad, bad)
    failed = [event.outcome.index for event in seen.events if event.kind == "failed"]
    assert sorted(failed) == [o.index for o in sorted(outcomes, key=lambda o: o.index) if not o.ok]


@pytest.mark.parametrize(
    ("count", "max_workers"), [pytest.param(*RUNS[0], marks=pytest.mark.fast), *RUNS[1:]]
)
def test_observers_are_told_of_each_call(count, max_workers, each_system):
    """Each is planned once, starts with each attempt, and ends once."""
    seen = Recorder()
    outcomes = make(count, max_workers, seen)
    assert len(outcomes) == count
    check_counts(seen, outcomes)


@pytest.mark.engines(why="it runs a plan")
def test_observers_are_told_of_each_planned_call(each_system):
    """Each call of a plan is planned once, starts with each attempt, and ends once."""
    seen = Recorder()
    outcomes = make_planned(400, seen)
    assert len(outcomes) == 400
    check_counts(seen, outcomes)


@pytest.mark.parametrize(("count", "max_workers"), RUNS)
def test_figures_are_those_of_the_outcomes(engine, count, max_workers, each_system):
    """The time that calls took, exactly, and the highest memory that one had."""
    seen = Recorder()
    outcomes = make(count, max_workers, seen)
    done = [event for event in seen.events if event.kind == "done"]
    good = [outcome for outcome in outcomes if outcome.ok]
    wall = sum(outcome.duration for outcome in good)
    assert sum(event.wall for event in done) == pytest.approx(wall, abs=1e-6 * count)
    peaks = [outcome.max_rss for outcome in good if outcome.max_rss]
    assert max(event.max_rss for event in done) == max(peaks, default=0)
    if "a fresh child" not in engine.row.lacks:
        cpu = sum(outcome.cpu_time for outcome in good)
        assert sum(event.cpu for event in done) == pytest.approx(cpu)
