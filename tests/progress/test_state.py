"""docs/progress.rst: the figures of a run, held against a model that does it the long way."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcall._core.records import Event
from pcall.progress.progress_state import State

SCOPES = [("a",), ("b",), ("b", "c")]


@dataclass
class Scope:
    """What the model knows of one scope: each call by its kind, each moment by its share."""

    calls: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ["waiting", "running", "done", "failed", "skipped", "retried"], 0
        )
    )
    elapsed: Fraction = Fraction(0)
    wall: float = 0.0
    cpu: float = 0.0
    max_rss: int = 0


@st.composite
def histories(draw) -> tuple[list[Event], dict[tuple[str, ...], Scope], int]:
    """Events that could have happened, the model's view of them, and the time after the last."""
    model: dict[tuple[str, ...], Scope] = {}
    events: list[Event] = []
    now = 0
    for _ in range(draw(st.integers(1, 40))):
        passed = draw(st.integers(0, 3))
        running = sum(scope.calls["running"] for scope in model.values())
        for scope in model.values() if running else ():
            scope.elapsed += passed * Fraction(scope.calls["running"], running)
        now += passed
        name = draw(st.sampled_from(SCOPES))
        calls = model.get(name, Scope()).calls
        kinds = ["planned"]
        kinds += ["started", "skipped"] if calls["waiting"] else []
        kinds += ["done", "failed", "retried"] if calls["running"] else []
        kind = draw(st.sampled_from(kinds))
        origin = {"planned": None, "started": "waiting", "skipped": "waiting"}.get(kind, "running")
        count = draw(st.integers(1, calls[origin] if origin else 5))
        scope = model.setdefault(name, Scope())
        if origin:
            scope.calls[origin] -= count
        if kind in ("planned", "retried"):
            scope.calls["waiting"] += count
        if kind != "planned":
            scope.calls["running" if kind == "started" else kind] += count
        figures = (0.0, 0.0, 0)
        if origin == "running":
            figures = draw(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)))
            scope.wall += figures[0]
            scope.cpu += figures[1]
            scope.max_rss = max(scope.max_rss, figures[2])
        events.append(Event(kind, name, float(now), count, *figures))
    return events, model, now


def shown(state: State, now: float) -> list[object]:
    return [*state.scopes(now), state.total(now), state.elapsed(now)]


@pytest.mark.fast
@given(histories())
def test_calls_are_counted_as_they_are(history):
    """Done, running, failed, retried, skipped, waiting and total are those of each scope."""
    events, model, now = history
    state = State(0.0)
    state.add(events)
    assert {figures.scope for figures in state.scopes(now)} == set(model)
    for figures in state.scopes(now):
        calls = model[figures.scope].calls
        assert {name: getattr(figures, name) for name in calls} == calls
        assert figures.total == sum(calls.values()) - calls["retried"]


@given(histories())
def test_what_calls_took_is_exact(history):
    """Wall and processor time are summed over the calls of a scope; of memory it is the peak."""
    events, model, now = history
    state = State(0.0)
    state.add(events)
    for figures in state.scopes(now):
        scope = model[figures.scope]
        assert (figures.wall, figures.cpu) == (scope.wall, scope.cpu)
        assert figures.max_rss == scope.max_rss
        ended = ("done", "failed", "retried")
        assert figures.attempts == sum(scope.calls[name] for name in ended)


@given(histories(), st.integers(0, 5))
def test_elapsed_is_shared_evenly_among_running_calls(history, later):
    """At any moment the time goes to the scopes by how many of their calls run then."""
    events, model, now = history
    state = State(0.0)
    state.add(events)
    running = sum(scope.calls["running"] for scope in model.values())
    for figures in state.scopes(now + later):
        scope = model[figures.scope]
        share = Fraction(scope.calls["running"], running) if running else 0
        assert figures.elapsed == pytest.approx(float(scope.elapsed + later * share), abs=1e-9)


@given(histories())
def test_all_together_is_the_sum_of_the_scopes(history):
    """The figures of the whole run are the sums of those of the scopes."""
    events, _, now = history
    state = State(0.0)
    state.add(events)
    total, scopes = state.total(now), state.scopes(now)
    for name in ("total", "done", "failed", "skipped", "running", "waiting", "retried", "attempts"):
        assert getattr(total, name) == sum(getattr(figures, name) for figures in scopes)
    assert total.elapsed == pytest.approx(sum(figures.elapsed for figures in scopes))
    assert total.max_rss == max(figures.max_rss for figures in scopes)


