"""The local engine with a fresh process for each call."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable
from functools import partial

from pcall._core.calls import Calls
from pcall._core.run_state import RunState
from pcall._os.signals import DeferSignals, deliver_due
from pcall._tuning import ANSWER_LOOK_INTERVAL, FORK_BURST
from pcall._wire.decode import has_answer
from pcall.engines.local.parent.call_outcome import outcome_of, take_answer
from pcall.engines.local.parent.captured_output import read_all
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.local_engine import LocalEngine
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.seeding import Draw

__all__ = ["FreshEngine"]

__tracebackhide__ = True  # pytest shows the frames of its user


class FreshEngine(LocalEngine):
    """Runs each call in a child of its own; the index of the call is the key of the child.

    Args:
        state: of the run.
        drawn: see :class:`LocalEngine`.
    """

    def __init__(self, state: RunState, drawn: Draw | None = None) -> None:
        super().__init__(state, partial(_describe_call, state.calls), drawn)
        self._interrupted: set[int] = set()  # calls at whose answers something broke in
        self._answered: set[int] = set()  # calls whose children have answered and not ended
        self._look_at = 0.0
        self._planned_for = 0  # calls for which the room of this machine was looked at

    @property
    def capacity(self) -> int | None:
        """The number of calls that it runs at once; None: all that the state lets start."""
        return self._state.options.max_workers

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The child of each call, started or not."""
        return tuple(self._child(index) for index in range(len(self._state.calls)))

    def open(self) -> None:
        """Acquire the resources of the run."""
        self._look_at = time.monotonic() + ANSWER_LOOK_INTERVAL
        self._limit()
        self._acquire()

    def _limit(self) -> None:
        """Run no more calls at once than this machine can hold."""
        self._planned_for = count = len(self._state.calls)
        workers = self.capacity
        if workers is not None and count >= workers:
            self._planned_for = sys.maxsize  # further calls need no further room
        many = count if workers is None else min(workers, count)
        room = self._limit_to_room(many, fds=self._files_per_child())
        if room < many:
            self._state.scheduler.limit(room)

    def start(self) -> None:
        """Fork a child for each call that may start."""
        resources = self._resources
        if resources is None:
            return
        if len(self._state.calls) > self._planned_for:
            self._limit()
        scheduler = self._state.scheduler
        burst = 1 if self._logs is not None and self._logs.consolidates else FORK_BURST
        while indices := scheduler.next_starts(burst, time.monotonic()):
            if not self._fork({index: self._child(index) for index in indices}, resources):
                break
            # Between two bursts, children that have ended give back descriptors and memory, and
            # no deadline waits for the last of many forks.
            if not scheduler.queued:
                break
            self.collect(resources.poller.poll(0))
            deliver_due()  # a Ctrl-C does not wait for it either
            deadline = scheduler.next_deadline
            if deadline is not None and deadline <= time.monotonic():
                break
        self._guard(resources)

    def collect(self, ready: Iterable[int]) -> None:
        """Report the calls whose children have ended; end those that outlive their call."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + ANSWER_LOOK_INTERVAL
            self._look_for_answers()
        super().collect(ready)

    def refresh(self) -> None:
        """Take note of all calls that have answered until now: no timeout is theirs."""
        self._look_for_answers()

    def _look_for_answers(self) -> None:
        # A call is over once it has answered. A thread that is no daemon or an exit handler may
        # keep its child alive, which then has the grace period to end.
        for key, forked in list(self._alive.items()):
            if key not in self._answered and forked.answer >= 0 and has_answer(forked.answer):
                self._answered.add(key)
                self._state.scheduler.answered(key)
                self._terminator.expect_end(key)

    def pid(self, index: int) -> int | None:
        """The id of the process that runs a call; None if none does, or once it has answered."""
        forked = self._alive.get(index)
        return None if forked is None or index in self._answered else forked.pid

    def cancel(self, index: int) -> None:
        """End the child of a call."""
        self._terminator.signal(index, signal.SIGTERM)

    def withdraw(self, index: int) -> None:
        """Nobody wants a call any more: end its child."""
        if index in self._alive:
            self._terminator.signal(index, signal.SIGTERM)

    def _end_on_request(self, key: int, signal_number: int) -> None:
        self._state.ended_by_us.add(key)
        self._terminator.signal(key, signal_number)

    def _wait_for_room(self) -> bool:
        return self._state.scheduler.no_room()

    def _child(self, index: int) -> ChildProcess:
        child = self._children.get(index)
        if child is None:
            call = self._state.calls[index]
            child = self._children[index] = ChildProcess(f"{call.name}-{index}", call)
            child.attempt = self._state.scheduler.attempt(index)
            child.context = self._state.calls.context(index)
        return child

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(key, forked, resources)
        self._state.started(key, forked.started, forked.pid)

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        state = self._state
        with DeferSignals() as deferred:
            try:
                # What is unpickled here may run code of the user's, and be interrupted.
                deferred.deliver()
                answer = take_answer(forked, key in self._interrupted)
            except BaseException:
                self._interrupted.add(key)
                raise
            finally:
                deferred.hold()
            if self._alive.get(key) is not forked:
                return  # a signal handler has used the run meanwhile, and was here before
            if self._profiles is not None:
                self._profiles.take(key, key)
            outcome = outcome_of(
                self._child(key).job,
                forked,
                answer,
                signalled=self._terminator.was_signalled(key),
                overdue=state.scheduler.timeout_of(key) if key in state.overdue else None,
                attempt=state.scheduler.attempt(key),
                captured=read_all(forked.output),
            )
            if answer is None:
                state.child_died(key)
            self._strike_off(key, forked)
            state.conclude(outcome)
            self._answered.discard(key)
            if state.is_retried(key):  # the next attempt runs in another child
                self._children.pop(key, None)
                self._interrupted.discard(key)
            # The last of it: until then an interrupt has it done again.
            del self._alive[key]
            if not state.calls.kept:
                self._children.pop(key, None)
                self._interrupted.discard(key)


def _describe_call(calls: Calls, index: int) -> str:
    """A call as messages name it."""
    return f"call {index}, {calls[index]}"
