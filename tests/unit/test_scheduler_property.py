"""docs/design.rst: the pure scheduler against a model; events in, decisions out."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pcall import PcallTimeout, Retry
from pcall._core.decisions import Ended, Expiry
from pcall._core.scheduler import Scheduler

NEVER = 1 << 30

seconds = st.integers(0, 4)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 4),
    on=st.sampled_from([ValueError, (ValueError, PcallTimeout)]),
    wait=seconds,
    max_wait=st.integers(0, 6),
    jitter=seconds,
)
failures = st.sampled_from([ValueError(), PcallTimeout(), KeyError()])
chances = st.sampled_from([0.0, 0.5, 1.0])


class AgainstModel(RuleBasedStateMachine):
    """The scheduler beside lists that are read and written in the plainest way.

    Times are small whole numbers, so that deadlines and waits often end together.
    """

    @initialize(
        count=st.integers(1, 12),
        max_workers=st.none() | st.integers(1, 5),
        max_errors=st.sampled_from([0, 0, 1, 2, None]),
        timeout=st.none() | st.integers(1, 5),
        retry=st.none() | retries | retries,
        calm=st.booleans(),
    )
    def build(self, count, max_workers, max_errors, timeout, retry, calm):
        self.scheduler = Scheduler(
            count, max_workers=max_workers, max_errors=max_errors, timeout=timeout, retry=retry
        )
        self.count = count
        self.workers = NEVER if max_workers is None else max_workers
        # Where nothing bounds how many run at once no call queues, and max_errors is idle.
        self.bounded = max_workers is not None
        self.max_errors = max_errors
        self.timeout = timeout
        self.retry = retry
        self.now = 0
        self.ready = list(range(count))
        self.waiting: list[tuple[float, int]] = []  # for another attempt, from then on
        self.due: list[int] = []  # to be tried again as soon as a worker is free
        self.running: dict[int, list[int]] = {}  # by the first: what is left of its chunk
        self.deadlines: dict[int, int] = {}  # that nobody was told of yet
        self.tries = dict.fromkeys(range(count), 0)  # that have failed
        self.succeeded: list[int] = []
        self.failed: list[int] = []
        self.skipped: list[int] = []
        self.stopped = False
        # Half of the runs are left to themselves, since little happens after a stop.
        self.calm = calm

    # -------------------------------------------------------------- what happens

    @rule(passed=st.integers(1, 4))
    def time_passes(self, passed):
        self.now += passed

    @rule(most=st.integers(0, 4), really=st.sampled_from([4, 4, 1, 0]))
    def start(self, most, really):
        expected = self._startable()[: min(most, self._free())]
        assert self.scheduler.next_starts(most, self.now) == expected
        assert self.scheduler.next_starts(most, self.now) == expected, "to ask changes nothing"
        # Not all that were asked for need to start: a fork may fail.
        for index in expected[:really]:
            self.scheduler.started(index, self.now)
            self._run([index])

    @rule(most=st.integers(1, 6), really=st.sampled_from([6, 6, 2, 0]))
    def start_a_stretch(self, most, really):
        chunk = list(self.scheduler.next_chunk(most, self.now))
        assert chunk == list(self.scheduler.next_chunk(most, self.now))
        startable = self._startable()
        assert bool(chunk) == bool(startable and self._free())
        if not chunk:
            return
        assert len(chunk) <= most
        assert chunk == startable[: len(chunk)]
        assert chunk == list(range(chunk[0], chunk[-1] + 1))
        assert len(chunk) == 1 or not any(self.tries[index] for index in chunk)
        chunk = chunk[:really]
        if chunk:
            self.scheduler.started(chunk[0], self.now, chunk[-1] + 1)
            self._run(chunk)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def advance(self, data):
        first, chunk = data.draw(st.sampled_from(list(self.running.items())))
        done = data.draw(st.integers(1, len(chunk)))
        self.scheduler.advanced(first, first + done, self.now)
        self._take(first, done)
        self.succeeded += chunk[:done]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give_back(self, data):
        first, chunk = data.draw(st.sampled_from(list(self.running.items())))
        kept = data.draw(st.integers(0, len(chunk) - 1))
        if kept:
            # What runs goes on, and so does its time.
            skipped = self.scheduler.requeue(first, first + kept)
            self.running[first], chunk = chunk[:kept], chunk[kept:]
        else:
            skipped = self.scheduler.requeue(first)
            self._take(first, len(chunk))
        if self.stopped:
            assert list(skipped) == chunk
            self.skipped += chunk
        else:
            assert skipped == ()
            self.ready = sorted(chunk + self.ready)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.none() | failures | failures, chance=chances)
    def end(self, data, error, chance):
        index = data.draw(st.sampled_from(list(self.running)))
        ended = self.scheduler.ended(index, error, self.now, chance)
        self._take(index, 1)
        if error is None:
            self.succeeded.append(index)
            assert ended == Ended()
        elif self._to_be_tried_again(index, error):
            self.tries[index] += 1
            longest = self.retry.wait * 2 ** (self.tries[index] - 1)
            wait = min(longest, self.retry.max_wait) + self.retry.jitter * chance
            self.waiting.append((self.now + wait, index))
            assert ended == Ended(retried=True)
        else:
            self.failed.append(index)
            assert not ended.retried
            self._check_skipped(ended.skipped, self._too_many_failed())

    @rule(data=st.data(), error=st.none() | failures)
    def end_what_does_not_run(self, data, error):
        # An engine that was interrupted between two lines reports it twice.
        idle = [index for index in range(self.count) if index not in self.running]
        if idle:
            assert self.scheduler.ended(data.draw(st.sampled_from(idle)), error, 0, 0) == Ended()

    @rule()
    def expire(self):
        overdue = [index for index in self.running if self.deadlines.get(index, NEVER) <= self.now]
        forgiven = all(self._to_be_tried_again(index, PcallTimeout()) for index in overdue)
        fatal = self.max_errors == 0 and not forgiven
        stop = list(self.running) if fatal else overdue
        assert self.scheduler.expire(self.now) == Expiry(tuple(overdue), tuple(stop), fatal)
        for index in stop:
            self.deadlines.pop(index, None)
        assert self.scheduler.expire(self.now) == Expiry(), "each is named once"

    @precondition(lambda self: not self.calm)
    @rule()
    def stop(self):
        self._check_skipped(self.scheduler.stop(), True)

    @precondition(lambda self: not self.calm)
    @rule()
    def no_room(self):
        assert self.scheduler.no_room() == bool(self.running)
        if self.running:
            self.workers = len(self.running)
            self.bounded = True

    @precondition(lambda self: not self.calm)
    @rule(workers=st.integers(1, 6))
    def limit(self, workers):
        self.scheduler.limit(workers)
        self.workers = min(self.workers, workers)
        self.bounded = True

    # -------------------------------------------------------------- what always holds

    @invariant()
    def what_it_shows_is_the_models(self):
        self._wake()
        queued = [*self.due, *self.ready, *self.waiting]
        assert self.scheduler.running == tuple(self.running)
        assert self.scheduler.queued == len(queued)
        assert self.scheduler.failed == len(self.failed)
        assert self.scheduler.over == (not self.running and not queued)
        assert self.scheduler.next_deadline == min(self.deadlines.values(), default=None)
        # To ask what may start is what makes the scheduler look at the time.
        self.scheduler.next_starts(1, self.now)
        assert self.scheduler.next_retry == min((due for due, _ in self.waiting), default=None)

    @invariant()
    def every_call_is_in_one_place(self):
        running = [index for chunk in self.running.values() for index in chunk]
        queued = [*self.ready, *self.due, *(index for _, index in self.waiting)]
        over = [*self.succeeded, *self.failed, *self.skipped]
        assert sorted([*running, *queued, *over]) == list(range(self.count))

    @invariant()
    def no_call_has_more_attempts_than_allowed(self):
        allowed = 1 if self.retry is None else self.retry.attempts
        for index in self.running:
            assert self.scheduler.attempt(index) == self.tries[index] + 1 <= allowed

    def teardown(self):
        # From wherever the rules have led, the run comes to its end, and loses nothing.
        while not self.scheduler.over:
            for index in self.scheduler.next_starts(self.count, self.now):
                self.scheduler.started(index, self.now)
            if self.scheduler.running:
                index = self.scheduler.running[0]
                self.succeeded.append(index)
                assert self.scheduler.ended(index, None, self.now) == Ended()
            else:
                due = self.scheduler.next_retry
                assert due is not None, "calls wait, and none may start"
                self.now = due
        assert sorted(self.succeeded + self.failed + self.skipped) == list(range(self.count))

    # -------------------------------------------------------------- the model

    def _wake(self):
        due = sorted(waiting for waiting in self.waiting if waiting[0] <= self.now)
        self.waiting = [waiting for waiting in self.waiting if waiting not in due]
        self.due += [index for _, index in due]

    def _startable(self):
        self._wake()
        return self.due + self.ready

    def _free(self):
        return max(0, self.workers - len(self.running))

    def _run(self, chunk):
        for index in chunk:
            (self.due if index in self.due else self.ready).remove(index)
        self._start_clock(chunk)

    def _take(self, first, done):
        """So many of a running chunk are over; the next of it runs since now."""
        rest = self.running.pop(first)[done:]
        self.deadlines.pop(first, None)
        if rest:
            self._start_clock(rest)

    def _start_clock(self, chunk):
        self.running[chunk[0]] = chunk
        if self.timeout is not None:
            self.deadlines[chunk[0]] = self.now + self.timeout

    def _to_be_tried_again(self, index, error):
        return (
            self.retry is not None
            and not self.stopped
            and self.tries[index] + 1 < self.retry.attempts
            and isinstance(error, self.retry.on)
        )

    def _too_many_failed(self):
        tolerated = NEVER if self.max_errors is None else self.max_errors
        return self.bounded and len(self.failed) > tolerated

    def _check_skipped(self, skipped, all_that_wait):
        expected = self.due + self.ready + [index for _, index in self.waiting]
        if all_that_wait:
            self.stopped = True
            self.due, self.ready, self.waiting = [], [], []
        else:
            expected = []
        assert sorted(skipped) == sorted(expected)
        self.skipped += expected


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=250, stateful_step_count=50)
