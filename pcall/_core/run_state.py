"""The state of a run: which calls ended how, which are retried, which are skipped, and why.

This module decides and keeps records. It has no process, no descriptor, and no clock of its own.
An engine asks the state for calls to start, and reports how they ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from pcall._core.call_notes import name_call
from pcall._core.calls import Calls
from pcall._core.decisions import Ended, Expiry
from pcall._core.event_emitter import EventEmitter
from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.records import Call, Outcome
from pcall._core.scheduler import Scheduler
from pcall._errors import NotStarted

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["LogSink", "RunState", "not_started"]


class OutputWriter(Protocol):
    """Writes the output of calls in call order."""

    def advance(self) -> None:
        """Write the output of the calls that are over, and before which all are over."""


class LogSink(Protocol):
    """Collects the log messages of calls. The ends of calls are reported to it."""

    def ended(self, outcome: Outcome, died: bool, later: bool, retried: bool = False) -> None: ...

    def ended_well(self, calls: range, pid: int, first: int) -> None: ...

    def deliver(self, final: bool) -> None: ...

    def merge(self) -> None: ...


class RunState:
    """Everything that is known of the calls of a run, and the decisions that follow.

    Args:
        calls: the calls of the run.
        options: the policy.
        timeout: seconds that each call may take; None: no limit.
        scheduler: decides what starts when.
        outcomes: keeps the outcomes.
        observers: the receivers of events.
        clock: gives the time in seconds; it never goes back.
        chance: gives a random number from 0 to 1, for the jitter of a retry.

    Attributes:
        calls, options, timeout, scheduler, outcomes: as given.
        events: converts state changes into events for the observers.
        logs: collects the log messages of calls; None if nothing does.
        profiles: collects the profiles of calls; None: none are taken.
        overdue: calls that have run longer than the timeout, in their current attempt.
        timed_out: calls that were running when the timeout of one ended the run.
        ended_by_us: calls that were ended on request.
        stopped_on_request: True once :meth:`stop_on_request` was called.
        failing_fast: True once :meth:`fail_fast` has returned True.
    """

    def __init__(
        self,
        calls: Calls,
        options: Options,
        timeout: float | None,
        scheduler: Scheduler,
        outcomes: OutcomeStore,
        observers: Observers,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.calls = calls
        self.options = options
        self.timeout = timeout
        self.scheduler = scheduler
        self.outcomes = outcomes
        self.events: EventEmitter = EventEmitter(calls, observers, clock)
        self.logs: LogSink | None = None
        self.output: OutputWriter | None = None
        self.profiles: RunProfile | None = outcomes.profiles
        self.overdue: set[int] = set()
        self.timed_out: tuple[int, ...] = ()
        self.ended_by_us: set[int] = set()
        self.stopped_on_request: bool = False
        self.failing_fast: bool = False
        self._clock = clock
        self._chance = chance
        self._failed_attempts: dict[int, Outcome] = {}  # of calls that wait for another attempt
        self._lost: set[int] = set()  # calls whose child died before it answered
        self._why = ""  # why no further call starts

    def use_output(self, writer: OutputWriter) -> None:
        """Have the output of calls written by this writer as calls end."""
        self.output = writer

    def use_logs(self, logs: LogSink) -> None:
        """Report the ends of calls also to this collector."""
        self.logs = logs

    def drop_logs(self) -> None:
        """Forget the collector. It refers to this run, so a cycle would keep the results alive."""
        self.logs = None

    @property
    def over(self) -> bool:
        """True once no call runs, none waits to run, and none can be added."""
        return self.scheduler.over

    @property
    def ended_from_outside(self) -> set[int]:
        """The calls whose child died, and those that ran longer than the timeout."""
        return self._lost | self.overdue

    def set_timeout(self, timeout: float | None) -> None:
        """Set the seconds that each call may take, before any has started."""
        self.timeout = timeout
        self.scheduler.set_timeout(timeout)

    def begin(self) -> None:
        """Report the start of the run to the observers."""
        self.events.begin(self.scheduler.planned() if self.events else ())

    # ------------------------------------------------------------ growing

    def grow(self, count: int, planned: bool = False) -> None:
        """Take note that the last ``count`` of the calls are new.

        Args:
            count: how many.
            planned: True if the observers know of them already.
        """
        total = len(self.calls)
        if not planned:
            self.events.planned(range(total - count, total))
        self.skip(self.scheduler.add(count))

    def fail_next(self, error: BaseException) -> int | None:
        """The next call to start could not be started: that is its failure.

        Returns:
            The call; None if none is to start now.
        """
        now = self._clock()
        for index in self.scheduler.next_starts(1, now):
            self.scheduler.dispatched(index, index + 1)
            self.events.started(index, now)
            self.conclude(Outcome(index, self.calls[index], False, error=error))
            return index
        return None

    def forget(self, index: int) -> None:
        """Drop what is known of a call that is over, and that nobody asks about any more."""
        self.scheduler.forget(index)
        self.outcomes.forget(index)
        self.overdue.discard(index)
        self._lost.discard(index)
        self.ended_by_us.discard(index)

    # ------------------------------------------------------------ reports of an engine

    def started(self, index: int, at: float, pid: int | None = None) -> None:
        """Note that a call which was next to start has been running since ``at``."""
        self.scheduler.started(index, at)
        self.events.started(index, at, pid)

    def child_died(self, index: int) -> None:
        """Note that the child of a call ended before it answered."""
        self._lost.add(index)

    def conclude(self, outcome: Outcome, later: bool = False) -> None:
        """Record the outcome of an attempt, or have the call retried.

        Args:
            outcome: of the call's last attempt.
            later: True when its child ran another call before it.
        """
        index = outcome.index
        if index in self.scheduler.disregarded:
            self._disregard(outcome, later)
            return
        luck = 0.0 if outcome.ok else self._chance()
        ended = self.scheduler.ended(index, outcome.error, self._clock(), luck)
        name_call(outcome)
        if self.logs is not None:
            died = index in self._lost or index in self.overdue
            self.logs.ended(outcome, died, later, ended.retried)
        self.events.ended(outcome, ended.retried)
        if ended.retried:
            self._failed_attempts[index] = outcome
            # They say nothing about the next attempt.
            self._lost.discard(index)
            self.overdue.discard(index)
            return
        self._failed_attempts.pop(index, None)
        self.outcomes.record(outcome)
        self._skip_after(index, ended)

    def _skip_after(self, index: int, ended: Ended) -> None:
        """Record the end of the calls that will not start because this one has failed."""
        if ended.skipped:
            if self.scheduler.stopped:
                limit = self.options.max_errors
                self._why = self._why or f"call {index} failed, and max_errors is {limit}"
            self.skip(ended.skipped)

    def _disregard(self, outcome: Outcome, later: bool) -> None:
        """An attempt has ended whose call was settled meanwhile."""
        index = outcome.index
        died = index in self._lost
        self.scheduler.ended(index, None, self._clock())
        self._lost.discard(index)
        if self.logs is not None:
            self.logs.ended(outcome, died, later)
        self.events.not_started(index)

    def interrupted(self, outcome: Outcome) -> None:
        """Record a call that was interrupted by an exception meant for this process."""
        self.scheduler.ended(outcome.index, outcome.error)
        self._record(outcome)

    def is_retried(self, index: int) -> bool:
        """True while a call waits for another attempt."""
        return index in self._failed_attempts

    def conclude_well(self, calls: range) -> None:
        """Note that these calls returned; those that failed before get their number of attempts."""
        for index in calls if self._failed_attempts else ():
            if self._failed_attempts.pop(index, None):
                self.outcomes.set_attempts(index, self.scheduler.attempt(index))

    def forget_failures(self, calls: range) -> None:
        """Note that these calls returned, and were recorded with their number of attempts."""
        for index in calls if self._failed_attempts else ():
            self._failed_attempts.pop(index, None)

    def requeue(self, index: int, start: int | None = None) -> None:
        """Queue the unstarted part of a dispatched chunk again. See :meth:`Scheduler.requeue`."""
        settled = set(self.scheduler.disregarded)
        self.skip(self.scheduler.requeue(index, start))
        for each in settled - self.scheduler.disregarded:
            # It will not start.
            if self.logs is not None:
                self.logs.ended(Outcome(each, self.calls[each], True), False, False)

    def reopen(self) -> list[int]:
        """Drop the outcomes of the calls that are executed again, and return these calls."""
        reopened = self.scheduler.take_reopened()
        for index in reopened:
            self.outcomes.reopen(index)
        if reopened:
            self.events.planned(reopened)
        return reopened

    # ------------------------------------------------------------ calls that never start

    def settle(self) -> None:
        """Record the calls that were settled before the run."""
        for settled in self.scheduler.settle():
            index, error = settled.call, settled.error
            outcome = Outcome(index, self.calls[index], error is None, settled.value, error)
            if self.logs is not None:
                self.logs.ended(outcome, False, False)
            self._record(outcome)
            self.events.settled(outcome)
            if error is not None:
                self._why = f"call {index} was marked as failed"
            self.skip(settled.skipped)

    def settle_now(self, index: int, value: Any, error: BaseException | None) -> bool:
        """A call is settled during the run. What waits for it may go on.

        Returns:
            False where the call is no part of the run, or over.
        """
        ended = self.scheduler.settle_now(index, error)
        if ended is None:
            return False
        self._failed_attempts.pop(index, None)
        outcome = Outcome(index, self.calls[index], error is None, value, error)
        if self.logs is not None and index not in self.scheduler.disregarded:
            self.logs.ended(outcome, False, False)
        self._record(outcome)
        self.events.settled(outcome)
        self._skip_after(index, ended)
        return True

    def time_out(self, expiry: Expiry, stopped: Iterable[int]) -> None:
        """Take note of the calls that are ended because of the timeout.

        Args:
            expiry: of :meth:`Scheduler.expire`.
            stopped: the calls among them that a process runs.
        """
        self.overdue.update(expiry.overdue)
        if expiry.fatal:
            self.timed_out = tuple(sorted(stopped))
            self.stop(f"call {expiry.overdue[0]} ran out of time")

    def fail_fast(self) -> bool:
        """Return True once, when too many calls have failed and the running ones are to end."""
        if (
            not self.options.fail_fast
            or not self.scheduler.failed_too_often
            # They are being ended already.
            or self.failing_fast
            or self.stopped_on_request
            or self.timed_out
        ):
            return False
        self.failing_fast = True
        return True

    def stop_on_request(self) -> None:
        """Start nothing more: the caller ends the run."""
        self.stopped_on_request = True
        self.stop("the run was ended before its turn came")

    def stop(self, why: str) -> None:
        """Start nothing more."""
        self._why = self._why or why
        self.skip(self.scheduler.stop())

    def skip(self, indices: Iterable[int]) -> None:
        """Record the end of calls that will not start, or not again."""
        indices = tuple(indices)
        if self.stopped_on_request:
            self.ended_by_us.update(indices)
        self.events.skipped(indices)
        for index in indices:
            failed = self._failed_attempts.pop(index, None)
            reason = self.scheduler.reason(index) or self._why
            outcome = failed or not_started(self.calls[index], reason)
            if self.logs is not None:
                self.logs.ended(outcome, False, False)
            self._record(outcome)

    def _record(self, outcome: Outcome) -> None:
        name_call(outcome)
        self.outcomes.record(outcome)

    @property
    def is_stopping(self) -> bool:
        """True once there is a reason to start no further call."""
        return bool(self._why)


def not_started(call: Call, why: str) -> Outcome:
    """The outcome of a call that never ran."""
    error = NotStarted(f"{call} (call {call.index}) was not started: {why}")
    return Outcome(index=call.index, call=call, ok=False, error=error)
