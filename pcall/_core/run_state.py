"""What a run knows of its calls: which have ended how, which are tried again, who is told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pcall._core.calls import Calls
from pcall._core.event_emitter import EventEmitter
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.records import Outcome
from pcall._core.scheduler import Scheduler
from pcall._logs.run_logs import RunLogs
from pcall.engines.local.parent.call_outcome import not_started
from pcall.engines.local.seeding import chance
from pcall.engines.observing import observers_of

__all__ = ["RunState"]


class RunState:
    """Keeps the accounts of a run.

    Args:
        calls: what to run.
        options: the policy.
        timeout: seconds that each may take; None: no limit.
        max_workers: what the scheduler takes it to be; None: what the policy says.

    Attributes:
        outcomes: the outcomes.
        timed_out: the outcomes of calls that were running when the time of one was up.
        ended_by_us: indices of calls that were ended on request.
    """

    def __init__(
        self,
        calls: Calls,
        options: Options,
        timeout: float | None,
        max_workers: int | None = None,
    ) -> None:
        self._calls = calls
        self._options = options
        self._timeout = timeout
        self._scheduler = self._make_scheduler(
            max_workers=max_workers or options.max_workers,
            max_errors=options.max_errors,
            timeout=timeout,
            retry=options.rule,
        )
        self._tried: dict[int, Outcome] = {}  # how a call failed that waits for another attempt
        self._overdue: set[int] = set()
        self._lost: set[int] = set()
        self._stopped_by_us = False
        self._why = ""  # nothing more is started
        self._logs: RunLogs | None = None
        self._events = EventEmitter(calls, observers_of(options.progress_choice))
        self.outcomes = OutcomeStore(calls)
        self.timed_out: tuple[int, ...] = ()
        self.ended_by_us: set[int] = set()

    def _make_scheduler(self, **policy: Any) -> Scheduler:
        return Scheduler(len(self._calls), **policy)

    def _planned(self) -> Iterable[int]:
        """The calls that are part of the run, for its observers."""
        return range(len(self._calls))

    @property
    def ended_from_outside(self) -> set[int]:
        """Indices of the calls whose child died, or whose time was up."""
        return self._lost | self._overdue

    @property
    def done(self) -> bool:
        """True once no call runs or waits to run."""
        return self._scheduler.over

    def _conclude(self, outcome: Outcome, later: bool = False) -> None:
        """Record the outcome, or have the call tried again.

        Args:
            outcome: of the call's last attempt.
            later: True when its child had another call before it.
        """
        index = outcome.index
        luck = 0.0 if outcome.ok else chance()
        ended = self._scheduler.ended(index, outcome.error, time.monotonic(), luck)
        if self._logs is not None:
            died = index in self._lost or index in self._overdue
            self._logs.ended(outcome, died, later, ended.retried)
        self._events.ended(outcome, ended.retried)
        if ended.retried:
            self._tried[index] = outcome
            # Another attempt is judged anew.
            self._lost.discard(index)
            self._overdue.discard(index)
            self._forget(index)
            return
        self._tried.pop(index, None)
        self.outcomes.record(outcome)
        if ended.skipped:
            if self._scheduler.stopped:
                limit = self._options.max_errors
                self._why = self._why or f"call {index} failed, and max_errors is {limit}"
            self._skip(ended.skipped)

    def _stop(self, why: str) -> None:
        """Start nothing more."""
        self._why = self._why or why
        self._skip(self._scheduler.stop())

    def _skip(self, indices: tuple[int, ...]) -> None:
        """Record the end of calls that will not start, or not again."""
        if self._stopped_by_us:
            self.ended_by_us.update(indices)
        self._events.skipped(indices)
        for index in indices:
            tried = self._tried.pop(index, None)
            outcome = tried or not_started(self._calls[index], self._reason(index))
            if self._logs is not None:
                self._logs.ended(outcome, False, False)
            self.outcomes.record(outcome)

    def _reason(self, index: int) -> str:
        """Why a call will not start."""
        return self._why

    def _forget(self, index: int) -> None:
        """A call is tried again, in another child."""
