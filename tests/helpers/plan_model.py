"""A serial model of plans: what a run of one must come to, worked out in the plainest way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pcall import Plan


@dataclass
class Spec:
    """One planned call of a random graph: what it needs, and how it ends.

    Attributes:
        needs: calls before it, whose values it sums.
        shared: number of a list of calls that it gets as a whole, or None.
        after: calls before it that it waits for, without their values.
        fails: attempts that fail; more than there are attempts make the call fail.
        priority: see the plan's.
    """

    needs: list[int]
    shared: int | None
    after: list[int]
    fails: int = 0
    priority: int = 0


@dataclass
class Graph:
    """A random graph, and what is asked of it.

    Attributes:
        specs: by call, what it is.
        lists: lists that are given to several calls.
        output: the calls that are wanted; None: all are made.
        attempts: how often a call is tried.
        max_errors: see ``run``.
        given: calls that are settled from outside: their values, None for those that fail.
        given_before: those of them that are settled before the run, which need nothing.
        plan: the plan that :meth:`build` fills.
    """

    specs: list[Spec]
    lists: list[list[int]]
    output: list[int] | None
    attempts: int = 1
    max_errors: int | None = 0
    given: dict[int, int | None] = field(default_factory=dict)
    given_before: set[int] = field(default_factory=set)
    plan: Plan = field(default_factory=Plan)

    def needs(self, index: int) -> set[int]:
        spec = self.specs[index]
        shared = [] if spec.shared is None else self.lists[spec.shared]
        return {*spec.needs, *spec.after, *shared}

    def needed(self) -> set[int]:
        """The calls that are part of the run."""
        if self.output is None:
            return set(range(len(self.specs)))
        found: set[int] = set()
        stack = list(self.output)
        while stack:
            index = stack.pop()
            if index not in found:
                found.add(index)
                if index not in self.given_before:
                    stack += self.needs(index)
        return found

    def fails(self, index: int) -> bool:
        return self.specs[index].fails >= self.attempts

    def serial(self) -> tuple[dict[int, int], set[int], set[int]]:
        """Without an error limit: values of what ends well, what fails, what is skipped."""
        values: dict[int, int] = {}
        failed: set[int] = set()
        skipped: set[int] = set()
        for index in sorted(self.needed()):
            spec = self.specs[index]
            given = self.given.get(index)
            if given is not None:
                values[index] = given
            elif index in self.given:
                failed.add(index)
            elif self.needs(index) & (failed | skipped):
                skipped.add(index)
            elif self.fails(index):
                failed.add(index)
            else:
                shared = [] if spec.shared is None else self.lists[spec.shared]
                values[index] = index + sum(values[i] for i in [*spec.needs, *shared])
        return values, failed, skipped

    def build(self, fn: Any) -> list[Any]:
        """Plan the calls: ``fn(index, fails, needs, shared)``."""
        calls: list[Any] = []
        lists: dict[int, list[Any]] = {}
        for index, spec in enumerate(self.specs):
            shared: list[Any] | None = None
            if spec.shared is not None:
                made = [calls[i] for i in self.lists[spec.shared]]
                shared = lists.setdefault(spec.shared, made)
            nested = (
                [calls[i] for i in spec.needs[::2]],
                {"rest": [calls[i] for i in spec.needs[1::2]]},
            )
            call = self.plan.call(fn, index, spec.fails, nested, shared)
            call.priority = spec.priority
            calls.append(call)
            for before in spec.after:
                self.plan.add_dependency(calls[before], call)
        return calls


@st.composite
def graphs(draw: st.DrawFn, most: int = 24) -> Graph:
    """Random graphs with failures, retries, priorities, shared lists and limits."""
    count = draw(st.integers(1, most))
    specs: list[Spec] = []
    lists: list[list[int]] = []
    for index in range(count):
        nothing: list[int] = []
        earlier = st.lists(st.integers(0, index - 1), max_size=4)
        before = earlier if index else st.just(nothing)
        shared = None
        if index > 5 and draw(st.booleans()):
            if bool(lists) and draw(st.booleans()):
                shared = draw(st.integers(0, len(lists) - 1))
            else:
                wide = st.lists(st.integers(0, index - 1), min_size=5, max_size=12, unique=True)
                lists.append(draw(wide))
                shared = len(lists) - 1
        chained = index and draw(st.booleans())
        needs = [index - 1] if chained else draw(before)
        specs.append(
            Spec(
                needs,
                shared,
                draw(before) if draw(st.booleans()) else [],
                draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 9])),
                draw(st.sampled_from([0, 0, 0, 1, -1])),
            )
        )
    output = draw(st.none() | st.lists(st.integers(0, count - 1), max_size=3))
    return Graph(
        specs,
        lists,
        output,
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.sampled_from([None, None, 0, 1, 3])),
    )
