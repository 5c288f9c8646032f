"""Decides which worker of a pool runs which calls, in chunks that keep all cores busy.

A chunk lasts some milliseconds: long enough that a call of a microsecond does not wait for the
parent, short enough that no core waits for another at the end. A worker has one chunk that it
runs and one that it takes next; the latter is taken back if another worker is idle. If a call
takes longer than the calls before it, the unstarted calls of its chunk are taken back, too.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from pcall._core.run_state import RunState
from pcall._os.signals import DeferSignals
from pcall._tuning import CHUNK_SECONDS, CHUNKS_PER_WORKER, WORKER_LOOK_INTERVAL
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.engines.local.parent.workload import Workload

__all__ = ["Dispatcher"]


class Dispatcher:
    """Dispatches calls to workers, and takes unstarted ones back.

    Args:
        state: of the run.
        workload: decides about the size of chunks.
        worker_count: the largest number of workers.
        refresh: takes the answers that a worker has given by now.

    Attributes:
        workers: by number, the workers that are alive.
        worker_count: as given, or smaller if the machine has no room for so many.
    """

    def __init__(
        self,
        state: RunState,
        workload: Workload,
        worker_count: int,
        refresh: Callable[[WorkerHandle], None],
    ) -> None:
        self._state = state
        self._scheduler = state.scheduler
        self._workload = workload
        self._refresh = refresh
        self._most = state.options.max_tasks_per_child or sys.maxsize  # calls that a worker takes
        self._preempt_at = math.inf  # the time of the next look for calls that others could run
        self.workers: dict[int, WorkerHandle] = {}
        self.worker_count = worker_count

    def add(self, worker: WorkerHandle) -> None:
        """Take note of a worker that has been forked."""
        self.workers[worker.number] = worker

    def remove(self, worker: WorkerHandle) -> None:
        """Take note of a worker that has ended."""
        del self.workers[worker.number]

    def pause(self) -> float:
        """Seconds until :meth:`preempt_slow_chunks` is due."""
        return self._preempt_at - time.monotonic()

    @property
    def waits(self) -> bool:
        """True if some call could start now."""
        return bool(self._scheduler.next_chunk(1, time.monotonic()))

    def rests(self) -> bool:
        """True if no worker has more than the call that it runs: nothing can be taken back."""
        for worker in self.workers.values():
            if len(worker.given) > 1 or (worker.given and len(worker.given[0]) > 1):
                return False
        self._preempt_at = math.inf
        return True

    def missing_workers(self) -> int:
        """The number of workers to fork for the calls that could start now."""
        missing = min(self.worker_count - len(self.workers), self._scheduler.ready)
        return missing if missing > 0 and self.waits else 0

    # ------------------------------------------------------------ dispatching

    def dispatch(self) -> None:
        """Give calls to the workers that have too few."""
        # While workers are still to be forked, no call waits behind another.
        full = len(self.workers) >= self.worker_count
        for depth in range(CHUNKS_PER_WORKER if full else 1):
            for worker in self.workers.values():
                if worker.leaving or worker.held or worker.preempt_requested_at:
                    continue
                if len(worker.given) > depth:
                    continue
                chunk = self._next_chunk()
                if not chunk:
                    return
                attempt = self._scheduler.attempt(chunk.start)
                chunk = chunk[: self._most - worker.calls]
                chunk = self._workload.known(chunk, worker.inherited)
                if self._is_unfit(worker, chunk, attempt):
                    if not worker.given:
                        worker.leave()  # a fit worker takes its place
                    continue
                chunk = self._workload.fit(worker, chunk)
                if not chunk:
                    continue
                self._scheduler.dispatched(chunk.start, chunk.stop)
                worker.give(chunk, attempt, self._workload.pauses_on_failure)
                if worker.calls >= self._most:
                    worker.leave()

    def _is_unfit(self, worker: WorkerHandle, chunk: range, attempt: int) -> bool:
        """True if the worker lacks these calls, or if another attempt needs a fresh worker."""
        return not chunk or (attempt > 1 and worker.calls > 0)

    def _next_chunk(self) -> range:
        block = self._workload.block
        size = max(self._workload.chunk_size(self.worker_count), block)
        chunk = self._scheduler.next_chunk(size, time.monotonic())
        for index in self._state.reopen():
            self._workload.reopen(index)
        # Let it end at the end of a block, if possible, so that its calls draw the same random
        # numbers as in any other run.
        stop = chunk.stop - chunk.stop % block
        return range(chunk.start, stop) if stop > chunk.start else chunk

    def let_idle_workers_leave(self) -> None:
        """No work is left: let idle workers exit."""
        for worker in self.workers.values():
            if not worker.given:
                worker.leave()

    # ------------------------------------------------------------ taking back

    def take_back(self) -> bool:
        """No call waits: move a chunk that its worker has not begun to an idle worker.

        Returns:
            False if there is no such chunk, or no idle worker.
        """
        if not any(not each.given and not each.leaving for each in self.workers.values()):
            return False
        with DeferSignals():
            for worker in self.workers.values():
                if self._take_next(worker):
                    self.dispatch()
                    return True
        return False

    def _take_next(self, worker: WorkerHandle) -> bool:
        """Take back the chunk that a worker has not begun, if it has one."""
        chunk = worker.take_back()
        if chunk is not None:
            self._state.requeue(chunk.start)
        return chunk is not None

    def preempt_slow_chunks(self) -> None:
        """Take back calls that wait behind a slow one, if other workers could run them."""
        self._preempt_at = math.inf
        full = len(self.workers) >= self.worker_count
        if self.waits or (full and all(worker.given for worker in self.workers.values())):
            return
        for worker in list(self.workers.values()):
            if self._could_yield(worker):
                self._refresh(worker)  # by now it may be beyond that call
            if self._could_yield(worker):
                self._preempt_at = min(self._preempt_at, self._preempt(worker))

    def _could_yield(self, worker: WorkerHandle) -> bool:
        if not worker.given or worker.ending or worker.held or worker.since is None:
            return False
        # Calls that depend on the running one can't start anywhere else.
        return len(worker.given) > 1 or self._scheduler.could_start(worker.unstarted)

    def _preempt(self, worker: WorkerHandle) -> float:
        """Ask for the unstarted calls of a worker's chunk, or take them.

        Returns:
            The time at which to call this again.
        """
        now = time.monotonic()
        if worker.preempt_requested_at is None:
            assert worker.since is not None
            if now < worker.since + CHUNK_SECONDS:
                return worker.since + CHUNK_SECONDS
            with DeferSignals():
                self._take_next(worker)
            worker.preempt()
            return now + WORKER_LOOK_INTERVAL
        if now < worker.preempt_requested_at + WORKER_LOOK_INTERVAL:
            return worker.preempt_requested_at + WORKER_LOOK_INTERVAL
        with DeferSignals():
            unstarted = worker.take_unstarted()
            if unstarted:
                self._state.requeue(worker.at, unstarted.start)
                self._workload.met_slow_call()
        return math.inf
