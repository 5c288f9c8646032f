"""``max_workers=0``: calls run one after another in this process, so that a debugger works."""

from __future__ import annotations

import os
import time
from typing import Any

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.records import Outcome
from pcall._core.run_state import RunState
from pcall.engines.invoke import invoke, log_failure
from pcall.engines.local.parent.child_process import ChildProcess

__all__ = ["InlineRun"]


class InlineRun(RunState):
    """Has the face of a :class:`~pcall.engines.local.parent.supervisor.Supervisor`, and no child.

    All calls are over when :meth:`start` returns. Timeouts need a process to end, so there
    are none.
    """

    living: tuple[ChildProcess, ...] = ()

    def __init__(self, calls: Calls, options: Options, timeout: float | None) -> None:
        super().__init__(calls, options, timeout=None, max_workers=1)

    def _make_call(self, index: int) -> Any:
        return invoke(self._calls[index])

    @property
    def over(self) -> bool:
        """True once no call waits to run."""
        return self.done

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """Children that are never started."""
        return tuple(ChildProcess(call.name, call) for call in self._calls)

    def start(self) -> None:
        """Run the calls."""
        try:
            self._events.begin(self._planned())
            while not self._scheduler.over:
                self._events.turn()
                if starts := self._scheduler.next_starts(1, time.monotonic()):
                    self._run(starts[0])
                else:
                    due = self._scheduler.next_retry or 0.0
                    time.sleep(max(0.0, min(due - time.monotonic(), self._events.pause())))
        except BaseException as error:  # it is this process that was interrupted
            self._interrupted(error)
            raise
        finally:
            self._events.end()

    def _run(self, index: int) -> None:
        now = time.monotonic()
        self._scheduler.started(index, now)
        self._events.started(index, now)
        self._conclude(self._call(index))

    def _call(self, index: int) -> Outcome:
        call, attempt = self._calls[index], self._scheduler.attempt(index)
        started, begin, cpu = time.time(), time.monotonic(), time.process_time()
        value: Any = None
        error: BaseException | None = None
        try:
            value = self._make_call(index)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            value, error = None, failure
            log_failure(call, failure)
        return Outcome(
            index=call.index,
            call=call,
            ok=error is None,
            value=value,
            error=error,
            pid=os.getpid(),
            attempts=attempt,
            started=started,
            duration=time.monotonic() - begin,
            cpu_time=time.process_time() - cpu,
        )

    def _interrupted(self, error: BaseException) -> None:
        self.terminate()
        for index, outcome in enumerate(self.outcomes):
            if outcome is None:  # the one that was running
                call, attempt = self._calls[index], self._scheduler.attempt(index)
                self.ended_by_us.add(index)
                self._scheduler.ended(index, error)
                self.outcomes.record(
                    Outcome(index=index, call=call, ok=False, error=error, attempts=attempt)
                )

    def turn(self, wait: float | None) -> None:
        """All is over."""

    def terminate(self) -> None:
        """Start none of those that have not started."""
        self._stopped_by_us = True
        self._stop("the run was ended before its turn came")

    def kill(self) -> None:
        """The same."""
        self.terminate()

    def abandon_if_owner(self) -> None:
        """All is over."""

    def finish(self) -> None:
        """All is over."""

    def fileno(self) -> int | None:
        """None."""
        return None

    def pause(self, wait: float | None = None) -> float:
        """Zero: nothing is waited for."""
        return 0.0
