"""The local engine with a pool of reused workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from pcall._core.chunk_outcomes import ChunkOutcomeStore
from pcall._core.options import Options
from pcall._core.run_state import RunState
from pcall._core.worker_figures import WorkerFigures
from pcall._os.signals import DeferSignals
from pcall._tuning import CHUNKS_PER_WORKER, POOL_LOOK_INTERVAL, ROWS
from pcall._wire.result_table import ResultTable
from pcall.engines.local.parent.answer_recorder import AnswerRecorder
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.dispatcher import Dispatcher
from pcall.engines.local.parent.local_engine import LocalEngine
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.engines.local.parent.workload import Workload
from pcall.engines.local.seeding import Draw
from pcall.engines.local.worker_control import EVERY_CALL, WorkerControl

__all__ = ["PoolEngine", "pool_size"]

__tracebackhide__ = True  # pytest shows the frames of its user


class PoolEngine(LocalEngine):
    """Runs calls in workers that take one chunk of calls after another.

    Args:
        state: of the run; its scheduler has ``max_workers=pool_size(...)``, see :func:`pool_size`.
        outcomes: of the state.
        workload: decides about chunks and values.
        drawn: see :class:`LocalEngine`.
    """

    def __init__(
        self,
        state: RunState,
        outcomes: ChunkOutcomeStore,
        workload: Workload,
        drawn: Draw | None = None,
    ) -> None:
        super().__init__(state, drawn=drawn)
        self._outcomes = outcomes
        self._workload = workload
        workers = _worker_count(state.options, len(state.calls), not state.scheduler.complete)
        self._recorder = AnswerRecorder(state, outcomes, workload, self._terminator)
        self._dispatcher = Dispatcher(state, workload, workers, self._recorder.take_answers)
        self._workers = self._dispatcher.workers
        self._new: dict[int, WorkerHandle] = {}  # the workers that are being forked
        self._by_socket: dict[int, WorkerHandle] = {}
        self._table: ResultTable | None = None
        self._rows = 0  # the number of rows of the table
        self._spared: set[int] = set()
        self._refresh_at = 0.0

    # ------------------------------------------------------------ the protocol of engines

    @property
    def capacity(self) -> int | None:
        """The largest number of workers at once."""
        return self._dispatcher.worker_count

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The worker of each call; before its start, a process object that is never started."""
        return tuple(
            self._outcomes.child(index) or self._running_child(index)
            for index in range(len(self._state.calls))
        )

    def _running_child(self, index: int) -> ChildProcess:
        for worker in self._workers.values():
            if worker.given and worker.at == index and worker.running:
                return worker.process
        call = self._state.calls[index]
        return ChildProcess(f"{call.name}-{index}", call)

    def open(self) -> None:
        """Acquire the resources of the run."""
        dispatcher = self._dispatcher
        dispatcher.worker_count = self._limit_to_room(
            dispatcher.worker_count, fds=2 + self._files_per_child()
        )
        self._acquire()
        self._recorder.profiles = self._profiles
        resources = self._resources
        if resources is None:
            return  # a signal handler has ended the run
        self._make_table()
        assert self._table is not None
        seeded = resources.child_context.seeds is not None
        self._workload.open(self._table, dispatcher.worker_count, seeded)

    def _make_table(self) -> None:
        # Rows that nobody has touched take no memory. So a growing run gets a table with many
        # rows, and seldom a new one, in which rows keep their numbers. A worker keeps the table
        # that it inherited.
        count = len(self._state.calls)
        growing = not self._state.scheduler.complete
        self._rows = max(2 * count, 1024) if growing else count
        if not self._state.calls.kept:
            self._rows = count + ROWS
        extra = self._dispatcher.worker_count * WorkerControl.SIZE
        self._table = ResultTable(self._rows, extra, bool(self._state.options.capture_output))

    def start(self) -> None:
        """Dispatch calls to workers, and fork the workers that are missing."""
        resources, dispatcher = self._resources, self._dispatcher
        if resources is None:
            return
        scheduler = self._state.scheduler
        if len(self._state.calls) > self._rows:
            self._make_table()
        scheduler.look_further()
        self._workload.drop_unneeded()
        if not scheduler.queued and not scheduler.complete and dispatcher.rests():
            self._guard(resources)
            return  # calls come one by one, and each has a worker
        dispatcher.preempt_slow_chunks()
        while True:
            with DeferSignals():  # a call that the scheduler counts as dispatched has a worker
                dispatcher.dispatch()
            missing = dispatcher.missing_workers()
            if not missing or not self._fork_workers(missing, resources):
                break
            # The forks may take longer than the first workers' chunks.
            self.collect(resources.poller.poll(0))
        while not dispatcher.waits and dispatcher.take_back():
            pass
        self._workload.rebalance(self._workers.values())
        if not scheduler.queued and scheduler.complete:
            dispatcher.let_idle_workers_leave()
        self._guard(resources)

    def collect(self, ready: Iterable[int]) -> None:
        """Take answers, and report the workers that have ended."""
        ready = list(ready)
        workers = [self._by_socket[fd] for fd in ready if fd in self._by_socket]
        if time.monotonic() >= self._refresh_at:
            # The notice of a short call's answer comes with the next answers, and a long call may
            # come first.
            self._refresh_at = time.monotonic() + POOL_LOOK_INTERVAL
            workers = list(self._workers.values())
            self._expect_ends()
        for worker in workers:
            self._recorder.take_answers(worker)
        super().collect(ready)

    def refresh(self) -> None:
        """Take all answers that workers have given by now."""
        for worker in list(self._workers.values()):
            self._recorder.take_answers(worker)

    def pause(self) -> float:
        """Seconds until :meth:`collect` is due although no descriptor is ready."""
        return min(super().pause(), self._dispatcher.pause())

    def pid(self, index: int) -> int | None:
        """The id of the worker that runs a call; None if none does.

        A worker that has taken a call and not begun it does not count: if it dies, another worker
        makes the call.
        """
        for worker in self._workers.values():
            if worker.given and worker.at == index:
                worker.look()  # it may have begun the call just now
                return worker.pid if worker.running else None
        return None

    # ------------------------------------------------------------ forking

    def _fork_workers(self, count: int, resources: RunResources) -> bool:
        if self._logs is not None and self._logs.consolidates:
            count = 1
        numbers = range(self._dispatcher.worker_count)
        free = [number for number in numbers if number not in self._workers][:count]
        new = self._new
        assert self._table is not None
        try:
            try:
                with DeferSignals():
                    for number in free:
                        new[number] = self._workload.make_worker(number, self._table)
            except OSError as error:
                if not new and not (self._is_full(error) and self._wait_for_room()):
                    raise
            return self._fork({n: worker.process for n, worker in new.items()}, resources)
        finally:
            with DeferSignals():
                while new:
                    new.popitem()[1].close()

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(key, forked, resources)
        worker = self._new.pop(key)
        self._children[key] = worker.process
        table = self._table
        assert table is not None
        figures = WorkerFigures(
            child=worker.process,
            pid=forked.pid,
            rss=forked.rss,
            clock=time.time() - time.monotonic(),
            ended=table.ended,
            cpu=table.cpu,
            max_rss=table.rss,
        )
        self._recorder.add(worker, figures)
        self._state.events.workers[forked.pid] = f"worker {key}"
        self._dispatcher.add(worker)
        self._by_socket[worker.socket.fileno()] = worker
        resources.poller.register(worker.socket.fileno())

    def _wait_for_room(self) -> bool:
        if self._alive:
            self._dispatcher.worker_count = len(self._alive)
        return bool(self._alive)

    # ------------------------------------------------------------ ends

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        """Report the call that an ended worker had begun as lost, and requeue its other calls."""
        worker = self._workers.get(key)
        if worker is not None:
            self._recorder.take_answers(worker)
        with DeferSignals():
            resources = self._resources
            if worker is None or key not in self._workers:
                return  # a signal handler that ended the run has done this
            assert resources is not None
            while worker.given:
                chunk = worker.given[0]
                at = worker.at
                idle_so_far = worker.first < 0 and not worker.leaving
                if worker.running or (idle_so_far and not self._is_spared(worker, at)):
                    # A worker that dies before it has begun any call costs one, too. Otherwise it
                    # would be replaced, and its replacement, for ever.
                    self._recorder.fail(worker, at, None, worker.since or forked.started)
                    at += 1
                    worker.leaving = True
                if at < chunk.stop:
                    self._state.requeue(at)
                worker.finish_chunk()
            if self._by_socket.pop(worker.socket.fileno(), None) is not None:
                resources.poller.unregister(worker.socket.fileno())
            worker.close()
            self._strike_off(key, forked)
            self._dispatcher.remove(worker)
            del self._alive[key]

    def _is_spared(self, worker: WorkerHandle, index: int) -> bool:
        """True if another worker gets the call that this one has not begun.

        In a run that grows, workers wait for calls. This one may have left since none came, or
        somebody has killed it while it waited, which spares a call once.
        """
        if worker.control.counts[WorkerControl.LEFT]:
            return True
        if self._state.calls.kept or index in self._spared:
            return False
        self._spared.add(index)
        return True

    # ------------------------------------------------------------ ending

    def _expect_ends(self) -> None:
        """Expect the workers that have no more calls to end within the grace period.

        A thread that is no daemon or an exit handler may keep a worker alive.
        """
        for worker in self._workers.values():
            if worker.leaving and not worker.given:
                self._terminator.expect_end(worker.number)

    def cancel(self, index: int) -> None:
        """End a call that exceeds its timeout, but not the call that its worker may run by now."""
        for worker in self._workers.values():
            if worker.given and index in worker.given[0]:
                self._end(worker, index, signal.SIGTERM)

    def withdraw(self, index: int) -> None:
        """A call was settled meanwhile: end it where it runs, and see that it starts nowhere."""
        for worker in self._workers.values():
            if not any(index in chunk for chunk in worker.given):
                continue
            with DeferSignals():
                worker.look()  # the next chunk can be taken back once the first one has begun
                if worker.at == index:
                    # A worker that has begun another call by then does not mind the signal.
                    worker.control.counts[WorkerControl.CANCELLED] = index
                    self._terminator.signal(worker.number, signal.SIGTERM)
                chunk = worker.take_back()
                if chunk is not None:
                    self._state.requeue(chunk.start)
                worker.preempt()

    def cancel_all(self) -> None:
        """End all workers, including those that are about to begin a call."""
        for worker in self._workers.values():
            self._end(worker, EVERY_CALL, signal.SIGTERM)

    def _end_on_request(self, key: int, signal_number: int) -> None:
        worker = self._workers[key]
        self._recorder.take_answers(worker)  # calls that have ended until now were not ended by us
        if self._workers.get(key) is not worker:
            return  # a signal handler has used the run meanwhile, and was here before
        if worker.given and worker.running:
            self._state.ended_by_us.add(worker.at)
        self._end(worker, EVERY_CALL, signal_number)

    def _end(self, worker: WorkerHandle, call: int, signal_number: int) -> None:
        worker.control.counts[WorkerControl.CANCELLED] = call
        worker.end()
        self._terminator.signal(worker.number, signal_number)


def pool_size(options: Options, calls: int, growing: bool = False) -> int:
    """The number of chunks that a pool has at once: the running ones, and the next ones."""
    return CHUNKS_PER_WORKER * _worker_count(options, calls, growing)


def _worker_count(options: Options, calls: int, growing: bool) -> int:
    workers = options.max_workers or cores()
    return workers if growing else min(workers, max(1, calls))


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
