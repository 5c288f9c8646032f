"""What starts when, and what stops: decisions alone, no process, no clock, no I/O.

The supervisor tells what happened and when (:meth:`Scheduler.started`,
:meth:`Scheduler.ended`, :meth:`Scheduler.expire`); the scheduler answers with what to
do. Time is a number that the caller passes in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

__all__ = ["Expiry", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Expiry:
    """What follows from the time.

    Attributes:
        overdue: calls that have run longer than the timeout.
        stop: calls to end for it: those, or with no error tolerated everything running.
    """

    overdue: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()


_NOTHING = Expiry()


class Scheduler:
    """The state of a run's calls, as numbers.

    Args:
        count: how many calls there are.
        max_workers: how many run at once; None: no limit.
        max_errors: when more calls than this have failed, no further one starts; None:
            no limit. It holds where calls queue: with ``max_workers``, or :meth:`limit`.
        timeout: seconds that a call may run from its start; None: no limit.
    """

    def __init__(
        self,
        count: int,
        *,
        max_workers: int | None = None,
        max_errors: int | None = 0,
        timeout: float | None = None,
    ) -> None:
        self._queued = deque(range(count))
        self._running: dict[int, None] = {}  # an ordered set
        # All have one timeout and a clock that never goes back, so the order of starting
        # is the order of deadlines: the first is the next.
        self._deadlines: dict[int, float] = {}
        self._max_workers = max_workers
        self._max_errors = max_errors
        self._timeout = timeout
        self.failed = 0

    @property
    def running(self) -> tuple[int, ...]:
        """Calls that are running, in the order of their starts."""
        return tuple(self._running)

    @property
    def queued(self) -> int:
        """How many calls wait to start."""
        return len(self._queued)

    @property
    def over(self) -> bool:
        """True when nothing runs and nothing waits to."""
        return not self._running and not self._queued

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`expire` will next have something to say."""
        return next(iter(self._deadlines.values()), None)

    def next_starts(self, most: int = 1) -> list[int]:
        """The calls to start now, in this order, up to so many."""
        if self._max_workers is not None:
            most = min(most, self._max_workers - len(self._running))
        return list(islice(self._queued, max(0, most)))

    def started(self, index: int, now: float) -> None:
        """The next call that :meth:`next_starts` named runs since ``now``."""
        first = self._queued.popleft()
        assert first == index, f"call {index} started before its turn, which is {first}'s"
        self._running[index] = None
        if self._timeout is not None:
            self._deadlines[index] = now + self._timeout

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

    def ended(self, index: int, ok: bool) -> tuple[int, ...]:
        """A call is over.

        Returns:
            The calls that will never start because of it.
        """
        if index not in self._running:
            return ()  # told twice, by a supervisor that was interrupted between the two
        del self._running[index]
        self._deadlines.pop(index, None)
        if ok:
            return ()
        self.failed += 1
        # Where all may run at once none is queued, though the last may not be forked yet.
        queues = self._max_workers is not None
        if queues and self._max_errors is not None and self.failed > self._max_errors:
            return self.stop()
        return ()

    def expire(self, now: float) -> Expiry:
        """What the time asks for. Each call is named as overdue once."""
        deadline = self.next_deadline
        if deadline is None or now < deadline:
            return _NOTHING
        overdue = tuple(index for index, end in self._deadlines.items() if end <= now)
        tolerant = self._max_errors is None or self._max_errors > 0
        stop = overdue if tolerant else self.running
        for index in stop:
            self._deadlines.pop(index, None)
        return Expiry(overdue, stop)

    def stop(self) -> tuple[int, ...]:
        """Start nothing more.

        Returns:
            The calls that will never start.
        """
        skipped = tuple(self._queued)
        self._queued.clear()
        return skipped
