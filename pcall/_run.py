"""A run: the state of its calls, composed with an engine that runs them.

It has no thread of its own. Each use of a run (joining, polling, iterating, awaiting) takes
*turns*:

1. start the calls that the state lets start;
2. wait for an end or a deadline, or for as long as the caller wants;
3. collect the calls that have ended;
4. end the calls whose time is up, and kill what has outlived its grace period.

Whatever breaks into a turn (Ctrl-C, a signal handler that raises, a fork that fails) ends all
calls before it goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.run_state import RunState
from pcall._os.signals import DeferSignals
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
        self._turns: set[object] = set()  # those being taken, by threads or signal handlers

    # ------------------------------------------------------------ looking

    @property
    def done(self) -> bool:
        """True once no call runs or waits to run."""
        return self.state.over

    @property
    def over(self) -> bool:
        """True once :attr:`done`, and nothing lives that a call has started."""
        return self.state.over and not self._engine.busy

    @property
    def children(self) -> tuple[Any, ...]:
        """The process object of each call, in call order, started or not."""
        with self._lock:
            return self._engine.children

    @property
    def living(self) -> tuple[Any, ...]:
        """The process objects that are alive."""
        with self._lock:
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

    def grow(self, count: int) -> None:
        """The last ``count`` of the state's calls are new. They start in the next turn."""
        with self._lock:
            self.state.grow(count)

    def seal(self) -> None:
        """No further calls will come: the run is over once those that there are have ended."""
        with self._lock:
            self.state.scheduler.seal()
            self._release_if_over()

    # ------------------------------------------------------------ running

    def start(self) -> None:
        """Start the calls that may start now."""
        if not len(self.state.calls) and self.state.over:
            return
        try:
            self.state.begin()
            self._engine.open()
            self.state.settle()
            self._turn(0)
            while self._engine.synchronous and not self.over:
                self._turn(None)
        except BaseException:
            self.abandon()
            raise

    def turn(self, wait: float | None) -> None:
        """Do what is due, after waiting up to so many seconds for something to do.

        None waits as long as it takes, though never long at a time: call it again.
        """
        self._check_owner()
        try:
            self._turn(wait)
        except BaseException:
            self.abandon()
            raise

    def as_completed(self) -> Iterator[int]:
        """The calls in the order in which they end, until :attr:`done`."""
        completed = self.state.outcomes.completed
        position = 0
        while True:
            while position < len(completed):
                yield from completed[position]
                position += 1
            if self.done:
                return
            self.turn(None)

    def terminate(self) -> None:
        """SIGTERM to all running calls; drop those that wait. Does not wait.

        What has not ended a grace period later is killed, in a later turn.
        """
        self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """The same with SIGKILL."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int) -> None:
        """End all calls with this signal."""
        self._check_owner()
        with self._lock:
            with DeferSignals():
                self.state.stop_on_request()
            self._engine.stop(number)
            self._release_if_over()  # where calls only waited for another attempt

    def abandon(self) -> None:
        """End everything, and wait for that. Interrupted, it kills and still waits."""
        number: int = signal.SIGTERM
        self.state.scheduler.seal()
        # What interrupts is let in only where it is caught.
        with DeferSignals() as deferred:
            for _ in range(100):  # no more than one Ctrl-C after another can be
                try:
                    deferred.deliver()
                    self.stop(number)
                    while self._engine.busy:
                        self._turn(None)
                    deferred.hold()
                    break
                except BaseException:
                    number = signal.SIGKILL
                    with suppress(BaseException):
                        deferred.hold()
            with self._lock:
                if not self._turns:
                    self._engine.close()
        self.finish()

    def abandon_if_owner(self) -> None:
        """:meth:`abandon`, but nothing in a child that inherited this object."""
        if os.getpid() == self._owner:
            if not (self.over and not self._engine.is_open):
                self.abandon()
            self.finish()

    def finish(self) -> None:
        """Once all is over: merge the logs of the calls, and report the end to observers."""
        if not self.over:
            return
        logs = self.state.logs
        if logs is not None:
            logs.deliver(final=True)
            logs.merge()
            self.state.drop_logs()
        self.state.events.end()

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise AssertionError("this run belongs to the parent of this process")

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
            # At once, and by one call in C: nothing can come between that would lose it.
            self._turns.discard(this_turn)
            self._release_if_over()

    def _take_turn(self, wait: float | None) -> None:
        with self._lock:
            self._engine.start()
            pause = 0.0 if self.over else self.pause(wait)
        # Without the lock: other threads may look at the run, or end it.
        ready = self._engine.poll(pause)
        with self._lock:
            self._engine.collect(ready)
            self._expire()
            self._engine.start()
        # Without the lock: neither handlers nor observers are ours.
        logs = self.state.logs
        if logs is not None:
            logs.deliver(final=self.over)
        if self.over:
            self.state.events.end()
        else:
            self.state.events.turn()

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
                self.state.timeout,
                index,
                self.state.calls[index],
                pid,
            )
        with DeferSignals():
            self.state.time_out(expiry, running)
        if expiry.fatal:
            engine.cancel_all()
            return
        for index in running:
            engine.cancel(index)

    def _release_if_over(self) -> None:
        """The last turn, or what ends the run while none is taken, gives everything back."""
        with self._lock:
            if self.over and not self._turns:
                self._engine.close()
