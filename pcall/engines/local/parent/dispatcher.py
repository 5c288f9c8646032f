"""What reused children are given: calls in chunks, so that no core waits for another.

A chunk is made to last some milliseconds: long enough that a call of a microsecond does not
wait for the parent, short enough that no core waits for another at the end. A child has one
chunk that it runs and one that it takes next; the latter is taken back where another child
has nothing to do. A call may take longer than those before it: then what is behind it in its
chunk is taken back as well.
"""

from __future__ import annotations

import math
import os
import sys
import time

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.outcome_store import ChunkOutcomeStore
from pcall._os.signals import DeferSignals
from pcall._wire.result_table import LOOK_EVERY, ResultTable
from pcall.engines.local.parent.child_process import ForkedProcess
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.parent.supervisor import Supervisor
from pcall.engines.local.parent.worker_handle import WorkerHandle

__all__ = ["CHUNK", "Dispatcher"]

# Seconds that a chunk is made for.
CHUNK = 0.005
# Seconds that no chunk is shorter than, for the sake of an even end.
_SHORTEST = 0.0005
# Chunking that a child has at a time.
_DEPTH = 2


class Dispatcher(Supervisor):
    """Forks children that live on, and gives them calls.

    Args: see :class:`~pcall._core.run_state.RunState`.
    """

    outcomes: ChunkOutcomeStore

    def __init__(self, calls: Calls, options: Options, timeout: float | None) -> None:
        workers = min(options.max_workers or cores(), max(1, len(calls)))
        super().__init__(calls, options, timeout, max_workers=workers * _DEPTH)
        self._workers = workers
        self._most = options.max_tasks_per_child or sys.maxsize  # calls that a child takes
        self._reused: dict[int, WorkerHandle] = {}
        self._new: dict[int, WorkerHandle] = {}  # those being forked
        self._by_socket: dict[int, WorkerHandle] = {}
        self._block = 1
        self._pace = 0.0  # seconds that a call takes, by the last ones
        self._strict = options.max_errors is not None
        self._table: ResultTable | None = None
        self._preempt_at = math.inf  # when to see again what others could do of what children have

    def pause(self, wait: float | None = None) -> float:
        return max(0.0, min(super().pause(wait), self._preempt_at - time.monotonic()))

    def _fill(self, resources: RunResources) -> None:
        self._preempt_slow_chunks(nothing_waits=not self._scheduler.queued)
        while True:
            with DeferSignals():  # what the scheduler knows of, a child has
                self._dispatch()
            missing = min(self._workers - len(self._reused), self._scheduler.queued)
            if missing <= 0 or not self._scheduler.next_chunk(1, time.monotonic()):
                break
            if not self._fork_some(missing, resources):
                break
            # Forks may take longer than what the first children have to do.
            self._collect(resources.poller.poll(0))
        while not self._scheduler.queued and self._take_back():
            pass
        if not self._scheduler.queued:
            self._let_go()

    def _let_go(self) -> None:
        """Nothing is left for the children that have nothing."""
        for reused in self._reused.values():
            if not reused.given:
                reused.leave()

    def _dispatch(self) -> None:
        """Give calls to the children that have too few."""
        # None waits behind another for want of a child that is still to be forked.
        full = len(self._reused) >= self._workers
        for depth in range(_DEPTH if full else 1):
            for reused in self._reused.values():
                if reused.leaving or reused.asked or len(reused.given) > depth:
                    continue
                chunk = self._next_chunk()
                if not chunk:
                    return
                attempt = self._scheduler.attempt(chunk.start)
                if self._is_used(reused, attempt):
                    continue
                chunk = self._fitting(reused, chunk)
                if not chunk:
                    continue
                self._scheduler.dispatched(chunk.start, chunk.stop)
                reused.give(chunk, attempt, self._strict)
                if reused.calls >= self._most:
                    reused.leave()

    def _fitting(self, reused: WorkerHandle, chunk: range) -> range:
        """What of a chunk a child is to be given now; nothing where that is not for it."""
        return chunk[: self._most - reused.calls]

    def _is_used(self, reused: WorkerHandle, attempt: int) -> bool:
        """True when a child won't do: another attempt has one that is as good as new."""
        if attempt == 1 or not reused.calls:
            return False
        if not reused.given:
            reused.leave()  # for one that will
        return True

    def _size(self) -> int:
        """How many calls a chunk has now."""
        fair = -(-self._scheduler.queued // (2 * self._workers))
        if not self._pace:
            return min(self._block, fair)
        least = int(_SHORTEST / self._pace)
        return max(1, min(max(fair, least), int(CHUNK / self._pace)))

    def _next_chunk(self) -> range:
        size, block = max(self._size(), self._block), self._block
        chunk = self._scheduler.next_chunk(size, time.monotonic())
        # It ends where a block does, where it can, so that its calls draw the same numbers as
        # in any other run.
        stop = chunk.stop - chunk.stop % block
        return range(chunk.start, stop) if stop > chunk.start else chunk

    def _take_back(self) -> bool:
        """Nothing is queued: is there something that another child could do?"""
        idle = any(not reused.given and not reused.leaving for reused in self._reused.values())
        if not idle:
            return False
        with DeferSignals():
            for reused in self._reused.values():
                if self._take_next(reused):
                    self._dispatch()
                    return True
        return False

    def _take_next(self, reused: WorkerHandle) -> bool:
        """Take back the chunk that a child has not taken, if it has one."""
        chunk = reused.take_back()
        if chunk is not None:
            self._skip(self._scheduler.requeue(chunk.start))
        return chunk is not None

    def _preempt_slow_chunks(self, nothing_waits: bool) -> None:
        """Where others could do it: take what waits in a child for a call that takes long."""
        self._preempt_at = math.inf
        full = len(self._reused) >= self._workers
        if not nothing_waits or (full and all(reused.given for reused in self._reused.values())):
            return
        for reused in list(self._reused.values()):
            if self._could_yield(reused):
                self._progress(reused)  # it may have come further
            if self._could_yield(reused):
                self._preempt_at = min(self._preempt_at, self._preempt(reused))

    def _could_yield(self, reused: WorkerHandle) -> bool:
        if not reused.given or reused.ending or reused.held or reused.since is None:
            return False
        return len(reused.given) > 1 or bool(reused.rest)

    def _preempt(self, reused: WorkerHandle) -> float:
        """Ask for it, or take it.

        Returns:
            When to come back.
        """
        now = time.monotonic()
        if reused.asked is None:
            assert reused.since is not None
            if now < reused.since + CHUNK:
                return reused.since + CHUNK
            with DeferSignals():
                self._take_next(reused)
            reused.preempt()
            return now + LOOK_EVERY
        if now < reused.asked + LOOK_EVERY:
            return reused.asked + LOOK_EVERY
        with DeferSignals():
            rest = reused.take_unstarted()
            if rest:
                self._skip(self._scheduler.requeue(reused.at, rest.start))
                self._pace = CHUNK  # such calls are to come singly
        return math.inf

    def _fork_some(self, count: int, resources: RunResources) -> bool:
        if self._logs is not None and self._logs.consolidates:
            count = 1
        free = [n for n in range(self._workers) if n not in self._reused][:count]
        new = self._new
        try:
            try:
                with DeferSignals():
                    for number in free:
                        new[number] = self._new_child(number)
            except OSError as error:
                if not new and not (self._is_full(error) and self._no_room()):
                    raise
            return self._fork({n: reused.process for n, reused in new.items()}, resources)
        finally:
            with DeferSignals():
                while new:
                    new.popitem()[1].close()

    def _new_child(self, number: int) -> WorkerHandle:
        assert self._table is not None
        return WorkerHandle(number, self._calls, self._table, self._block)

    def _watch(self, index: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(index, forked, resources)
        reused = self._reused[index] = self._new.pop(index)
        self._children[index] = reused.process
        reused.owner = self.outcomes.add_child(reused.process, time.time() - time.monotonic())
        self._by_socket[reused.socket.fileno()] = reused
        resources.poller.register(reused.socket.fileno())

    def _no_room(self) -> bool:
        if self._alive:
            self._workers = len(self._alive)
        return bool(self._alive)

    # ------------------------------------------------------------ for those that inherit

    def _progress(self, reused: WorkerHandle) -> None:
        """Take what a child has answered since the last time."""
        raise NotImplementedError


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
