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


def make(how, count, seen):
    """Run so many calls, and return their outcomes."""
    policy = {"max_errors": None, "progress": seen, "retry": Retry(2)}
    if how == "plan":
        plan = Plan()
        for x in range(count):
            plan.call(work, x)
        return list(run_iter(plan, **policy))
    policy["max_tasks_per_child"] = None if how == "reused" else 1
    workers = 0 if how == "inline" else 3
    Watched = Pcall.options(return_outcomes=True, max_workers=workers, **policy)
    return Watched.pcall(work, x=range(count))


WAYS = [("fresh", 200), ("reused", 200), ("reused", 3000), ("plan", 400), ("inline", 200)]


@pytest.mark.parametrize(
    ("how", "count"), [pytest.param(*WAYS[0], marks=pytest.mark.fast), *WAYS[1:]]
)
def test_observers_are_told_of_each_call(how, count, each_system):
    """Each is planned once, starts with each attempt, and ends once."""
    seen = Recorder()
    outcomes = make(how, count, seen)
    bad = count // 100
    counts = seen.counts()
    assert counts["planned"] == count
    assert counts["started"] == count + bad
    assert (counts["done"], counts["failed"], counts["retried"]) == (count - bad, bad, bad)
    failed = [event.outcome.index for event in seen.events if event.kind == "failed"]
    assert sorted(failed) == [o.index for o in sorted(outcomes, key=lambda o: o.index) if not o.ok]


@pytest.mark.parametrize(("how", "count"), [way for way in WAYS if way[0] != "plan"])
def test_figures_are_those_of_the_outcomes(how, count, each_system):
    """The time that calls took, exactly, and the highest memory that one had."""
    seen = Recorder()
    outcomes = make(how, count, seen)
    done = [event for event in seen.events if event.kind == "done"]
    good = [outcome for outcome in outcomes if outcome.ok]
    wall = sum(outcome.duration for outcome in good)
    assert sum(event.wall for event in done) == pytest.approx(wall, abs=1e-6 * count)
    peaks = [outcome.max_rss for outcome in good if outcome.max_rss]
    assert max(event.max_rss for event in done) == max(peaks, default=0)
    if how == "fresh":
        cpu = sum(outcome.cpu_time for outcome in good)
        assert sum(event.cpu for event in done) == pytest.approx(cpu)
