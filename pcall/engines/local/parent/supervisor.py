"""The one event loop: start children, see them end, keep deadlines, kill what must be killed.

It has no thread of its own. Each use of a run (waiting, polling, awaiting) takes *turns*:

1. start what the scheduler lets start;
2. wait for an end, a deadline, or as long as the caller wants;
3. collect the children that ended: reap, read the answer, make the outcome;
4. end the calls whose time is up, and kill what has outlived its grace period.

Whatever breaks into a turn (Ctrl-C, a signal handler that raises, a fork that fails) ends all
children before it goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress

from pcall._os.signals import DeferSignals
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.children import Children
from pcall.engines.local.parent.run_resources import RunResources

__all__ = ["Supervisor"]

_log = logging.getLogger("pcall")

# The longest wait at a time. A signal handler or another thread may have set an earlier
# deadline (terminate() does) since the wait began, and does not end it.
_LONGEST_WAIT = 0.25
# Seconds between two looks at a child for which no descriptor was to be had.
_LOOK_EVERY = 0.02


class Supervisor(Children):
    """Runs calls in children. What calls a child gets is for those that inherit from it.

    Args: see :class:`~pcall._core.run_state.RunState`.
    """

    # ------------------------------------------------------------ what is asked of it

    def check_owner(self) -> None:
        """Raise unless this is the process that started the run."""
        if os.getpid() != self._owner:
            raise AssertionError("this run belongs to the parent of this process")

    def start(self) -> None:
        """Fork what may start now."""
        if not self._calls:
            return
        try:
            self._events.begin(self._planned())
            self._start()
        except BaseException:
            self.abandon()
            raise

    def turn(self, wait: float | None) -> None:
        """Do what is to be done now, after waiting up to so many seconds for something to do.

        None waits as long as it takes, though never long at a time: call it again.
        """
        self.check_owner()
        try:
            self._turn(wait)
        except BaseException:
            self.abandon()
            raise

    def stop(self, number: int) -> None:
        """End all calls: signal those that run, drop those that wait. Does not wait.

        What has not ended a grace period later is killed, in a later turn.
        """
        self.check_owner()
        with self._lock:
            with DeferSignals():
                self._stopped_by_us = True
                self._stop("the run was ended before its turn came")
            if self._resources is not None:
                # What ended by itself until now was not ended by us.
                self._collect(self._resources.poller.poll(0))
            for key in list(self._alive):
                self._end(key, number)
            if number == signal.SIGKILL:
                self._terminator.kill_leftovers()
            self._release_if_over()  # where calls only waited for another attempt

    def terminate(self) -> None:
        """SIGTERM to all."""
        self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all."""
        self.stop(signal.SIGKILL)

    def abandon(self) -> None:
        """End everything, and wait for that. Interrupted, it kills and still waits."""
        number: int = signal.SIGTERM
        # What interrupts is let in only where it is caught.
        with DeferSignals() as deferred:
            for _ in range(100):  # no more than one Ctrl-C after another can be
                try:
                    deferred.deliver()
                    self.stop(number)
                    while self._alive or self._terminator.leftovers:
                        self._turn(None)
                    deferred.hold()
                    break
                except BaseException:
                    number = signal.SIGKILL
                    with suppress(BaseException):
                        deferred.hold()
            with self._lock:
                if not self._turns:
                    self._release()
        self.finish()

    def abandon_if_owner(self) -> None:
        """:meth:`abandon`, but nothing in a child that inherited this object."""
        if os.getpid() == self._owner:
            if not (self.over and self._resources is None):
                self.abandon()
            self.finish()

    def finish(self) -> None:
        """Once all is over: put what children logged where it belongs, and tell of the end."""
        if not self.over:
            return
        logs = self._logs
        if logs is not None:
            logs.deliver(final=True)
            logs.merge()
            self._logs = None  # it knows of this run, and results would live on in the cycle
        self._events.end()

    def fileno(self) -> int | None:
        """A descriptor that is readable when :meth:`turn` has something to do, or None."""
        return None if self._resources is None else self._resources.poller.fileno()

    def pause(self, wait: float | None = None) -> float:
        """Seconds until :meth:`turn` is due although nothing has ended."""
        pause = _LONGEST_WAIT if wait is None else min(wait, _LONGEST_WAIT)
        if self._resources is not None:
            look_every = self._resources.around.system.look_every
            if look_every or self._unwatched:
                pause = min(pause, look_every or _LOOK_EVERY)
        deadline = self._scheduler.next_deadline
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
        due = self._scheduler.next_retry
        if due is not None:
            pause = min(pause, due - time.monotonic())
        return max(0.0, min(pause, self._terminator.pause(), self._events.pause()))

    # ------------------------------------------------------------ the steps of a turn

    def _turn(self, wait: float | None) -> None:
        this_turn = object()
        try:
            with self._lock:
                resources = self._resources
                if resources is None:
                    return  # not started, or over and released
                self._turns.add(this_turn)
            self._take_turn(resources, wait)
        finally:
            # At once, and by one call in C: nothing can come between that would lose it.
            self._turns.discard(this_turn)
            self._release_if_over()

    def _take_turn(self, resources: RunResources, wait: float | None) -> None:
        with self._lock:
            self._collect_known()
            self._fill(resources)
            pause = 0.0 if self.over else self.pause(wait)
            if pause and self._alive:
                pause = min(pause, resources.guard_in(self._alive))
        # Without the lock: other threads may look at the run, or end it.
        ready = resources.poller.poll(pause)
        with self._lock:
            self._look(resources)
            self._collect(ready)
            self._expire()
            self._terminator.take_turn()
            self._fill(resources)
        # Without the lock: neither handlers nor observers are ours.
        logs = self._logs
        if logs is not None:
            logs.deliver(final=self.over)
        if self.over:
            self._events.end()
        else:
            self._events.turn()

    def _expire(self) -> None:
        """End the calls whose time is up."""
        expiry = self._scheduler.expire(time.monotonic())
        if not expiry.stop:
            return
        running = {index: self._forked(index) for index in expiry.stop}
        stop = {index: forked for index, forked in running.items() if forked is not None}
        for index, forked in stop.items():
            _log.error(
                "timeout of %g s: call %d, %s, is still running in process %d",
                self._timeout,
                index,
                self._calls[index],
                forked.pid,
            )
        self._overdue.update(expiry.overdue)
        if expiry.fatal:
            self.timed_out = tuple(sorted(stop))
            with DeferSignals():
                self._stop(f"call {expiry.overdue[0]} ran out of time")
        for index in stop:
            self._end_call(index, expiry.fatal)

    # ------------------------------------------------------------ for those that inherit

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The child of each call, started or not."""
        raise NotImplementedError

    def _start(self) -> None:
        """See what the machine can hold, and take the first turn."""
        raise NotImplementedError

    def _fill(self, resources: RunResources) -> None:
        """Start what may start."""
        raise NotImplementedError

    def _end(self, key: int, number: int) -> None:
        """End one child on request, with this signal."""
        raise NotImplementedError

    def _forked(self, index: int) -> ForkedProcess | None:
        """The process that runs a call, if any does."""
        raise NotImplementedError

    def _end_call(self, index: int, fatal: bool) -> None:
        """End a call for the time that it took, or, ``fatal``, that another one took."""
        raise NotImplementedError
