"""Contract, section 9: the pure scheduler against a serial model; events in, decisions out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from pcall._scheduler import Expiry, Scheduler


class AgainstModel(RuleBasedStateMachine):
    """The scheduler beside lists that are read and written in the plainest way."""

    ended_calls = Bundle("ended_calls")

    @initialize(
        count=st.integers(0, 12),
        max_workers=st.none() | st.integers(1, 5),
        max_errors=st.sampled_from([0, 0, 1, 2, None]),
        timeout=st.none() | st.integers(1, 5),
    )
    def build(self, count, max_workers, max_errors, timeout):
        self.scheduler = Scheduler(
            count, max_workers=max_workers, max_errors=max_errors, timeout=timeout
        )
        self.count = count
        self.workers = count + 1 if max_workers is None else max_workers
        # Where nothing bounds how many run at once no call queues, and max_errors is idle.
        self.bounded = max_workers is not None
        self.max_errors = max_errors
        self.timeout = timeout
        self.now = 0
        self.waiting = list(range(count))
        self.running: list[int] = []
        self.due: dict[int, int] = {}  # deadlines that nobody was told of yet
        self.ended: dict[int, bool] = {}
        self.skipped: list[int] = []

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(most=st.integers(0, 4), really=st.integers(0, 4))
    def start(self, most, really):
        free = max(0, self.workers - len(self.running))
        expected = self.waiting[: min(most, free)]
        assert self.scheduler.next_starts(most) == expected
        assert self.scheduler.next_starts(most) == expected, "to ask changes nothing"
        # Not all that were asked for need to start: a fork may fail.
        for index in expected[:really]:
            self.scheduler.started(index, self.now)
            self.waiting.remove(index)
            self.running.append(index)
            if self.timeout is not None:
                self.due[index] = self.now + self.timeout

    @precondition(lambda self: self.running)
    @rule(target=ended_calls, data=st.data(), ok=st.booleans())
    def end(self, data, ok):
        index = data.draw(st.sampled_from(self.running))
        skipped = self.scheduler.ended(index, ok)
        self.running.remove(index)
        self.due.pop(index, None)
        self.ended[index] = ok
        self._check_skipped(skipped, self._too_many_failed() and not ok)
        return index

    @rule(index=consumes(ended_calls), ok=st.booleans())
    def end_again(self, index, ok):
        # A supervisor that was interrupted between two lines tells it twice.
        assert self.scheduler.ended(index, ok) == ()

    @rule()
    def expire(self):
        overdue = [index for index in self.running if self.due.get(index, 1 << 30) <= self.now]
        tolerant = self.max_errors is None or self.max_errors > 0
        stop = overdue if tolerant or not overdue else list(self.running)
        assert self.scheduler.expire(self.now) == Expiry(tuple(overdue), tuple(stop))
        for index in stop:
            self.due.pop(index, None)
        assert self.scheduler.expire(self.now) == Expiry(), "each is named once"

    @rule()
    def stop(self):
        self._check_skipped(self.scheduler.stop(), True)

    @rule()
    def no_room(self):
        assert self.scheduler.no_room() == bool(self.running)
        if self.running:
            self.workers = len(self.running)
            self.bounded = True

    @rule(workers=st.integers(1, 6))
    def limit(self, workers):
        self.scheduler.limit(workers)
        self.workers = min(self.workers, workers)
        self.bounded = True

    def _too_many_failed(self):
        failed = list(self.ended.values()).count(False)
        return self.bounded and self.max_errors is not None and failed > self.max_errors

    def _check_skipped(self, skipped, all_that_wait):
        expected = tuple(self.waiting) if all_that_wait else ()
        assert skipped == expected
        self.skipped += expected
        if all_that_wait:
            self.waiting.clear()

    @invariant()
    def what_it_shows_is_the_models(self):
        assert self.scheduler.running == tuple(self.running)
        assert self.scheduler.queued == len(self.waiting)
        assert self.scheduler.failed == list(self.ended.values()).count(False)
        assert self.scheduler.over == (not self.running and not self.waiting)
        assert self.scheduler.next_deadline == min(self.due.values(), default=None)

    @invariant()
    def every_call_is_in_one_place(self):
        places = [*self.waiting, *self.running, *self.ended, *self.skipped]
        assert sorted(places) == list(range(self.count))

    def teardown(self):
        # From wherever the rules have led, the run comes to its end.
        while not self.scheduler.over:
            for index in self.scheduler.next_starts():
                self.scheduler.started(index, self.now)
            assert self.scheduler.running, "calls wait, and none may start"
            index = self.scheduler.running[0]
            self.ended[index] = True
            assert self.scheduler.ended(index, True) == ()
        assert sorted([*self.ended, *self.skipped]) == list(range(self.count))


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def play(results, workers, max_errors, pick):
    """Run the calls with these results, each time ending the one that ``pick`` chooses."""
    scheduler = Scheduler(len(results), max_workers=workers, max_errors=max_errors)
    started: list[int] = []
    ended: list[int] = []
    skipped: list[int] = []
    most = 0
    while not scheduler.over:
        for index in scheduler.next_starts(len(results)):
            scheduler.started(index, 0.0)
            started.append(index)
        most = max(most, len(scheduler.running))
        index = scheduler.running[pick(len(scheduler.running))]
        ended.append(index)
        skipped += scheduler.ended(index, results[index])
    return started, ended, skipped, most


outcomes = st.lists(st.booleans(), max_size=30)


@given(outcomes, st.integers(0, 5))
def test_one_worker_stops_at_one_failure_more_than_tolerated(results, max_errors):
    """With one worker exactly max_errors + 1 calls fail before no further call starts."""
    started, ended, skipped, _ = play(results, 1, max_errors, lambda running: 0)
    expected, failed = [], 0
    for index, ok in enumerate(results):
        if failed > max_errors:
            break
        expected.append(index)
        failed += not ok
    assert started == ended == expected
    assert skipped == list(range(len(expected), len(results)))


@given(outcomes, st.none() | st.integers(1, 5), st.none() | st.integers(0, 3), st.data())
def test_every_call_is_ended_or_skipped_once(results, workers, max_errors, data):
    """Every call is exactly once among the ended or the skipped, whatever ends first."""
    started, ended, skipped, most = play(
        results, workers, max_errors, lambda running: data.draw(st.integers(0, running - 1))
    )
    assert sorted(ended + skipped) == list(range(len(results)))
    assert started == sorted(started) == sorted(ended)
    assert workers is None or most <= workers
    failed = sum(not results[index] for index in ended)
    if max_errors is None or failed <= max_errors:
        assert skipped == []
    else:
        # The ones in flight are waited for, and may fail too.
        assert failed <= max_errors + (workers or len(results))


@given(outcomes, st.none() | st.integers(1, 5))
def test_the_workers_are_kept_busy(results, workers):
    """As long as calls wait, as many run as may."""
    scheduler = Scheduler(len(results), max_workers=workers, max_errors=None)
    for index in range(len(results)):
        for first in scheduler.next_starts(len(results)):
            scheduler.started(first, 0.0)
        at_most = len(results) if workers is None else workers
        assert len(scheduler.running) == min(at_most, len(results) - index)
        scheduler.ended(scheduler.running[0], results[index])


def test_the_clock_of_a_queued_call_starts_with_it():
    """The deadline of a call counts from its own start."""
    scheduler = Scheduler(2, max_workers=1, timeout=10)
    scheduler.started(0, 100.0)
    assert scheduler.next_deadline == 110.0
    assert scheduler.expire(109.0) == Expiry()
    scheduler.ended(0, True)
    assert scheduler.next_deadline is None
    scheduler.started(1, 109.5)
    assert scheduler.expire(119.0) == Expiry()
    assert scheduler.expire(119.5) == Expiry((1,), (1,))


@pytest.mark.parametrize(("max_errors", "stop"), [(0, (0, 1, 2)), (1, (0, 1)), (None, (0, 1))])
def test_what_a_timeout_ends(max_errors, stop):
    """A timeout ends every child, or with max_errors otherwise than 0 the late ones alone."""
    scheduler = Scheduler(4, max_workers=3, max_errors=max_errors, timeout=10)
    for index, now in enumerate((0.0, 1.0, 5.0)):
        scheduler.started(index, now)
    assert scheduler.expire(11.0) == Expiry((0, 1), stop)
    late = () if 2 in stop else (2,)
    assert scheduler.expire(99.0) == Expiry(late, late), "each is ended once"


def test_a_failure_stops_nothing_where_nothing_queues():
    """max_errors matters once calls queue: without a bound the next one still starts."""
    scheduler = Scheduler(2, max_errors=0)
    scheduler.started(0, 0.0)
    assert scheduler.ended(0, False) == ()
    assert scheduler.next_starts(2) == [1]


def test_a_call_started_out_of_turn_is_refused():
    """Only the call that was named may start."""
    scheduler = Scheduler(2)
    with pytest.raises(AssertionError, match="call 1 started before its turn"):
        scheduler.started(1, 0.0)


def test_a_hundred_thousand_calls():
    """The scheduler's work grows linearly: 100 000 calls are nothing."""
    started, ended, skipped, most = play([True] * 100_000, 3, 0, lambda running: 0)
    assert len(started) == len(ended) == 100_000
    assert (skipped, most) == ([], 3)
