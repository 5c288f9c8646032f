"""A run: the state of its calls, composed with an engine that runs them.

It has no thread of its own. Each use of a run (joining, polling, iterating, awaiting) takes
*turns*:

1. start the calls that the state lets start;
2. wait for an end or a deadline, or for as long as the caller wants;
3. collect the calls that have ended, and kill the processes that have outlived their grace period;
4. end the calls whose time is up, or all of them where too many have failed.

Whatever interrupts a turn (Ctrl-C, a signal handler that raises, a fork that fails) ends all
calls before it propagates.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.run_state import RunState
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._tuning import LONGEST_WAIT
from pcall.engines.engine import Engine

__all__ = ["Run"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")


class Run:
    """Runs the calls of a state with an engine.

    Args:
        state: of the calls.
        engine: made with the same state.
        clock: gives the time in seconds.
    """

    def __init__(
        self, state: RunState, engine: Engine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.state = state
        self._engine = engine
        self._clock = clock
        self._owner = os.getpid()
        # A signal handler may take a turn within a turn of the same thread.
        self._lock = threading.RLock()
        self._turns: set[object] = set()  # being taken now, by threads or signal handlers
        self._posted: deque[Callable[[], None]] = deque()

    # ------------------------------------------------------------ looking

    @property
    def done(self) -> bool:
        """True once no call runs or waits to run."""
        return self.state.over

    @property
    def over(self) -> bool:
        """True once :attr:`done`, and no process lives that a call has started."""
        return self.state.over and not self._engine.busy

    @property
    def children(self) -> tuple[Any, ...]:
        """The process object of each call, in call order, started or not."""
        with self._lock, DeferSignals():
            return self._engine.children

    @property
    def living(self) -> tuple[Any, ...]:
        """The process objects that are alive."""
        with self._lock, DeferSignals():
            return self._engine.living

    def fileno(self) -> int | None:
        """A descriptor that is readable when :meth:`turn` has something to do, or None."""
        return self._engine.fileno() if self._engine.is_open else None

    def pause(self, wait: float | None = None) -> float:
        """Seconds until :meth:`turn` is due although nothing has happened."""
        pause = LONGEST_WAIT if wait is None else min(wait, LONGEST_WAIT)
        if self._engine.is_open:
            pause = min(pause, self._engine.pause())
        scheduler = self.state.scheduler
        for due in (scheduler.next_deadline, scheduler.next_retry):
            if due is not None:
                pause = min(pause, due - self._clock())
        return max(0.0, min(pause, self.state.events.pause()))

    # ------------------------------------------------------------ growing

    def grow(self, count: int, planned: bool = False) -> None:
        """The last ``count`` of the state's calls are new. They start in the next turn.

        Args:
            count: how many.
            planned: True if the observers know of them already.
        """
        with self._lock, DeferSignals():
            self.state.grow(count, planned)

    def pass_over(self) -> None:
        """The next call that :meth:`grow` would bring is not wanted."""
        with self._lock, DeferSignals():
            self.state.scheduler.pass_over()

    def begin_calls(self) -> None:
        """Start the calls that may start now, in this thread, and do not wait.

        Raises:
            OSError: a process could not be made, and waiting for another to end would not help.
                The calls that run are not harmed.
        """
        self._check_owner()
        with self._lock, DeferSignals():
            if self._engine.is_open:
                self._engine.start()

    def fail_next(self, error: BaseException) -> int | None:
        """See :meth:`RunState.fail_next`."""
        with self._lock, DeferSignals():
            return self.state.fail_next(error)

    def cancel(self, index: int) -> None:
        """See that a call ends, or does not start. Do not wait.

        Harmless for a call that is over. A call that a worker is about to begin may begin: cancel
        it again until it is over.
        """
        with self._lock, DeferSignals():
            if self.state.scheduler.withdraw(index):
                self.state.skip((index,))
            elif self._engine.is_open:
                self._engine.withdraw(index)

    def pid(self, index: int) -> int | None:
        """The id of the process that runs a call now; None if none does."""
        with self._lock, DeferSignals():
            return self._engine.pid(index)

    def lingers(self, pid: int) -> bool:
        """True while processes live that this child, which has ended, has left behind."""
        with self._lock, DeferSignals():
            return self._engine.lingers(pid)

    def seal(self) -> None:
        """No further calls will come: the run is over once those that there are have ended."""
        with self._lock, DeferSignals():
            self.state.scheduler.seal()
            self._release_if_over()

    # ------------------------------------------------------------ running

    def start(self) -> None:
        """Start the calls that may start now."""
        if not len(self.state.calls) and self.state.over:
            return
        try:
            self.state.begin()
            with self._lock, DeferSignals():
                self._engine.open()
                self.state.settle()
            self._turn(0)
            while self._engine.synchronous and not self.over:
                self._turn(None)
        except BaseException:
            self.abandon()
            raise

    def turn(self, wait: float | None) -> None:
        """Take a turn: wait up to so many seconds for something to do, and do it.

        With None it waits until something happens, though never long at a time: call it again.
        """
        self._check_owner()
        try:
            self._turn(wait)
        except BaseException:
            self.abandon()
            raise

    def as_completed(self) -> Iterator[int]:
        """Yield the calls in the order in which they end, until :attr:`done`."""
        completed = self.state.outcomes.completed
        position = 0
        while True:
            while position < len(completed):
                yield from completed[position]
                position += 1
            if self.done:
                return
            self.turn(None)

    def deliver_logs(self) -> None:
        """Pass the log records of the calls that are over to the parent's handlers.

        A turn does so. A call that another thread has collected since then, in
        :meth:`begin_calls` for example, is over before its records are delivered.
        """
        logs = self.state.logs
        if logs is not None:
            logs.deliver(final=self.over)

    def terminate(self) -> None:
        """Send SIGTERM to all running calls, and drop the queued ones. Do not wait.

        A later turn kills the processes that outlive the grace period.
        """
        self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to all running calls, and drop the queued ones. Do not wait."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int) -> None:
        """End all calls with this signal. Do not wait."""
        self._check_owner()
        with self._lock, DeferSignals():
            self.state.stop_on_request()
            self._engine.stop(number)
            self._release_if_over()  # if calls only waited for another attempt

    def abandon(self) -> None:
        """End everything, and wait for that. Interrupted, it kills and still waits.

        Raises:
            BaseException: the first interrupt that came meanwhile (Ctrl-C, or whatever else a
                signal handler raised), once everything has ended.
        """
        number: int = signal.SIGTERM
        interrupt: BaseException | None = None
        self.state.scheduler.seal()
        # An interrupt is delivered only where it is caught.
        with DeferSignals() as deferred:
            for _ in range(100):  # more than any series of Ctrl-C
                try:
                    deferred.deliver()
                    self.stop(number)
                    while self._engine.busy:
                        self._turn(None)
                    deferred.hold()
                    break
                except BaseException as error:
                    number = signal.SIGKILL
                    if interrupt is None and is_interrupt(error):
                        interrupt = error
                    with suppress(BaseException):
                        deferred.hold()
            with self._lock:
                if not self._turns:
                    self._engine.close()
        self.finish()
        if interrupt is not None:
            raise interrupt

    def abandon_if_owner(self) -> None:
        """:meth:`abandon`, but nothing in a child that inherited this object."""
        if os.getpid() == self._owner:
            if not (self.over and not self._engine.is_open):
                self.abandon()
            self.finish()

    def finish(self) -> None:
        """If the run is over, merge the logs of its calls, and report the end to observers."""
        if not self.over:
            return
        logs = self.state.logs
        if logs is not None:
            logs.deliver(final=True)
            logs.merge()
            self.state.drop_logs()
        if self.state.output is not None:
            self.state.output.advance()
        self.state.events.end()

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise AssertionError(
                "this run belongs to the parent of this process; build another one here"
            )

    def post(self, action: Callable[[], None]) -> None:
        """Have this done in a turn, with the run's lock held: at once where one waits now.

        May be called by any thread, and by observers. Nothing is done in a child that inherited
        this object, or once the run is over.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._posted.append(action)
            self._engine.wake()

    # ------------------------------------------------------------ the steps of a turn

    def _turn(self, wait: float | None) -> None:
        this_turn = object()
        try:
            with self._lock:
                if not self._engine.is_open:
                    return  # not started, or over and released
                self._turns.add(this_turn)
            self._take_turn(wait)
        finally:
            # First, and by one call in C: no interrupt can come before it has taken effect.
            self._turns.discard(this_turn)
            self._release_if_over()

    def _take_turn(self, wait: float | None) -> None:
        # A signal handler may use this very run. It runs where the state is in order: during the
        # wait, and where the engine delivers signals.
        pause = 0.0
        # A call in this process that the last turn has chosen is executed at once: the preparation
        # would take longer than the rest.
        chosen = self._engine.synchronous and not self._engine.pause()
        if self._posted or not chosen:
            with self._lock, DeferSignals():
                self._do_posted()
                self._engine.start()
                self._fail_fast()
                pause = 0.0 if self.over else self.pause(wait)
        # Without the lock: meanwhile other threads may look at the run, or end it.
        ready = self._engine.poll(pause)
        with self._lock, DeferSignals():
            self._engine.collect(ready)
            self._expire()
            self._do_posted()
            self._engine.start()
            self._fail_fast()
        # Without the lock: handlers and observers are the user's code.
        self.deliver_logs()
        if self.state.output is not None:
            self.state.output.advance()
        if self.over:
            self.state.events.end()
        else:
            self.state.events.turn()

    def _do_posted(self) -> None:
        while self._posted:
            self._posted.popleft()()

    def _expire(self) -> None:
        """End the calls whose time is up."""
        scheduler, engine = self.state.scheduler, self._engine
        deadline = scheduler.next_deadline
        if deadline is None or self._clock() < deadline:
            return
        engine.refresh()  # a worker may run another call by now
        expiry = scheduler.expire(self._clock())
        pids = {index: engine.pid(index) for index in expiry.stop}
        running = {index: pid for index, pid in pids.items() if pid is not None}
        for index, pid in running.items():
            _log.error(
                "timeout of %g s: call %d, %s, is still running in process %d",
                scheduler.timeout_of(index),
                index,
                self.state.calls[index],
                pid,
            )
        self.state.time_out(expiry, running)
        if expiry.fatal:
            engine.cancel_all()
            return
        for index in running:
            engine.cancel(index)

    def _fail_fast(self) -> None:
        """End the running calls where too many have failed, and the policy asks for that."""
        if self.state.fail_fast():
            self._engine.stop(signal.SIGTERM)

    def _release_if_over(self) -> None:
        """Close the engine after the last turn, or if the run was ended while no turn is taken."""
        with self._lock:
            if self.over and not self._turns:
                self._engine.close()
