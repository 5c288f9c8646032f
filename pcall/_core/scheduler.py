"""Decides which calls start when, which are retried, and when a run stops starting calls.

There is no process, no clock and no I/O here. The run reports events with their times, and the
scheduler answers with decisions. Time is a number that the caller passes in.

Calls are started singly, or in *chunks*: consecutive calls that one child runs one after
another. One call of a chunk is running, and the others count as started unless they are
:meth:`requeued <Scheduler.requeue>`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from pcall._core.call_failures import PcallTimeout
from pcall._core.decisions import Ended, Expiry, Settled
from pcall._core.retry import Retry

__all__ = ["Scheduler"]


_NO_EXPIRY = Expiry()
_NOTHING = Ended()


class Scheduler:
    """The state of a run's calls, as numbers.

    Args:
        count: the number of calls.
        max_workers: how many calls run at once; None: no limit.
        max_errors: once more calls than this have failed, no further call starts; None:
            no limit. It applies if calls queue: with ``max_workers``, or :meth:`limit`.
        timeout: seconds that a call may run from its start; None: no limit.
        retry: decides which failed calls are retried; None: none.
        fail_fast: True: ``max_errors`` applies also if no call queues.
        growing: True while :meth:`add` may bring more calls; :meth:`seal` ends that.
        first: the number of the first call.

    Attributes:
        queued: calls that wait to start, those that wait for another attempt included.
        failed: calls that have failed for good.
        disregarded: calls that a worker has although they were settled meanwhile: their answers
            count for nothing.
        unwanted: calls that were withdrawn and are not over.
    """

    def __init__(
        self,
        count: int,
        *,
        max_workers: int | None = None,
        max_errors: int | None = 0,
        timeout: float | None = None,
        retry: Retry | None = None,
        fail_fast: bool = False,
        growing: bool = False,
        first: int = 0,
    ) -> None:
        self._count = first + count
        self._growing = growing
        self._ready: deque[range] = deque([range(first, first + count)] if count else ())
        self.queued: int = count
        self._waiting: list[tuple[float, int]] = []  # a heap: due time and call of each retry
        self._due: deque[range] = deque()  # retries whose wait has ended; go before the ready
        # The running call of each chunk, with the chunk's end, in the order of starting.
        self._running: dict[int, int] = {}
        # All calls have the same timeout, and the clock never goes back. So deadlines come in the
        # order of starting, and the first is the next.
        self._deadlines: dict[int, float] = {}
        self._attempts: dict[int, int] = {}  # of calls that have failed before
        self._max_workers = max_workers
        self._max_errors = max_errors
        self._timeout = timeout
        self._retry = retry
        self._own: dict[int, tuple[float | None, Retry | None]] = {}  # see set_policy()
        self._mixed = False  # True once deadlines may come in another order than starts
        self.unwanted: set[int] = set()
        self._fail_fast = fail_fast
        self._stopped = False
        self.failed: int = 0
        self.disregarded: set[int] = set()

    @property
    def running(self) -> tuple[int, ...]:
        """Calls that are running, in the order of their starts."""
        return tuple(self._running)

    @property
    def over(self) -> bool:
        """True when nothing runs, nothing waits to, and no further calls can come."""
        return not self._running and not self.queued and self.complete

    @property
    def complete(self) -> bool:
        """True once all calls of the run are known."""
        return not self._growing

    @property
    def ready(self) -> int:
        """An upper bound of the calls that could start now."""
        return self.queued

    @property
    def stopped(self) -> bool:
        """True if no further call starts."""
        return self._stopped

    @property
    def next_deadline(self) -> float | None:
        """The time of the next deadline; None when there is none."""
        if self._mixed:
            return min(self._deadlines.values(), default=None)
        return next(iter(self._deadlines.values()), None)

    @property
    def next_retry(self) -> float | None:
        """The time when the next retry is due; None when no call waits for one."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def failed_too_often(self) -> bool:
        """True once more calls have failed than the policy tolerates."""
        return self._max_errors is not None and self.failed > self._max_errors

    def set_timeout(self, timeout: float | None) -> None:
        """Set the seconds that a call may run, before any has started."""
        self._timeout = timeout

    def set_policy(self, index: int, timeout: float | None, retry: Retry | None) -> None:
        """Give a call that has not started a timeout and a rule for retries of its own."""
        self._own[index] = (timeout, retry)
        self._mixed = True

    def timeout_of(self, index: int) -> float | None:
        """The seconds that a call may take; None: no limit."""
        return self._own[index][0] if index in self._own else self._timeout

    def _rule_of(self, index: int) -> Retry | None:
        return self._own[index][1] if index in self._own else self._retry

    def withdraw(self, index: int) -> bool:
        """Nobody wants a call any more: it will not start, or not again.

        Returns:
            True if it waited; False if it runs, or is over.
        """
        self.unwanted.add(index)
        for queue in (self._due, self._ready):
            for place, calls in enumerate(queue):
                if index in calls:
                    parts = (range(calls.start, index), range(index + 1, calls.stop))
                    del queue[place]
                    for part in filter(None, reversed(parts)):
                        queue.insert(place, part)
                    self.queued -= 1
                    return True
        for entry in self._waiting:
            if entry[1] == index:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
                self.queued -= 1
                return True
        return False

    @property
    def paused(self) -> int:
        """The number of calls that wait until their next attempt is due."""
        return len(self._waiting)

    def forget(self, index: int) -> None:
        """Drop what is known of a call that is over."""
        self._own.pop(index, None)
        self._attempts.pop(index, None)
        self.unwanted.discard(index)

    def add(self, count: int) -> tuple[int, ...]:
        """Add so many calls, with the next numbers.

        Returns:
            The calls among them that will never start, since the run was stopped before.
        """
        assert self._growing, "calls were added after seal()"
        calls = range(self._count, self._count + count)
        self._count += count
        if self._stopped:
            return tuple(calls)
        if count:
            self._ready.append(calls)
            self.queued += count
        return ()

    def pass_over(self) -> None:
        """The next call that would be added is not wanted: its number stays unused."""
        self._count += 1

    def seal(self) -> None:
        """No further calls will come."""
        self._growing = False

    def look_further(self) -> bool:
        """Find further calls, if they are found in steps; False when all are known."""
        return False

    def could_start(self, calls: range) -> bool:
        """True when some of these dispatched calls could start in another worker now."""
        return bool(calls)

    def reason(self, index: int) -> str | None:
        """Why this call was skipped, if another call is the reason."""
        return None

    def planned(self) -> Iterable[int]:
        """The calls that are part of the run."""
        return range(self._count)

    def settle(self) -> Iterator[Settled]:
        """Take note of the calls that were settled before the run."""
        return iter(())

    def settle_now(self, index: int, error: BaseException | None) -> Ended | None:
        """Settle a call during the run: it failed with this error, or, for None, has a value.

        Returns None where the call is no part of the run, or over.
        """
        return None

    def take_reopened(self) -> list[int]:
        """The calls that had ended and are executed again, since the last call of this method."""
        return []

    def attempt(self, index: int) -> int:
        """The number of a call's attempt, from 1."""
        return self._attempts.get(index, 0) + 1

    def next_starts(self, most: int = 1, now: float = math.inf) -> list[int]:
        """The calls to start now, in this order, up to so many."""
        self._wake(now)
        startable = chain.from_iterable(chain(self._due, self._ready))
        return list(islice(startable, self._free(most)))

    def next_chunk(self, most: int, now: float = math.inf) -> range:
        """The consecutive calls to start now in one child, up to so many.

        Calls that have failed before are no part of a longer chunk.
        """
        self._wake(now)
        queue = self._due or self._ready
        return queue[0][:most] if queue and self._free(1) else range(0)

    def startable(self, most: int, now: float = math.inf) -> list[int]:
        """The calls that could start now, in this order, up to so many.

        Unlike :meth:`next_starts` it does not mind how many run: any of them may be next, for an
        engine whose workers differ.
        """
        self._wake(now)
        return list(islice(chain.from_iterable(chain(self._due, self._ready)), most))

    def started(self, index: int, now: float, stop: int | None = None) -> None:
        """Take note that the next call to start has been running since ``now``.

        Args:
            index: the call.
            now: when it started.
            stop: the end of its chunk; None: directly behind the call.
        """
        self.dispatched(index, index + 1 if stop is None else stop)
        self.runs_since(index, now)

    def dispatched(self, index: int, stop: int) -> None:
        """Take note that the next chunk was dispatched; :meth:`runs_since` reports its start."""
        queue = self._due or self._ready
        first = queue.popleft()
        assert first.start == index, f"call {index} started before {first.start}, the next"
        if stop < first.stop:
            queue.appendleft(range(stop, first.stop))
        self.queued -= stop - index
        self._running[index] = stop

    def _dispatched_out_of_turn(self, index: int, stop: int) -> None:
        """As :meth:`dispatched`, for any call of :meth:`startable`."""
        for queue in (self._due, self._ready):
            for place, calls in enumerate(queue):
                if index in calls:
                    del queue[place]
                    parts = (range(calls.start, index), range(min(stop, calls.stop), calls.stop))
                    for part in reversed(parts):
                        if part:
                            queue.insert(place, part)
                    self.queued -= min(stop, calls.stop) - index
                    self._running[index] = min(stop, calls.stop)
                    return
        raise AssertionError(f"call {index} started, which was not ready")

    def runs_since(self, index: int, now: float) -> None:
        """Take note that a running call began at this time."""
        timeout = self.timeout_of(index) if self._own else self._timeout
        if timeout is not None and index not in self._deadlines:
            self._deadlines[index] = now + timeout

    def answered(self, index: int) -> None:
        """A running call has answered. It ends with its process, however long that takes."""
        self._deadlines.pop(index, None)

    def advanced(self, index: int, to: int, now: float) -> None:
        """Take note that the calls of a chunk before ``to`` returned, and that ``to`` runs."""
        self._move_on(index, to, now)

    def _move_on(self, index: int, to: int, now: float) -> None:
        stop = self._running.pop(index)
        self._deadlines.pop(index, None)
        if to < stop:
            self._running[to] = stop
            self.runs_since(to, now)

    def requeue(self, index: int, start: int | None = None) -> tuple[int, ...]:
        """Queue the unstarted calls of a running chunk again.

        Args:
            index: the running call of the chunk.
            start: the first unstarted call; None: ``index``, which has not begun.

        Returns:
            The calls that will never start, since the run was stopped meanwhile.
        """
        rest = range(index if start is None else start, self._running[index])
        if rest.start > index:
            self._running[index] = rest.start
        else:
            del self._running[index]
            self._deadlines.pop(index, None)
        if self._stopped:
            return tuple(rest)
        # In call order: other parts of the queue may have been queued again before, too.
        before = []
        while self._ready and self._ready[0].start < rest.start:
            before.append(self._ready.popleft())
        self._ready.appendleft(rest)
        self._ready.extendleft(reversed(before))
        self.queued += len(rest)
        return ()

    def limit(self, max_workers: int) -> None:
        """Start no more than so many calls at once, whatever the policy allows."""
        self._max_workers = min(max_workers, self._max_workers or max_workers)

    def no_room(self) -> bool:
        """Take note that the machine can't hold another child until one has ended.

        Returns:
            False if none is running, so that waiting would not help.
        """
        if self._running:
            self._max_workers = len(self._running)
        return bool(self._running)

    def ended(
        self,
        index: int,
        error: BaseException | None,
        now: float = 0.0,
        chance: float = 0.0,
    ) -> Ended:
        """Take note that a call has ended; the next call of its chunk runs since ``now``.

        Args:
            index: the call.
            error: the exception that it failed with; None if it returned.
            now: the time.
            chance: a random number from 0 to 1, for the wait before another attempt.
        """
        if index not in self._running:
            return _NOTHING  # reported before, by an engine that was interrupted afterwards
        self._move_on(index, index + 1, now)
        if error is None:
            return _NOTHING
        rule = self._rule_of(index)
        if rule is not None and self._may_retry(index, error):
            attempt = self._attempts[index] = self.attempt(index)
            due = now + rule.delay(attempt, chance)
            heapq.heappush(self._waiting, (due, index))
            self.queued += 1
            return Ended(retried=True)
        return self._count_failure()

    def _count_failure(self) -> Ended:
        """One more call has failed for good: stop where that is one too many."""
        self.failed += 1
        # If all may run at once, none is queued, although the last may not be forked yet.
        limited = self._max_workers is not None or self._fail_fast
        if limited and self.failed_too_often:
            return Ended(skipped=self.stop())
        return _NOTHING

    def expire(self, now: float) -> Expiry:
        """Find the calls whose time is up. Each call is named as overdue once."""
        deadline = self.next_deadline
        if deadline is None or now < deadline:
            return _NO_EXPIRY
        overdue = tuple(index for index, end in self._deadlines.items() if end <= now)
        tolerant = self._max_errors is None or self._max_errors > 0
        fatal = not tolerant and not all(map(self._may_retry_timeout, overdue))
        stop = self.running if fatal else overdue
        for index in stop:
            self._deadlines.pop(index, None)
        return Expiry(overdue, stop, fatal)

    def stop(self) -> tuple[int, ...]:
        """Start nothing more.

        Returns:
            The calls that will not start, or not again.
        """
        self._stopped = True
        startable = chain.from_iterable(chain(self._due, self._ready))
        skipped = (*startable, *(index for _, index in self._waiting))
        self._due.clear()
        self._ready.clear()
        self._waiting.clear()
        self.queued = 0
        return skipped

    def _free(self, most: int) -> int:
        if self._max_workers is None:
            return most
        return max(0, min(most, self._max_workers - len(self._running)))

    def _wake(self, now: float) -> None:
        """Move retries that are due to the queue that goes before calls that were never tried."""
        while self._waiting and self._waiting[0][0] <= now:
            _, index = heapq.heappop(self._waiting)
            self._due.append(range(index, index + 1))

    def _may_retry(self, index: int, error: BaseException) -> bool:
        rule = self._rule_of(index)
        if rule is None or self._stopped or index in self.unwanted:
            return False
        return self._tries(index) < rule.attempts and rule.decides(error)

    def _tries(self, index: int) -> int:
        return self.attempt(index)  # those that the retry policy counts

    def _may_retry_timeout(self, index: int) -> bool:
        return self._may_retry(index, PcallTimeout("timeout", self.timeout_of(index)))
