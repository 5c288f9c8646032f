"""The inline engine, which runs calls one after another in this process, for debuggers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from pcall._core.captured import Captured, add_last_lines
from pcall._core.records import Call, Outcome
from pcall._core.run_state import RunState, not_started
from pcall._os.current import get_system
from pcall._wire.traceback_codec import users_part
from pcall.engines.invoke import invoke, log_failure
from pcall.engines.local.child.current_call import running_inline
from pcall.engines.local.parent.captured_output import GroupWriter, capture_inline
from pcall.engines.local.parent.child_process import ChildProcess
from pcall.engines.local.seeding import draw

__all__ = ["InlineCalls", "InlineEngine", "InlineWorkload"]

__tracebackhide__ = True  # pytest shows the frames of its user


class InlineWorkload(Protocol):
    """Executes calls in this process, and keeps the values that other calls need."""

    def execute(self, call: Call) -> Any:
        """Call the target, and return its value."""

    def reopen(self, index: int) -> None:
        """Take note that a call which had returned is executed again."""

    def drop_unneeded(self) -> None:
        """Drop the values that no call needs any more."""


class InlineCalls:
    """Independent calls."""

    def execute(self, call: Call) -> Any:
        """Call the target, and return its value."""
        return invoke(call)

    def reopen(self, index: int) -> None:
        """Do nothing: only a retry executes a call again."""

    def drop_unneeded(self) -> None:
        """Do nothing: the caller gets all values."""


class InlineEngine:
    """Runs calls in the thread that opened it. There is no child, and so no timeout.

    Args:
        state: of the run; its scheduler has ``max_workers=1``.
        workload: executes the calls.
    """

    synchronous = True
    capacity: int | None = 1
    busy = False
    living: tuple[ChildProcess, ...] = ()

    def __init__(self, state: RunState, workload: InlineWorkload) -> None:
        self._state = state
        self._workload = workload
        self.is_open: bool = False
        self._thread = 0
        self._entropy = 0
        self._next: list[int] = []  # the call to execute
        self._running = -1
        self._interrupt: BaseException | None = None  # has interrupted the running call
        self._ended: list[Outcome] = []
        self._woken = threading.Event()
        self._initialize = state.options.initialize

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """For each call a process object that is never started."""
        return tuple(ChildProcess(call.name, call) for call in self._state.calls)

    def open(self) -> None:
        """Make the current thread the one that runs calls."""
        self.is_open = True
        self._thread = threading.get_ident()
        # Drawn as for children: the seeds of calls are the same, and the next run has others.
        self._entropy = draw().entropy
        if self._state.options.capture_output == "group":
            self._state.use_output(GroupWriter(self._state.outcomes))

    def start(self) -> None:
        """Choose the call that :meth:`poll` will execute."""
        self._reopen()
        if self._running < 0 and not self._next:
            now = time.monotonic()
            for index in self._state.scheduler.next_starts(1, now):
                self._reopen()  # the scheduler may have found calls to execute again
                self._state.started(index, now, os.getpid())
                self._next.append(index)

    def _reopen(self) -> None:
        for index in self._state.reopen():
            self._workload.drop_unneeded()
            self._workload.reopen(index)

    def poll(self, timeout: float) -> list[int]:
        """Execute the chosen call; wait if there is none."""
        if threading.get_ident() != self._thread or not self._next:
            self._woken.wait(timeout)
            self._woken.clear()
            return []
        self._running = index = self._next.pop()
        try:
            self._ended.append(self._execute(index))
        except BaseException as error:  # meant for this process, and not for the call
            self._interrupt = error
            raise
        return [index]

    def _execute(self, index: int) -> Outcome:
        call, attempt = self._state.calls[index], self._state.scheduler.attempt(index)
        started, begin, cpu = time.time(), time.monotonic(), time.process_time()
        value: Any = None
        found: list[Captured] = []
        error: BaseException | None = None
        try:
            with running_inline(call, attempt, self._entropy):
                if self._state.options.capture_output:
                    with capture_inline(get_system()) as found:
                        value = self._initialize_and_execute(call)
                else:
                    value = self._initialize_and_execute(call)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            # By the method: the attribute of a frozen exception can't be assigned to.
            value, error = None, failure.with_traceback(users_part(failure.__traceback__))
            log_failure(call, failure)
        captured = found[0] if found else None
        if error is not None and captured is not None:
            add_last_lines(error, captured)
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
            **({} if captured is None else captured._asdict()),
        )

    def _initialize_and_execute(self, call: Call) -> Any:
        if self._initialize is not None:
            self._initialize()  # if it fails, so does the call, and the next one calls it again
            self._initialize = None
        profiles = self._state.profiles
        if profiles is None:
            return self._workload.execute(call)
        # Loaded for those who profile their calls.
        from pcall.engines.inline_profile import profile_inline

        return profile_inline(profiles, call, self._workload.execute)

    def wake(self) -> None:
        """End the wait of :meth:`poll`."""
        self._woken.set()

    def withdraw(self, index: int) -> None:
        """A call was settled meanwhile. One that has begun in this process can't be ended."""
        if index in self._next:
            self._next.remove(index)
            self._state.events.not_started(index)
            self._state.requeue(index)

    def collect(self, ready: Iterable[int]) -> None:
        """Report the call that has ended."""
        while self._ended:
            outcome = self._ended[0]
            self._state.conclude(outcome)
            # Only now: an interrupt in the line above leaves it to be done again.
            if self._ended and self._ended[0] is outcome:
                self._ended.pop(0)
            self._running = -1
            self._workload.drop_unneeded()

    def refresh(self) -> None:
        """Do nothing: no call runs beside the caller."""

    def pid(self, index: int) -> int | None:
        """None: a call in this process has no process of its own."""
        return None

    def cancel(self, index: int) -> None:
        """Not possible."""

    def lingers(self, pid: int) -> bool:
        """False: no call has a process."""
        return False

    def cancel_all(self) -> None:
        """Not possible."""

    def stop(self, signal: int) -> None:
        """Drop the chosen call, and report an interrupted one. A call that runs is not ended."""
        self.collect(())
        chosen, self._next = self._next, []
        for index in chosen:
            call = self._state.calls[index]
            self._give_up(not_started(call, "the run was ended before its turn came"))
        error, self._interrupt = self._interrupt, None
        index, state = self._running, self._state
        if error is not None and index >= 0:
            attempt = state.scheduler.attempt(index)
            call = state.calls[index]
            self._give_up(Outcome(index, call, ok=False, error=error, attempts=attempt))
            self._running = -1

    def _give_up(self, outcome: Outcome) -> None:
        self._state.ended_by_us.add(outcome.index)
        self._state.interrupted(outcome)

    def pause(self) -> float:
        """Zero while there is a call to execute or report; else infinite."""
        return 0.0 if self._next or self._ended else float("inf")

    def fileno(self) -> int | None:
        """None."""
        return None

    def close(self) -> None:
        """Take note of the end: no resources are held."""
        self.is_open = False
