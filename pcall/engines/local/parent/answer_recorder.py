"""Reads the answers of reused workers, and records them in the state of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pcall._core.captured import Captured
from pcall._core.chunk_outcomes import ChunkOutcomeStore
from pcall._core.records import Outcome
from pcall._core.run_state import RunState
from pcall._core.worker_figures import WorkerFigures
from pcall._errors import TaskCancelled
from pcall._os.current import get_system
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._wire.decode import Answer
from pcall.engines.local.parent.call_outcome import outcome_of
from pcall.engines.local.parent.captured_output import read_call, read_rest
from pcall.engines.local.parent.terminator import Terminator
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.engines.local.parent.workload import Workload

if TYPE_CHECKING:
    from pcall.engines.local.parent.profile_files import ProfileFiles

__all__ = ["AnswerRecorder"]


class AnswerRecorder:
    """Records the answers of the workers of a pool.

    Args:
        state: of the run.
        outcomes: of the state.
        workload: learns the durations of calls.
        terminator: knows which workers were signalled.

    Attributes:
        profiles: reads the profiles of calls; None: none are taken.
    """

    def __init__(
        self,
        state: RunState,
        outcomes: ChunkOutcomeStore,
        workload: Workload,
        terminator: Terminator,
    ) -> None:
        self._state = state
        self._outcomes = outcomes
        self._workload = workload
        self._terminator = terminator
        self._figures: dict[int, WorkerFigures] = {}  # by the number of the worker
        self.profiles: ProfileFiles | None = None

    def add(self, worker: WorkerHandle, figures: WorkerFigures) -> None:
        """Take note of a worker that has been forked."""
        self._figures[worker.number] = figures

    def take_answers(self, worker: WorkerHandle) -> None:
        """Report the answers of a worker since the last time."""
        with DeferSignals() as deferred:
            if worker.is_closed:
                return
            worker.hear()
            while worker.given:
                at = worker.at
                stop, done = worker.look()
                try:
                    # Unpickling may run the user's code, and may be interrupted.
                    deferred.deliver()
                    values, errors = worker.answers(stop)
                except BaseException as problem:
                    if is_interrupt(problem) or (worker.given and worker.at == at):
                        raise
                finally:
                    deferred.hold()
                if not worker.given or worker.at != at:
                    continue  # a signal handler has used the run meanwhile, and was here before
                self._record(worker, stop, values, errors)
                worker.recorded()
                if not done:
                    return
                unstarted = range(worker.at, worker.given[0].stop)
                if unstarted and worker.announced:
                    # The worker saw the request just before that call, which was reported as begun.
                    self._state.events.not_started(unstarted.start)
                worker.announced = False
                worker.finish_chunk()
                if unstarted:
                    self._state.requeue(unstarted.start)
                if worker.held and not worker.given:
                    # Only now: it skips the chunk that it had beside the failed one. That goes
                    # back behind the rest of the failed one, before any later call is dispatched.
                    worker.resume()

    def _record(
        self,
        worker: WorkerHandle,
        stop: int,
        values: list[object],
        errors: Mapping[int, BaseException],
    ) -> None:
        """Record the answers of the calls from :attr:`WorkerHandle.at` up to ``stop``."""
        state, start, began = self._state, worker.at, worker.since
        if began is None:
            return
        if start == stop:
            if stop < worker.given[0].stop:
                state.scheduler.runs_since(start, began)
                self._announce(worker)
            return
        figures = self._figures[worker.number]
        ended = figures.ended
        # Answers that come too late: after the timeout, or after the call was settled or withdrawn.
        late = state.overdue | state.scheduler.disregarded | state.scheduler.unwanted
        late = {index for index in late if start <= index < stop}
        at, since = start, began
        for index in [*sorted({*errors, *late}), stop]:
            if at < index:
                good = range(at, index)
                if worker.first < 0:
                    worker.first = at
                for each in good if worker.table.output is not None else ():
                    self._outcomes.note_output(each, self._captured(worker, each))
                if self.profiles is not None:
                    for each in good:
                        self.profiles.take(worker.number, each)
                self._outcomes.record_chunk(
                    at, index, since, figures, values[at - start : index - start]
                )
                if state.logs is not None:
                    state.logs.ended_well(good, worker.pid, worker.first)
                state.events.chunk_done(at, index, since, figures, worker.announced)
                worker.announced = False
                state.conclude_well(good)
                since = ended[index - 1]
                state.scheduler.advanced(at, index, since)
            if index < stop:
                answer = Answer(values[index - start], errors.get(index), ended[index])
                self.fail(worker, index, answer, since)
                since = ended[index]
            at = index + 1
        worker.at, worker.since = stop, since
        self._workload.answered(worker, start, stop, began)
        self._announce(worker)

    def _announce(self, worker: WorkerHandle) -> None:
        """Report that a worker has begun its current call."""
        if worker.running and not worker.announced:
            assert worker.since is not None
            worker.announced = True
            self._state.events.started(worker.at, worker.since, worker.pid)

    def fail(self, worker: WorkerHandle, index: int, answer: Answer | None, since: float) -> None:
        """Record the failure of a call that a worker has begun."""
        state = self._state
        self._outcomes.claim(index, self._figures[worker.number])
        ended_by_us = state.stopped_on_request or state.failing_fast
        if ended_by_us and self._terminator.was_signalled(worker.number):
            # When the signal was sent, the worker may still have run an earlier call.
            state.ended_by_us.add(index)
        failed = answer is not None and answer.error is not None
        worker.held = failed and self._workload.pauses_on_failure
        cancelled = answer is None or isinstance(answer.error, TaskCancelled)
        settled = index in state.scheduler.disregarded or index in state.scheduler.unwanted
        if (settled or index in state.overdue) and not (cancelled or state.is_stopping):
            # The call ended just before the SIGTERM, or ignored it. The call that the worker has
            # begun since has a time limit of its own.
            self._terminator.forgive(worker.number)
        if worker.first < 0:
            worker.first = index
        if self.profiles is not None:
            self.profiles.take(worker.number, index)
        outcome = self._outcome(worker, index, answer, since)
        if not worker.announced:
            state.events.started(index, since, worker.pid)
        worker.announced = False
        state.conclude(outcome, later=index != worker.first)
        if state.is_retried(index):
            worker.table.forget(index)
            self._outcomes.disclaim(index)

    def _outcome(
        self, worker: WorkerHandle, index: int, answer: Answer | None, since: float
    ) -> Outcome:
        state, forked = self._state, worker.process.forked
        assert forked is not None
        if answer is None:
            state.child_died(index)
        table = worker.table
        captured = None
        if table.output is not None:
            captured = self._captured(worker, index, answer is not None)
        measured = (table.cpu[index], table.rss[index]) if answer else (None, forked.max_rss)
        return outcome_of(
            state.calls[index],
            forked,
            answer,
            signalled=self._terminator.was_signalled(worker.number),
            overdue=state.scheduler.timeout_of(index) if index in state.overdue else None,
            attempt=state.scheduler.attempt(index),
            began=since,
            figures=measured,
            captured=captured,
        )

    def _captured(self, worker: WorkerHandle, index: int, answered: bool = True) -> Captured:
        """What a call of this worker has written."""
        columns, forked = worker.table.output, worker.process.forked
        assert columns is not None
        assert forked is not None
        assert forked.output is not None
        if not answered:
            return read_rest(forked.output, forked.output_end)
        forked.output_end = columns.end_out[index], columns.end_err[index]
        return read_call(forked.output, columns, index, get_system())
