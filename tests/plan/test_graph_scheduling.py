"""The scheduler of plans by itself, held against a serial model on random graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcall import Plan, Retry
from pcall.plan.call_states import DONE, FAILED, SKIPPED, UNKNOWN
from pcall.plan.graph_scheduler import GraphScheduler
from tests.helpers.plan_model import Graph, graphs

pytestmark = pytest.mark.engines(why="the scheduler alone, no run is made")


class OneSecondEach:
    """Expects each call to take one second."""

    def __init__(self, budget: float) -> None:
        self.budget = budget

    def cost(self, index: int) -> float:
        return 1.0

    def hands_off(self, index: int) -> bool:
        return False


class EqualCosts:
    """Expects of each call that it takes 1 second."""

    def __init__(self, budget: float) -> None:
        self.budget = budget

    def cost(self, index: int) -> float:
        return 1.0

    def hands_off(self, index: int) -> bool:
        return False


class Simulation:
    """Runs a graph with a given number of workers, in steps that the test chooses."""

    def __init__(self, graph: Graph, workers: int, chunks: bool) -> None:
        self.graph = graph
        graph.build(lambda index, fails, nested, shared: None)
        self.scheduler = GraphScheduler(
            graph.plan,
            graph.output,
            max_workers=workers,
            max_errors=graph.max_errors,
            retry=Retry(graph.attempts) if graph.attempts > 1 else None,
            chunk_policy=EqualCosts(5.0) if chunks else None,
        )
        self.running: list[range] = []
        self.started: list[int] = []
        self.over: set[int] = set()
        self.done: set[int] = set()
        self.skipped: set[int] = set()
        self.dropped: set[int] = set()
        self.attempts: dict[int, int] = {}

    def run(self, choose) -> None:
        while not self.scheduler.over:
            while chunk := self.scheduler.next_chunk(4, 0.0):
                self.scheduler.dispatched(chunk.start, chunk.stop)
                self.running.append(chunk)
            assert self.running, "nothing runs, and nothing can start"
            self.step(self.running.pop(choose(len(self.running))))

    def step(self, chunk: range) -> None:
        """The first call of a chunk runs and ends."""
        index, rest = chunk[0], chunk[1:]
        assert self.graph.needs(index) <= self.done, "started before what it needs was done"
        assert not self.graph.needs(index) & self.dropped, "what it needs was dropped"
        assert index not in self.over
        self.started.append(index)
        attempt = self.attempts[index] = self.attempts.get(index, 0) + 1
        if attempt > self.graph.specs[index].fails:
            self.over.add(index)
            self.done.add(index)
            self.scheduler.advanced(index, index + 1, 0.0)
            if rest:
                self.running.append(rest)
        else:
            ended = self.scheduler.ended(index, ValueError(), 0.0)
            if not ended.retried:
                self.over.add(index)
            skipped = {*ended.skipped}
            if rest:
                skipped |= {*self.scheduler.requeue(rest.start)}
            assert not skipped & (self.over | self.skipped), "skipped, though it was over"
            self.skipped |= skipped
        dropped = set(self.scheduler.uses.take_dropped())
        assert not dropped & self.dropped, "dropped twice"
        self.dropped |= dropped


@given(graphs(), st.integers(1, 4), st.booleans(), st.data())
@settings(max_examples=150)
def test_a_run_comes_to_what_the_serial_model_says(graph, workers, chunks, data):
    """Whatever the graph and the order of ends, the right calls end well, fail and are skipped."""
    simulation = Simulation(graph, workers, chunks)
    simulation.run(lambda count: data.draw(st.integers(0, count - 1)))
    values, failed, skipped = graph.serial()
    states = simulation.scheduler.state
    by_state = {state: {i for i, s in enumerate(states) if s == state} for state in set(states)}
    limit = graph.max_errors
    if limit is None or len(failed) <= limit:
        assert by_state.get(DONE, set()) == set(values)
        assert by_state.get(FAILED, set()) == failed
        assert by_state.get(SKIPPED, set()) == skipped == simulation.skipped
    else:
        # Which ones had started by then depends on the order; none of the others may have.
        assert by_state.get(DONE, set()) <= set(values)
        # What runs when the limit is passed, and fails then, is not tried again.
        assert by_state.get(FAILED, set()) <= {i for i, s in enumerate(graph.specs) if s.fails}
        assert len(by_state.get(FAILED, set())) > limit
        assert by_state.get(SKIPPED, set()) == simulation.skipped >= skipped
    assert by_state.get(UNKNOWN, set()) == set(range(len(graph.specs))) - graph.needed()
    # What is asked for, and no other value, is kept to the end.
    assert simulation.done - simulation.dropped == set(graph.output or ()) & simulation.done


@pytest.mark.fast
@given(graphs(), st.data())
@settings(max_examples=100)
def test_one_worker_takes_priorities_and_then_plan_order(graph, data):
    """Of the calls that are ready the one with the highest priority starts, and then the first."""
    graph.attempts, graph.max_errors = 1, None
    simulation = Simulation(graph, 1, False)
    simulation.run(lambda count: 0)
    failed, gone = graph.serial()[1], set()
    waiting = graph.needed() - graph.serial()[2]
    done: set[int] = set()
    for index in simulation.started:
        ready = {i for i in waiting - gone if graph.needs(i) <= done}
        assert index == min(ready, key=lambda i: (-graph.specs[i].priority, i))
        gone.add(index)
        if index not in failed:
            done.add(index)


def test_a_chain_is_handed_out_in_long_stretches():
    """The links of a chain go to one child together, as many as are worth it."""
    plan = Plan()
    call = plan.call(int)
    for _ in range(99):
        call = plan.call(int, call)
    scheduler = GraphScheduler(plan, [99], max_workers=2, chunk_policy=EqualCosts(40.0))
    chunk = scheduler.next_chunk(1000)
    assert chunk == range(40)
    scheduler.dispatched(chunk.start, chunk.stop)
    assert not scheduler.next_chunk(1000), "the next link waits for the last of these"
    scheduler.advanced(0, 40, 0.0)
    assert scheduler.next_chunk(1000) == range(40, 80)


def test_a_call_whose_cost_is_not_known_is_a_stretch_by_itself():
    """What may take long is not put before others in one child."""
    plan = Plan()
    for _ in range(9):
        plan.call(int)
    scheduler = GraphScheduler(plan, max_workers=2)
    assert scheduler.next_chunk(9) == range(1)


def test_the_first_call_is_ready_before_all_is_looked_at():
    """Of a large plan only a piece is looked at before the first call can start."""
    plan = Plan()
    for _ in range(50_000):
        plan.call(int)
    scheduler = GraphScheduler(plan)
    assert scheduler.next_chunk(1) == range(1)
    assert not scheduler.complete


def test_what_is_looked_at_late_is_dropped_as_well():
    """A value that was done before all of the plan was looked at is dropped once it can be."""
    plan = Plan()
    for _ in range(50_000):
        plan.call(int)
    scheduler = GraphScheduler(plan)
    scheduler.dispatched(0, 1)
    scheduler.advanced(0, 1, 0.0)
    assert scheduler.uses.take_dropped() == []
    scheduler.look_at_all()
    assert scheduler.uses.take_dropped() == [0]


def handed_out_chain():
    plan = Plan()
    call = plan.call(int)
    for _ in range(2):
        call = plan.call(int, call)
    scheduler = GraphScheduler(plan, max_workers=1, max_errors=None, chunk_policy=EqualCosts(40.0))
    chunk = scheduler.next_chunk(2)
    scheduler.dispatched(chunk.start, chunk.stop)
    assert chunk == range(2)
    return scheduler


def test_what_a_failed_call_was_handed_out_with_is_skipped_once_it_is_given_back():
    """Of a chunk that ends with a failure, what waits for that call never starts."""
    scheduler = handed_out_chain()
    assert scheduler.ended(0, ValueError()).skipped == ()
    assert scheduler.requeue(1) == (1, 2)
    assert [*scheduler.state] == [FAILED, SKIPPED, SKIPPED]
    assert scheduler.over


def test_what_ran_though_the_call_before_it_came_too_late_is_done():
    """A call that is failed for its time may have had its successor begin: that has one end."""
    scheduler = handed_out_chain()
    scheduler.ended(0, TimeoutError())
    scheduler.advanced(1, 2, 0.0)
    assert [*scheduler.state[:2]] == [FAILED, DONE]
    assert scheduler.next_chunk(1) == range(2, 3)
