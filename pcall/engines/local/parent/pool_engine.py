"""The supervisor of reused children: the same event loop, with what they answered and lost."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.outcome_store import ChunkOutcomeStore
from pcall._core.records import Outcome
from pcall._errors import TaskCancelled
from pcall._os.signals import DeferSignals
from pcall._wire.decode import Answer
from pcall._wire.result_table import EVERY_CALL, ResultTable, WorkerControl
from pcall.engines.local.parent.call_outcome import outcome_of
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.dispatcher import Dispatcher
from pcall.engines.local.parent.worker_handle import WorkerHandle

__all__ = ["PoolEngine"]

# Seconds between two looks at children that tell of nothing.
_LOOK_EVERY = 0.2
# Where calls draw random numbers, they come in so many blocks at least.
_BLOCKS = 512


class PoolEngine(Dispatcher):
    """Runs calls in a pool of reused workers."""

    def __init__(self, calls: Calls, options: Options, timeout: float | None) -> None:
        super().__init__(calls, options, timeout)
        self._look_at = 0.0

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        with self._lock:
            return tuple(
                (self._table and self.outcomes.child(index)) or self._placeholder(index)
                for index in range(len(self._calls))
            )

    def _placeholder(self, index: int) -> ChildProcess:
        for reused in self._reused.values():
            if reused.given and reused.at == index and reused.running:
                return reused.process
        return ChildProcess(f"{self._calls[index].name}-{index}", self._calls[index])

    def _start(self) -> None:
        self._workers = self._room(self._workers, fds=2)
        self._acquire(self._workers)
        resources = self._resources
        if resources is None:
            return  # a signal handler has ended the run
        self._table = ResultTable(len(self._calls), self._workers)
        self._keep_ledger(ChunkOutcomeStore(self._calls, self._table))
        # Where children end after so many calls, no block may be cut in two for it.
        if resources.around.seeds is not None and not self._options.max_tasks_per_child:
            self._block = max(1, len(self._calls) // _BLOCKS)
        self._turn(0)

    def _keep_ledger(self, outcomes: ChunkOutcomeStore) -> None:
        """Go on with this one, and what there is: the run may have been ended by now."""
        before, self.outcomes = self.outcomes, outcomes
        for calls in before.completed:
            for index in calls:
                outcomes.record(before[index])

    # ------------------------------------------------------------ taking answers

    def _collect(self, ready: list[int]) -> None:
        look = [self._by_socket[fd] for fd in ready if fd in self._by_socket]
        if time.monotonic() >= self._look_at:
            # A short call's answer is told of with the next ones, and a long one may follow.
            self._look_at = time.monotonic() + _LOOK_EVERY
            look = list(self._reused.values())
        for reused in look:
            self._progress(reused)
        super()._collect(ready)

    def _progress(self, reused: WorkerHandle) -> None:
        """Take what a child has answered since the last time."""
        with DeferSignals() as deferred:
            reused.hear()
            while reused.given:
                at = reused.at
                stop, done = reused.look()
                try:
                    # What is unpickled here may run code of the user's, and be interrupted.
                    deferred.deliver()
                    values, errors = reused.answers(stop)
                finally:
                    deferred.hold()
                if not reused.given or reused.at != at:
                    continue  # a signal handler of the user's has ended the run meanwhile
                self._take(reused, stop, values, errors)
                if not done:
                    return
                rest = range(reused.at, reused.given[0].stop)
                if rest and reused.announced:
                    # It was seen as it looked what it is to do before that call.
                    self._events.started(rest.start, time.monotonic(), -1)
                reused.announced = False
                reused.finish_chunk()
                if rest:
                    self._skip(self._scheduler.requeue(rest.start))
                if reused.held:
                    reused.resume()

    def _take(
        self,
        reused: WorkerHandle,
        stop: int,
        values: list[object],
        errors: Mapping[int, BaseException],
    ) -> None:
        table, start, since = self._table, reused.at, reused.since
        assert table is not None
        if since is None:
            return
        if start == stop:
            if stop < reused.given[0].stop:
                self._scheduler.runs_since(start, since)
                self._announce(reused)
            return
        bad = sorted({*errors, *(index for index in self._overdue if start <= index < stop)})
        at = start
        for index in [*bad, stop]:
            if at < index:
                good = values[at - start : index - start]
                self.outcomes.record_chunk(at, index, since, reused.owner, good)
                if reused.first < 0:
                    reused.first = at
                if self._logs is not None:
                    self._logs.ended_well(range(at, index), reused.pid, reused.first)
                self._events.chunk(at, index, since, table, reused.announced)
                reused.announced = False
                for call in range(at, index) if self._tried else ():
                    if self._tried.pop(call, None):
                        self.outcomes.tried(call, self._scheduler.attempt(call))
                since = table.ended[index - 1]
                self._scheduler.advanced(at, index, since)
            if index < stop:
                answer = Answer(values[index - start], errors.get(index), table.ended[index])
                self._fail(reused, index, answer, since)
                since = table.ended[index]
            at = index + 1
        self._pace = (since - (reused.since or since)) / (stop - start)
        reused.at, reused.since = stop, since
        self._announce(reused)

    def _announce(self, reused: WorkerHandle) -> None:
        """Tell that the call runs that a child is with now."""
        if reused.running and not reused.announced:
            assert reused.since is not None
            reused.announced = True
            self._events.started(reused.at, reused.since)

    def _fail(self, reused: WorkerHandle, index: int, answer: Answer | None, since: float) -> None:
        """Record the failure of a call that a child has begun."""
        assert self._table is not None
        self.outcomes.claim(index, reused.owner)
        if self._stopped_by_us and self._terminator.was_signalled(reused.number):
            self.ended_by_us.add(index)  # it may have been with an earlier call at the signal
        reused.held = answer is not None and answer.error is not None and self._strict
        cancelled = answer is None or isinstance(answer.error, TaskCancelled)
        if index in self._overdue and not (cancelled or self._why):
            # It was over just before the SIGTERM, or not to be ended by it: what the child has
            # begun since has its own time.
            self._terminator.forgive(reused.number)
        if reused.first < 0:
            reused.first = index
        outcome = self._outcome(reused, index, answer, since)
        if not reused.announced:
            self._events.started(index, since)
        reused.announced = False
        self._conclude(outcome, later=index != reused.first)

    def _forget(self, index: int) -> None:
        assert self._table is not None
        self._table.kinds[index] = self._table.rss[index] = 0
        self.outcomes.disclaim(index)

    def _outcome(
        self, reused: WorkerHandle, index: int, answer: Answer | None, since: float
    ) -> Outcome:
        forked, table = reused.process.forked, self._table
        assert forked is not None
        assert table is not None
        if answer is None:
            self._lost.add(index)
        figures = (table.cpu[index], table.rss[index]) if answer else (None, forked.max_rss)
        return outcome_of(
            self._calls[index],
            forked,
            answer,
            signalled=self._terminator.was_signalled(reused.number),
            overdue=self._timeout if index in self._overdue else None,
            attempt=self._scheduler.attempt(index),
            began=since,
            figures=figures,
        )

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        """A child is over: what it had is lost, if it was begun, or for another."""
        reused = self._reused.get(key)
        if reused is not None:
            self._progress(reused)
        with DeferSignals():
            resources = self._resources
            if reused is None or key not in self._reused:
                return  # a signal handler that ended the run has come before
            assert resources is not None
            while reused.given:
                chunk = reused.given[0]
                at = reused.at
                if reused.running or (reused.first < 0 and not reused.leaving):
                    # A child that dies before it has begun with any call costs one, too:
                    # else another would be forked for it, and so for ever.
                    self._fail(reused, at, None, reused.since or forked.started)
                    at += 1
                    reused.leaving = True
                if at < chunk.stop:
                    self._skip(self._scheduler.requeue(at))
                reused.finish_chunk()
            if self._by_socket.pop(reused.socket.fileno(), None) is not None:
                resources.poller.unregister(reused.socket.fileno())
            reused.close()
            self._strike_off(key, forked)
            del self._reused[key]
            del self._alive[key]

    # ------------------------------------------------------------ ending

    def _expire(self) -> None:
        due = time.monotonic() - (self._timeout or math.inf)
        for reused in self._reused.values():
            # What a call has left (a thread, an exit handler) may keep a child from leaving.
            if reused.leaving and not reused.given and reused.idle_since < due:
                self._end_child(reused, EVERY_CALL, signal.SIGTERM)
        deadline = self._scheduler.next_deadline
        if deadline is None or time.monotonic() < deadline:
            return
        for reused in list(self._reused.values()):
            self._progress(reused)  # it may be with another call by now
        super()._expire()
        if self.timed_out:
            # Also those that are about to begin with a call.
            for reused in self._reused.values():
                self._end_child(reused, EVERY_CALL, signal.SIGTERM)

    def _end_call(self, index: int, fatal: bool) -> None:
        for reused in self._reused.values():
            if reused.given and index in reused.given[0]:
                self._end_child(reused, EVERY_CALL if fatal else index, signal.SIGTERM)

    def _forked(self, index: int) -> ForkedProcess | None:
        for reused in self._reused.values():
            if reused.given and reused.at == index and reused.since is not None:
                return reused.process.forked
        return None

    def _end(self, key: int, number: int) -> None:
        reused = self._reused[key]
        self._progress(reused)  # what ended by itself until now was not ended by us
        if reused.given and reused.running:
            self.ended_by_us.add(reused.at)
        self._end_child(reused, EVERY_CALL, number)

    def _end_child(self, reused: WorkerHandle, call: int, number: int) -> None:
        reused.slot.counts[WorkerControl.CANCELLED] = call
        reused.end()
        self._terminator.signal(reused.number, number)
