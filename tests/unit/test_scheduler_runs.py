"""docs/design.rst: what the pure scheduler promises of whole runs, played without processes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pcall import Retry
from pcall._core.decisions import Ended
from pcall._core.scheduler import Scheduler


class Play:
    """A run of calls of which each fails so many times before it succeeds.

    It takes the scheduler's word for everything, and writes down what came of it. Each step
    ends one call, a second after the last, or waits for the next attempt that is due.

    Args:
        failures: by call, how many attempts fail.
        pick: given a number, chooses one from 0 to below it.
        most: calls of a chunk; None: calls are started singly.
        policy: of the scheduler.
    """

    def __init__(self, failures: list[int], pick: Any, most: int | None = None, **policy: Any):
        self.scheduler = Scheduler(len(failures), **policy)
        self.failures = failures
        self.pick = pick
        self.most = most
        self.policy = policy
        self.retry: Retry | None = policy.get("retry")
        self.now = 0.0
        self.tried: list[int] = []  # each attempt that began, in order
        self.due: dict[int, float] = {}  # by call: not before then
        self.succeeded: list[int] = []
        self.failed: list[int] = []
        self.skipped: list[int] = []
        self.chunks: dict[int, int] = {}  # by the call that runs: where its chunk ends
        self.most_at_once = 0

    def run(self) -> Play:
        while not self.scheduler.over:
            self.start()
            self.most_at_once = max(self.most_at_once, len(self.chunks))
            if self.chunks:
                self.now += 1.0
                self.step()
            else:
                due = self.scheduler.next_retry
                assert due is not None, "calls wait, and none may start"
                assert due > self.now, "one is due, and was not named"
                self.now = due
        return self

    def start(self) -> None:
        if self.most is None:
            for index in self.scheduler.next_starts(len(self.failures), self.now):
                self.scheduler.started(index, self.now)
                self.began(index, index + 1)
            return
        while chunk := self.scheduler.next_chunk(self.most, self.now):
            self.scheduler.started(chunk.start, self.now, chunk.stop)
            self.began(chunk.start, chunk.stop)

    def began(self, index: int, stop: int) -> None:
        assert self.due.get(index, 0.0) <= self.now, "started before it was due"
        self.chunks[index] = stop
        self.tried.append(index)

    def step(self) -> None:
        """One child tells how far it got; or it is lost, or sent home, in between."""
        index = list(self.chunks)[self.pick(len(self.chunks))]
        stop = self.chunks.pop(index)
        # Of the calls that it has ended, all but the last are told together.
        last = index + self.pick(stop - index)
        for to in range(index, last):
            if self.fails(to):
                last = to
                break
        if last > index:
            self.scheduler.advanced(index, last, self.now)
            self.succeeded += range(index, last)
            self.tried += range(index + 1, last + 1)
        if self.fails(last):
            self.fail(last)
        else:
            assert self.scheduler.ended(last, None, self.now) == Ended()
            self.succeeded.append(last)
        if last + 1 < stop:
            # After the stop nothing more starts, so a child is not left with the rest.
            if not self.stopped and self.pick(2):
                self.began(last + 1, stop)
            else:
                self.skipped += self.scheduler.requeue(last + 1)

    def fails(self, index: int) -> bool:
        return self.tried.count(index) <= self.failures[index]

    def fail(self, index: int) -> None:
        chance = self.pick(3) / 2
        attempt = self.scheduler.attempt(index)
        ended = self.scheduler.ended(index, ValueError(), self.now, chance)
        if ended.retried:
            assert self.retry is not None
            self.due[index] = self.now + self.retry.delay(attempt, chance)
        else:
            self.failed.append(index)
        self.skipped += ended.skipped

    @property
    def stopped(self) -> bool:
        limit = self.policy.get("max_errors")
        queues = self.policy.get("max_workers") is not None
        return queues and limit is not None and len(self.failed) > limit


scripts = st.lists(st.integers(0, 4), max_size=20)
retries = st.none() | st.builds(
    Retry, attempts=st.integers(1, 4), wait=st.integers(0, 5), jitter=st.integers(0, 2)
)
lengths = st.none() | st.integers(1, 6)
workers = st.none() | st.integers(1, 4)


def picking(data: st.DataObject) -> Any:
    return lambda count: data.draw(st.integers(0, count - 1))


@given(scripts, st.integers(0, 5), st.integers(1, 4))
def test_one_worker_stops_at_one_failure_more_than_tolerated(script, max_errors, attempts):
    """With one worker exactly max_errors + 1 calls fail, each after all its attempts."""
    retry = Retry(attempts)
    play = Play(script, lambda count: 0, max_workers=1, max_errors=max_errors, retry=retry).run()
    expected: list[int] = []
    failed = 0
    for index, failures in enumerate(script):
        if failed > max_errors:
            break
        expected += [index] * min(failures + 1, attempts)
        failed += failures >= attempts
    assert play.tried == expected
    assert len(play.failed) == failed
    assert play.skipped == list(range(len(set(expected)), len(script)))


@given(scripts, st.integers(0, 3), retries, lengths, st.data())
def test_one_worker_whatever_waits(script, max_errors, retry, most, data):
    """With one worker max_errors + 1 calls fail, also with attempts that wait, and chunks."""
    policy = {"max_workers": 1, "max_errors": max_errors, "retry": retry}
    play = Play(script, picking(data), most, **policy).run()
    fail = sum(failures >= (retry.attempts if retry else 1) for failures in script)
    assert len(play.failed) == min(fail, max_errors + 1)


@given(scripts, workers, st.none() | st.integers(0, 3), retries, lengths, st.data())
def test_every_call_ends_in_one_place(script, max_workers, max_errors, retry, most, data):
    """Every call has succeeded, failed or been skipped in the end, and only one of these."""
    policy = {"max_workers": max_workers, "max_errors": max_errors, "retry": retry}
    play = Play(script, picking(data), most, **policy).run()
    assert sorted(play.succeeded + play.failed + play.skipped) == list(range(len(script)))
    assert max_workers is None or play.most_at_once <= max_workers
    if play.stopped:
        # The ones in flight are waited for, and may fail too.
        assert len(play.failed) <= max_errors + max_workers
    else:
        assert play.skipped == []


@given(scripts, workers, retries, lengths, st.data())
def test_each_call_has_the_attempts_that_it_needs(script, max_workers, retry, most, data):
    """A call is tried until it succeeds or has had all its attempts, and no more often."""
    policy = {"max_workers": max_workers, "max_errors": None, "retry": retry}
    play = Play(script, picking(data), most, **policy).run()
    allowed = 1 if retry is None else retry.attempts
    needed = [min(failures + 1, allowed) for failures in script]
    assert [play.tried.count(index) for index in range(len(script))] == needed
    assert sorted(play.failed) == [i for i, failures in enumerate(script) if failures >= allowed]


@given(scripts, workers, retries, st.data())
def test_the_workers_are_kept_busy(script, max_workers, retry, data):
    """As long as calls are ready or due, as many run as may."""
    play = Play(script, picking(data), max_workers=max_workers, max_errors=None, retry=retry)
    at_most = len(script) if max_workers is None else max_workers
    while not play.scheduler.over:
        play.start()
        over = {*play.succeeded, *play.failed, *play.chunks}
        resting = [i for i in play.due if i not in over and play.due[i] > play.now]
        able = len(script) - len(play.succeeded) - len(play.failed) - len(resting)
        assert len(play.chunks) == min(at_most, able)
        play.now += 1.0
        if play.chunks:
            play.step()
