"""docs/design.rst: what the pure scheduler decides at single moments of a run."""

from __future__ import annotations

import pytest

from pcall import PcallTimeout, Retry
from pcall._core.decisions import Ended, Expiry
from pcall._core.scheduler import Scheduler

# ------------------------------------------------------------------ retries


def test_what_is_due_goes_before_what_was_never_tried():
    """Another attempt goes before the calls that were never tried, the longest due first."""
    scheduler = Scheduler(6, max_workers=3, max_errors=None, retry=Retry(2, wait=1))
    for index in (0, 1, 2):
        scheduler.started(index, 0.0)
    for now, index in enumerate((2, 0, 1)):
        assert scheduler.ended(index, ValueError(), float(now)) == Ended(retried=True)
    assert scheduler.next_starts(6, 0.5) == [3, 4, 5]
    assert scheduler.next_starts(6, 1.0) == [2, 3, 4]
    # That a worker was free for it before, and was not used, costs it nothing.
    assert scheduler.next_starts(6, 9.0) == [2, 0, 1]
    assert scheduler.next_chunk(6, 9.0) == range(2, 3)


def test_the_next_retry_is_the_earliest():
    """The scheduler tells when the next call that waits is due, and None when none waits."""
    scheduler = Scheduler(2, retry=Retry(3, wait=4))
    assert scheduler.next_retry is None
    for index, now in ((0, 10.0), (1, 9.0)):
        scheduler.started(index, 8.0)
        scheduler.ended(index, ValueError(), now)
    assert scheduler.next_retry == 13.0
    assert scheduler.next_starts(2, 13.0) == [1]
    assert scheduler.next_retry == 14.0


def test_a_waiting_call_is_given_up():
    """To stop gives up the calls that wait for another attempt too."""
    scheduler = Scheduler(3, max_workers=1, retry=Retry(2, wait=60))
    scheduler.started(0, 0.0)
    scheduler.ended(0, ValueError(), 1.0)
    assert not scheduler.over
    assert sorted(scheduler.stop()) == [0, 1, 2]
    assert scheduler.over
    assert scheduler.next_retry is None
    assert scheduler.next_starts(3, 99.0) == []


def test_what_fails_after_the_stop_is_not_tried_again():
    """Once the run was stopped a call in flight has no further attempt."""
    scheduler = Scheduler(1, retry=Retry(5))
    scheduler.started(0, 0.0)
    scheduler.stop()
    assert scheduler.ended(0, ValueError(), 1.0) == Ended()
    assert scheduler.failed == 1


# ------------------------------------------------------------------ chunks


def test_a_stretch_is_one_of_the_workers():
    """The calls of a chunk take one worker, and are no longer queued."""
    scheduler = Scheduler(10, max_workers=2)
    assert scheduler.next_chunk(4) == range(0, 4)
    scheduler.started(0, 0.0, 4)
    assert (scheduler.running, scheduler.queued) == ((0,), 6)
    scheduler.started(4, 0.0, 5)
    assert scheduler.next_chunk(4) == range(0)
    scheduler.advanced(0, 3, 1.0)
    assert scheduler.running == (4, 3)
    scheduler.advanced(3, 4, 1.0)
    assert scheduler.next_chunk(99) == range(5, 10)


def test_the_clock_of_a_stretch_starts_with_each_call():
    """Each call of a chunk has the timeout from the moment that it runs."""
    scheduler = Scheduler(3, timeout=10)
    scheduler.started(0, 0.0, 3)
    scheduler.advanced(0, 1, 8.0)
    assert scheduler.next_deadline == 18.0
    scheduler.ended(1, None, 9.0)
    assert scheduler.expire(18.0) == Expiry()
    assert scheduler.expire(19.0) == Expiry((2,), (2,), True)