@given(histories(), st.lists(st.integers(1, 9), max_size=9))
def test_batches_and_looks_make_no_difference(history, sizes):
    """However events are passed on, and however often somebody looks, the figures are the same."""
    events, _, now = history
    at_once, in_parts = State(0.0), State(0.0)
    at_once.add(events)
    for size in [*sizes, len(events)]:
        part, events = events[:size], events[size:]
        in_parts.add(part)
        in_parts.add([])
        if part:
            shown(in_parts, part[-1].time + 0.5)
    assert shown(in_parts, now + 1) == shown(at_once, now + 1)


@given(histories())
def test_time_stands_still_after_the_end(history):
    """Once the run has ended no figure changes any more."""
    events, _, now = history
    state = State(0.0)
    state.add(events)
    state.end(now + 1)
    assert shown(state, now + 1) == shown(state, now + 1000)
    assert state.elapsed(now + 1000) == now + 1


@given(histories())
def test_a_clock_that_goes_back_is_not_followed(history):
    """An event that is told late counts from when it is told, and takes no time away."""
    events, _, now = history
    state = State(0.0)
    state.add(events)
    before = state.total(now).elapsed
    state.add([Event("planned", ("a",), -1000.0)])
    assert state.total(now).elapsed == before
    assert state.elapsed(-1000.0) == now


def steady(state: State, count: int, every: float, begin: float = 0.0) -> float:
    """So many calls, one after another; the time of the last end."""
    now = begin
    for _ in range(count):
        state.add([Event("started", ("a",), now)])
        now += every
        state.add([Event("done", ("a",), now, 1, every)])
    return now


@pytest.mark.parametrize("every", [0.01, 1.0, 100.0])
def test_rate_and_remaining_time_of_steady_calls(every):
    """Calls that end evenly have that rate, and the remaining time follows from it."""
    state = State(0.0)
    state.add([Event("planned", ("a",), 0.0, 150)])
    now = steady(state, 100, every)
    (figures,) = state.scopes(now)
    assert figures.rate == pytest.approx(1 / every)
    assert figures.remaining == pytest.approx(50 * every)


def test_the_rate_follows_calls_that_become_slower():
    """The rate is that of lately, and at the end that of the whole run."""
    state = State(0.0)
    state.add([Event("planned", ("a",), 0.0, 1200)])
    now = steady(state, 1000, 0.01)
    now = steady(state, 100, 1.0, now)
    (figures,) = state.scopes(now)
    assert figures.rate == pytest.approx(1.0, rel=0.3)
    state.end(now)
    (figures,) = state.scopes(now)
    assert figures.rate == pytest.approx(1100 / 110)


def test_nothing_is_guessed_before_a_call_has_ended():
    """While no call has ended there is no remaining time; when all have it is zero."""
    state = State(0.0)
    state.add([Event("planned", ("a",), 0.0, 2)])
    assert state.total(1.0).rate is None
    assert state.total(1.0).remaining is None
    state.add([Event("started", ("a",), 1.0, 2)])
    assert state.total(1.0).remaining is None
    assert state.total(5.0).rate == 0.0
    assert state.total(5.0).remaining is None
    state.add([Event("done", ("a",), 6.0, 2)])
    assert state.total(6.0).remaining == 0.0


def test_skipped_calls_do_not_make_the_rate():
    """Calls that never start are over, and make the run no faster."""
    state = State(0.0)
    state.add([Event("planned", ("a",), 0.0, 102)])
    state.add([Event("started", ("a",), 0.0), Event("done", ("a",), 10.0)])
    state.add([Event("skipped", ("a",), 10.0, 100)])
    (figures,) = state.scopes(10.0)
    assert figures.rate == pytest.approx(0.1)
    assert (figures.over, figures.waiting) == (101, 1)


def test_a_batch_of_a_reused_child_runs_as_one_call():
    """Calls that one child runs one after another count as one that runs, until they are done."""
    state = State(0.0)
    state.add([Event("planned", ("a",), 0.0, 50), Event("started", ("a",), 0.0)])
    assert state.total(1.0).running == 1
    state.add([Event("started", ("a",), 2.0, 49), Event("done", ("a",), 2.0, 50, 1.9, 1.8)])
    (figures,) = state.scopes(2.0)
    assert (figures.running, figures.done, figures.waiting) == (0, 50, 0)
    assert figures.elapsed == 2.0


def test_calls_that_nobody_planned_are_counted():
    """A call that is first heard of when it starts is part of the total."""
    state = State(0.0)
    state.add([Event("started", ("a",), 0.0, 2), Event("done", ("a",), 1.0)])
    (figures,) = state.scopes(1.0)
    assert (figures.total, figures.waiting) == (2, 0)
