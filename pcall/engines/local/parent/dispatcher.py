"""Decides which worker of a pool runs which calls: in chunks, so that no core waits for another.

A chunk lasts some milliseconds: long enough that a call of a microsecond does not wait for the
parent, short enough that no core waits for another at the end. A worker has one chunk that it
runs and one that it takes next; the latter is taken back where another worker is idle. A call
may take longer than those before it: then the unstarted calls of its chunk are taken back, too.
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
    """Hands calls to workers, and takes unstarted ones back.

    Args:
        state: of the run.
        workload: decides about the size of chunks.
        worker_count: how many workers there are to be.
        refresh: takes the answers that a worker has given until now.

    Attributes:
        workers: by number, those that are alive.
        worker_count: as given; it falls where the machine has no room for so many.
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
        self._known: dict[int, int] = {}  # by worker, the calls that it inherited
        self._preempt_at = math.inf  # when to look again for calls that others could run
        self.workers: dict[int, WorkerHandle] = {}
        self.worker_count = worker_count

    def add(self, worker: WorkerHandle) -> None:
        """A worker has been forked."""
        self.workers[worker.number] = worker
        self._known[worker.number] = len(self._state.calls)

    def remove(self, worker: WorkerHandle) -> None:
        """A worker has ended."""
        del self.workers[worker.number]
        del self._known[worker.number]

    def pause(self) -> float:
        """Seconds until :meth:`preempt_slow_chunks` is due."""
        return self._preempt_at - time.monotonic()

    @property
    def waits(self) -> bool:
        """True when some call could start now."""
        return bool(self._scheduler.next_chunk(1, time.monotonic()))

    def missing_workers(self) -> int:
        """How many workers should be forked for the calls that could start now."""
        missing = min(self.worker_count - len(self.workers), self._scheduler.ready)
        return missing if missing > 0 and self.waits else 0

    # ------------------------------------------------------------ handing out

    def dispatch(self) -> None:
        """Give calls to the workers that have too few."""
        # No call waits behind another for want of a worker that is still to be forked.
        full = len(self.workers) >= self.worker_count
        for depth in range(CHUNKS_PER_WORKER if full else 1):
            for worker in self.workers.values():
                if worker.leaving or worker.preempt_requested_at or len(worker.given) > depth:
                    continue
                chunk = self._next_chunk()
                if not chunk:
                    return
                attempt = self._scheduler.attempt(chunk.start)
                chunk = chunk[: self._most - worker.calls]
                chunk = range(chunk.start, min(chunk.stop, self._known[worker.number]))
                if self._is_unfit(worker, chunk, attempt):
                    if not worker.given:
                        worker.leave()  # for one that is fit
                    continue
                chunk = self._workload.fit(worker, chunk)
                if not chunk:
                    continue
                self._scheduler.dispatched(chunk.start, chunk.stop)
                worker.give(chunk, attempt, self._workload.pauses_on_failure)
                if worker.calls >= self._most:
                    worker.leave()

    def _is_unfit(self, worker: WorkerHandle, chunk: range, attempt: int) -> bool:
        """True where another attempt needs a fresh worker, or the calls came after its fork."""
        return not chunk or (attempt > 1 and worker.calls > 0)

    def _next_chunk(self) -> range:
        block = self._workload.block
        size = max(self._workload.chunk_size(self.worker_count), block)
        chunk = self._scheduler.next_chunk(size, time.monotonic())
        for index in self._state.reopen():
            self._workload.reopen(index)
        # It ends where a block does, where it can, so that its calls draw the same numbers as
        # in any other run.
        stop = chunk.stop - chunk.stop % block
        return range(chunk.start, stop) if stop > chunk.start else chunk

    def let_idle_workers_leave(self) -> None:
        """No work is left: let workers that have none exit."""
        for worker in self.workers.values():
            if not worker.given:
                worker.leave()

    # ------------------------------------------------------------ taking back

    def take_back(self) -> bool:
        """Nothing waits: move a chunk that no worker has begun to an idle one.

        Returns:
            False when there is none, or nobody idle.
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
        """Where others could run them, take the calls that wait in a worker for a slow one."""
        self._preempt_at = math.inf
        full = len(self.workers) >= self.worker_count
        if self.waits or (full and all(worker.given for worker in self.workers.values())):
            return
        for worker in list(self.workers.values()):
            if self._could_yield(worker):
                self._refresh(worker)  # it may have come further
            if self._could_yield(worker):
                self._preempt_at = min(self._preempt_at, self._preempt(worker))

    def _could_yield(self, worker: WorkerHandle) -> bool:
        if not worker.given or worker.ending or worker.held or worker.since is None:
            return False
        # Calls that wait for the one that it runs could start nowhere else.
        return len(worker.given) > 1 or self._scheduler.could_start(worker.unstarted)

    def _preempt(self, worker: WorkerHandle) -> float:
        """Ask for the unstarted calls of a worker's chunk, or take them.

        Returns:
            The time at which to come back.
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