def test_what_is_given_back_is_next():
    """What was left of a chunk goes before all that was never started."""
    scheduler = Scheduler(6, max_workers=1, max_errors=None)
    scheduler.started(0, 0.0, 4)
    scheduler.ended(0, ValueError(), 1.0)
    assert scheduler.requeue(1) == ()
    assert scheduler.next_starts(1) == [1]
    assert scheduler.queued == 5
    scheduler.started(1, 2.0, 4)
    scheduler.advanced(1, 4, 3.0)
    assert scheduler.next_chunk(9) == range(4, 6)


# ------------------------------------------------------------------ timeouts


def test_the_clock_of_a_queued_call_starts_with_it():
    """The deadline of a call counts from its own start."""
    scheduler = Scheduler(2, max_workers=1, timeout=10)
    scheduler.started(0, 100.0)
    assert scheduler.next_deadline == 110.0
    assert scheduler.expire(109.0) == Expiry()
    scheduler.ended(0, None, 109.0)
    assert scheduler.next_deadline is None
    scheduler.started(1, 109.5)
    assert scheduler.expire(119.0) == Expiry()
    assert scheduler.expire(119.5) == Expiry((1,), (1,), True)


@pytest.mark.parametrize(
    ("policy", "stop"),
    [
        ({"max_errors": 0}, (0, 1, 2)),
        ({"max_errors": 1}, (0, 1)),
        ({"max_errors": None}, (0, 1)),
        ({"max_errors": 0, "retry": Retry(2)}, (0, 1)),
        ({"max_errors": 0, "retry": Retry(1)}, (0, 1, 2)),
        ({"max_errors": 0, "retry": Retry(2, on=PcallTimeout)}, (0, 1)),
        ({"max_errors": 0, "retry": Retry(2, on=ValueError)}, (0, 1, 2)),
    ],
    ids=str,
)
def test_what_a_timeout_ends(policy, stop):
    """A timeout ends every child; the late ones alone where it is tolerated or tried again."""
    scheduler = Scheduler(4, max_workers=3, timeout=10, **policy)
    for index, now in enumerate((0.0, 1.0, 5.0)):
        scheduler.started(index, now)
    fatal = 2 in stop
    assert scheduler.expire(11.0) == Expiry((0, 1), stop, fatal)
    assert scheduler.expire(11.0) == Expiry(), "each is ended once"


def test_a_failure_stops_nothing_where_nothing_queues():
    """max_errors matters once calls queue: without a bound the next one still starts."""
    scheduler = Scheduler(2, max_errors=0)
    scheduler.started(0, 0.0)
    assert scheduler.ended(0, ValueError()) == Ended()
    assert scheduler.next_starts(2) == [1]


def test_a_call_started_out_of_turn_is_refused():
    """Only the call that was named may start."""
    scheduler = Scheduler(2)
    with pytest.raises(AssertionError, match="call 1 started before 0, the next"):
        scheduler.started(1, 0.0)


@pytest.mark.parametrize("retry", [None, Retry(2, wait=1)])
def test_a_hundred_thousand_calls(retry):
    """100 000 calls are nothing, also when each is tried twice."""
    count = 100_000
    scheduler = Scheduler(count, max_workers=3, max_errors=None, retry=retry)
    now, begun, ended = 0.0, 0, [Ended()]
    while not scheduler.over:
        for index in scheduler.next_starts(3, now):
            scheduler.started(index, now)
            begun += 1
        if not scheduler.running:
            now = scheduler.next_retry
        for index in scheduler.running:
            ended = scheduler.ended(index, ValueError(), now)
    assert begun == (count if retry is None else 2 * count)
    assert scheduler.failed == count
    assert ended == Ended()


def test_calls_that_are_queued_again_go_back_in_call_order():
    """Parts of several chunks may come back, the later one last: the earliest call is the next."""
    scheduler = Scheduler(9, max_workers=2)
    scheduler.started(0, 0.0, 3)
    scheduler.started(3, 0.0, 6)
    scheduler.ended(0, None)
    assert scheduler.requeue(1) == ()
    assert scheduler.requeue(3) == ()
    assert scheduler.next_chunk(9) == range(1, 3)
    scheduler.started(1, 1.0, 3)
    assert scheduler.next_chunk(9) == range(3, 6)
