"""What starts when, what is tried again, and what stops: decisions alone.

No process, no clock, no I/O. The supervisor tells what happened and when, and the scheduler
answers with what to do. Time is a number that the caller passes in.

Calls are started singly, or in *chunks*: consecutive calls that one child runs one after
another. Of a chunk one call is running, and the rest is as good as started unless it is
:meth:`given back <Scheduler.requeue>`.
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
        count: how many calls there are.
        max_workers: how many run at once; None: no limit.
        max_errors: when more calls than this have failed, no further one starts; None:
            no limit. It holds where calls queue: with ``max_workers``, or :meth:`limit`.
        timeout: seconds that a call may run from its start; None: no limit.
        retry: which failed calls are tried again; None: none.
        growing: True while :meth:`add` may bring more calls; :meth:`seal` ends that.

    Attributes:
        queued: calls that wait to start, those that wait for another attempt included.
        failed: calls that have failed for good.
        disregarded: calls that a worker has although they were settled meanwhile: their answers
            count for nothing.
    """

    def __init__(
        self,
        count: int,
        *,
        max_workers: int | None = None,
        max_errors: int | None = 0,
        timeout: float | None = None,
        retry: Retry | None = None,
        growing: bool = False,
    ) -> None:
        self._count = count
        self._growing = growing
        self._ready: deque[range] = deque([range(count)] if count else ())
        self.queued = count
        self._waiting: list[tuple[float, int]] = []  # a heap: when it is due, and which
        self._due: deque[range] = deque()  # those whose wait is over: before what is ready
        # What is running, each with the end of its chunk. An ordered set otherwise.
        self._running: dict[int, int] = {}
        # All have one timeout and a clock that never goes back, so the order of starting
        # is the order of deadlines: the first is the next.
        self._deadlines: dict[int, float] = {}
        self._attempts: dict[int, int] = {}  # of calls that have failed before
        self._max_workers = max_workers
        self._max_errors = max_errors
        self._timeout = timeout
        self._retry = retry
        self._stopped = False
        self.failed = 0
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
        """True when nothing more is started."""
        return self._stopped

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`expire` will next have something to say."""
        return next(iter(self._deadlines.values()), None)

    @property
    def next_retry(self) -> float | None:
        """When a call that waits for another attempt is due; None when none waits."""
        return self._waiting[0][0] if self._waiting else None

    def add(self, count: int) -> tuple[int, ...]:
        """Take so many further calls, with the next numbers.

        Returns:
            Those of them that will never start, since the run was stopped before.
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

    def seal(self) -> None:
        """No further calls will come."""
        self._growing = False

    def look_further(self) -> bool:
        """Find further calls, where that is done in steps; False when all are known."""
        return False

    def could_start(self, calls: range) -> bool:
        """True when some of these dispatched calls could start in another worker now."""
        return bool(calls)

    def reason(self, index: int) -> str | None:
        """Why this call was skipped, where another call is the reason."""
        return None

    def planned(self) -> Iterable[int]:
        """The calls that are part of the run."""
        return range(self._count)

    def settle(self) -> Iterator[Settled]:
        """Take note of the calls that were settled before the run."""
        return iter(())

    def settle_now(self, index: int, error: BaseException | None) -> Ended | None:
        """Take note of a call that is settled during the run.

        Args:
            index: the call.
            error: what it has failed with; None: it has a value.

        Returns:
            What follows; None where the call is no part of the run, or over.
        """
        return None

    def take_reopened(self) -> list[int]:
        """Calls that had ended and are executed again, since this was last asked."""
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

    def started(self, index: int, now: float, stop: int | None = None) -> None:
        """The next call that was named runs since ``now``.

        Args:
            index: the call.
            now: when it started.
            stop: where its chunk ends; None: behind it.
        """
        self.dispatched(index, index + 1 if stop is None else stop)
        self.runs_since(index, now)

    def dispatched(self, index: int, stop: int) -> None:
        """The next chunk has been handed out; when it starts, :meth:`runs_since` tells."""
        queue = self._due or self._ready
        first = queue.popleft()
        assert first.start == index, f"call {index} started before {first.start}, the next"
        if stop < first.stop:
            queue.appendleft(range(stop, first.stop))
        self.queued -= stop - index
        self._running[index] = stop

    def runs_since(self, index: int, now: float) -> None:
        """A call that is running began at this time."""
        if self._timeout is not None and index not in self._deadlines:
            self._deadlines[index] = now + self._timeout

    def advanced(self, index: int, to: int, now: float) -> None:
        """Of a running chunk, all from ``index`` up to ``to`` ended well; that runs now."""
        self._move_on(index, to, now)

    def _move_on(self, index: int, to: int, now: float) -> None:
        stop = self._running.pop(index)
        self._deadlines.pop(index, None)
        if to < stop:
            self._running[to] = stop
            self.runs_since(to, now)

    def requeue(self, index: int, start: int | None = None) -> tuple[int, ...]:
        """What was left of a running chunk has not been started, and is to be.

        Args:
            index: the call that the chunk is at.
            start: the first that is given back; None: that one.

        Returns:
            The calls that will never start, when that was decided meanwhile.
        """
        rest = range(index if start is None else start, self._running[index])
        if rest.start > index:
            self._running[index] = rest.start
        else:
            del self._running[index]
            self._deadlines.pop(index, None)
        if self._stopped:
            return tuple(rest)
        self._ready.appendleft(rest)
        self.queued += len(rest)
        return ()

    def limit(self, max_workers: int) -> None:
        """Run no more than so many calls at once, whatever the policy allows."""
        self._max_workers = min(max_workers, self._max_workers or max_workers)

    def no_room(self) -> bool:
        """The machine can't hold another child now: wait until one of these has ended.

        Returns:
            False when none is running, so that waiting would not help.
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
        """A call is over; of a chunk, the next one runs since ``now``.

        Args:
            index: the call.
            error: what it failed with; None when it did not.
            now: the time.
            chance: a random number from 0 to 1, for the wait before another attempt.
        """
        if index not in self._running:
            return _NOTHING  # told twice, by a supervisor that was interrupted between the two
        self._move_on(index, index + 1, now)
        if error is None:
            return _NOTHING
        if self._retry is not None and self._may_retry(index, error):
            attempt = self._attempts[index] = self.attempt(index)
            due = now + self._retry.delay(attempt, chance)
            heapq.heappush(self._waiting, (due, index))
            self.queued += 1
            return Ended(retried=True)
        return self._count_failure()

    def _count_failure(self) -> Ended:
        """One more call has failed for good: stop where that is one too many."""
        self.failed += 1
        # Where all may run at once none is queued, though the last may not be forked yet.
        queues = self._max_workers is not None
        if queues and self._max_errors is not None and self.failed > self._max_errors:
            return Ended(skipped=self.stop())
        return _NOTHING

    def expire(self, now: float) -> Expiry:
        """What the time asks for. Each call is named as overdue once."""
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
        """What is due goes before what has never been tried, in the order of waiting."""
        while self._waiting and self._waiting[0][0] <= now:
            _, index = heapq.heappop(self._waiting)
            self._due.append(range(index, index + 1))

    def _may_retry(self, index: int, error: BaseException) -> bool:
        if self._retry is None or self._stopped or self.attempt(index) >= self._retry.attempts:
            return False
        return self._retry.decides(error)

    def _may_retry_timeout(self, index: int) -> bool:
        return self._may_retry(index, PcallTimeout("timeout", self._timeout))
