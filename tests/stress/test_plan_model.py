"""Random plans whose calls are settled, lost and made again at random, held against the model."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pcall import CallError, DependenciesFailed, FailedDependency, NotStarted, Plan, run, run_iter
from tests.helpers.plan_model import Graph, Spec

LARGE = 1_200_000  # bytes of a value that goes through a file


class Scenario:
    """A random plan, and what happens to it from outside.

    Args:
        seed: of everything that is random.
        folder: where calls note that they were made.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = rng = random.Random(seed)
        self.folder = folder / str(seed)
        self.folder.mkdir()
        count = rng.randint(2, 14)
        specs = []
        for index in range(count):
            before = list(range(index))
            needs = [index - 1] if index and rng.random() < 0.4 else []
            needs += rng.sample(before, rng.randint(0, min(3, index)))
            after = rng.sample(before, rng.randint(0, min(2, index))) if rng.random() < 0.2 else []
            fails = rng.choice([0] * 12 + [1, 9])
            specs.append(Spec(list(dict.fromkeys(needs)), None, after, fails))
        output = rng.choice([None, rng.sample(range(count), rng.randint(1, min(3, count)))])
        self.graph = graph = Graph(specs, [], output, rng.choice([1, 1, 2]), None)
        # Settled before the run.
        for index in range(count):
            if rng.random() < 0.08:
                graph.given[index] = rng.choice([1000 + index, 1000 + index, None])
        self.before = dict(graph.given)
        graph.given_before = set(self.before)
        # Settled while they run, or wait: they would never end.
        self.during: dict[int, int | None] = {}
        for index in range(count):
            # Not what may be skipped before it is settled.
            is_good = index in graph.serial()[0]
            if is_good and index not in graph.given and rng.random() < 0.1:
                graph.given[index] = self.during[index] = rng.choice([2000 + index, None])
        self.reports = {
            index: (rng.randint(1, 2), rng.sample(above, rng.randint(1, min(2, len(above)))))
            for index in range(count)
            if not specs[index].fails and (above := self.above(index)) and rng.random() < 0.25
        }
        self.kinds = [rng.choice(["number", "text", "large"]) for _ in range(count)]
        self.workers = rng.choice([0, 1, 1, 2, 3]) if not self.during else rng.randint(1, 3)
        self.quick = rng.random() < 0.5
        self.fresh = rng.random() < 0.15

    def above(self, index: int) -> list[int]:
        """The calls that it needs, directly or not, and not only through settled ones."""
        found: dict[int, None] = {}
        stack = [index]
        while stack:
            for each in self.graph.needs(stack.pop()):
                if each not in found and each not in self.graph.given:
                    found[each] = None
                    stack.append(each)
        return list(found)

    def build(self) -> list[Any]:
        """Plan the calls."""
        plan, calls = self.graph.plan, []

        def decode(value: Any) -> int:
            return value if isinstance(value, int) else int(value[:20])

        def work(index: int, given: list[Any]) -> Any:
            with open(self.folder / str(index), "ab", 0) as file:
                file.write(b".")
                made = file.tell()
            if index in self.during:
                time.sleep(60)
            if made <= self.graph.specs[index].fails:
                raise ValueError(index)
            often, named = self.reports.get(index, (0, []))
            if made <= often:
                raise DependenciesFailed({None: [calls[each] for each in named]})
            if not self.quick:
                time.sleep(0.002 * (index % 4))
            number = index + sum(map(decode, given))
            kind = self.kinds[index]
            if kind == "number":
                return number
            return b"%020d" % number if kind == "text" else b"%020d" % number + bytes(LARGE)

        for index, spec in enumerate(self.graph.specs):
            calls.append(plan.call(work, index, [calls[each] for each in spec.needs]))
            for each in spec.after:
                plan.add_dependency(calls[each], calls[-1])
        for index, value in self.before.items():
            settle(plan, calls[index], value)
        self.decode = decode
        return calls

    def disturb(self, over: threading.Event, calls: list[Any]) -> None:
        """Settle the calls that would never end, and lose values, until the run is over."""
        while not any(self.folder.iterdir()) and not over.wait(0.001):
            pass  # it has not begun
        pending = list(self.during.items())
        self.rng.shuffle(pending)
        plain = [call for call in calls if call.index not in self.graph.given]
        losses = self.rng.choice([0, 0, 3, 10])
        while not over.wait(self.rng.choice([0.0, 0.002, 0.01])):
            if pending:
                index, value = pending.pop()
                settle(self.graph.plan, calls[index], value)
            elif losses and plain:
                losses -= 1
                self.graph.plan.mark_failed(self.rng.choice(plain), FailedDependency())
            else:
                return

    def check(self) -> None:
        """Run it in one of the ways, and compare."""
        calls = self.build()
        graph = self.graph
        values, failed, skipped = graph.serial()
        policy: dict[str, Any] = {"max_workers": self.workers, "max_errors": None, "timeout": 50}
        if graph.attempts > 1:
            policy["retry"] = graph.attempts
        if self.fresh and self.workers:
            policy["max_tasks_per_child"] = 1
        way = self.rng.choice(["run", "run", "ordered", "unordered"])
        wanted = list(range(len(calls))) if graph.output is None else graph.output
        output = None if graph.output is None else [calls[index] for index in wanted]
        over = threading.Event()
        disturber = threading.Thread(target=self.disturb, args=(over, calls))
        disturber.start()
        try:
            if way != "run":
                ordered = way == "ordered"
                outcomes = list(
                    run_iter(graph.plan, output=output, order_results=ordered, **policy)
                )
                indices = [outcome.index for outcome in outcomes]
                assert len(indices) == len(set(indices))
                assert not ordered or indices == sorted(indices)
            elif failed:
                with pytest.raises(CallError) as caught:
                    run(graph.plan, output=output, **policy)
                outcomes = [each for each in caught.value.outcomes if each is not None]
            else:
                result = run(graph.plan, output=output, **policy)
                if output is not None:
                    assert list(map(self.decode, result)) == [values[index] for index in wanted]
                return
        finally:
            over.set()
            disturber.join()
        by_index = {outcome.index: outcome for outcome in outcomes}
        assert set(by_index) == graph.needed()
        for index, outcome in by_index.items():
            if index in skipped:
                assert isinstance(outcome.error, NotStarted)
            elif index in failed:
                assert not outcome.ok
                assert not isinstance(outcome.error, NotStarted)
            else:
                assert outcome.ok, outcome.error
                if way != "run" or index in (graph.output or ()):
                    assert self.decode(outcome.value) == values[index]
            if index in graph.given:
                assert outcome.attempts == 0
                assert index in self.during or not (self.folder / str(index)).exists()


def settle(plan: Plan, call: Any, value: int | None) -> None:
    if value is None:
        plan.mark_failed(call, LookupError("gone"))
    else:
        plan.mark_done(call, value)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 120, 20))
def test_a_run_comes_to_what_the_serial_model_says(first: int, tmp_path: Path) -> None:
    """Whatever is settled, lost and made again meanwhile, values, failures and skips are right."""
    for seed in range(first, first + 20):
        Scenario(seed, tmp_path).check()
