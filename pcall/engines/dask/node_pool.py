"""The engine of a node whose children run several calls."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from pcall._core.captured import Captured
from pcall._os.current import get_system
from pcall._os.signals import DeferSignals
from pcall._tuning import WORKER_LOOK_INTERVAL
from pcall.engines.dask.node_engine import LONG_CALL, LONG_CHUNK, Chunk, NodeEngine, Send
from pcall.engines.dask.node_worker import ROWS, NodeWorkerHandle
from pcall.engines.dask.wire_records import FiledAnswer, Record, RunSpec
from pcall.engines.local.parent.captured_output import read_call, read_rest
from pcall.engines.local.parent.child_process import ForkedProcess
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.worker_control import EVERY_CALL, WorkerControl

__all__ = ["NodePool"]


class NodePool(NodeEngine):
    """Runs chunks in reused children, one chunk in each at a time.

    Args:
        spec: of the run.
        send: sends reports.
    """

    def __init__(self, spec: RunSpec, send: Send) -> None:
        super().__init__(spec, send)
        self._workers: dict[int, NodeWorkerHandle] = {}
        self._new: dict[int, NodeWorkerHandle] = {}
        self._by_socket: dict[int, NodeWorkerHandle] = {}
        self._used: set[int] = set()  # workers that have run a call
        self._most = spec.max_tasks or sys.maxsize

    # ------------------------------------------------------------ starting

    def start(self) -> None:
        """Give chunks to workers, and fork the workers that are missing."""
        resources = self._resources
        if resources is None:
            return
        waiting = [each for each in self._chunks.values() if each.waits]
        missing: dict[int, Chunk] = {}
        for chunk in waiting:
            worker = self._idle_worker(chunk)
            if worker is None:
                self._last_key += 1
                missing[self._last_key] = chunk
            else:
                self._begin(worker, chunk)
        if missing:
            self._fork_for(missing, resources)
        self._guard(resources)

    def _idle_worker(self, chunk: Chunk) -> NodeWorkerHandle | None:
        for worker in self._workers.values():
            if worker.given or worker.leaving or worker.key in self._by_key:
                continue
            if chunk.order.attempt > 1 and worker.calls:
                continue  # another attempt gets a fresh child
            return worker
        return None

    def _fork_for(self, missing: dict[int, Chunk], resources: RunResources) -> None:
        problem: OSError | None = None
        try:
            with DeferSignals():
                for key in missing:
                    self._new[key] = self._make_worker(key)
            self._fork({key: each.process for key, each in self._new.items()}, resources)
        except OSError as error:
            problem = error
        finally:
            while self._new:
                self._new.popitem()[1].close()
        for key, chunk in missing.items():
            worker = self._workers.get(key)
            if worker is not None:
                self._begin(worker, chunk)
            elif problem is not None:
                chunk.problem = problem.errno or 0, str(problem.strerror)
                chunk.give_back()

    def _make_worker(self, key: int) -> NodeWorkerHandle:
        return NodeWorkerHandle(
            key, self._functions, self.spec.capture, self.spec.block, get_system()
        )

    def _begin(self, worker: NodeWorkerHandle, chunk: Chunk) -> None:
        stop = min(chunk.stop, chunk.next + self._most - worker.calls, ROWS)
        chunk.key = worker.key
        self._by_key[worker.key] = chunk
        values = self.values.for_worker(chunk.order) if self.spec.keeps else None
        worker.begin(chunk.order, chunk.next, stop, self.spec.strict, values)
        if worker.calls >= self._most:
            worker.leave()

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(key, forked, resources)
        worker = self._new.pop(key)
        self._workers[key] = worker
        self._children[key] = worker.process
        self._by_socket[worker.socket.fileno()] = worker
        resources.poller.register(worker.socket.fileno())

    # ------------------------------------------------------------ turns

    def turn(self) -> None:
        """Take answers, and do the rest."""
        for worker in list(self._workers.values()):
            self._take_answers(worker)
        super().turn()

    def pause(self) -> float:
        """Seconds until the next turn is due although nothing has happened."""
        pause = super().pause()
        if self.spec.timeout is not None:
            for worker in self._workers.values():
                if worker.given and worker.since is not None:
                    due = worker.since + self.spec.timeout - time.monotonic()
                    pause = min(pause, due) if due > 0 else pause
        if any(each.preempt_requested_at is not None for each in self._workers.values()):
            pause = min(pause, WORKER_LOOK_INTERVAL)
        return max(0.0, pause)

    def finish(self) -> None:
        """Let the workers exit that have nothing to do: no chunk will come."""
        for worker in self._workers.values():
            if worker.key not in self._by_key and not worker.leaving:
                worker.leave()
                self._terminator.expect_end(worker.key)

    def _look_for_answers(self) -> None:
        for worker in self._workers.values():
            if worker.leaving and not worker.given:
                self._terminator.expect_end(worker.key)

    def _expire(self, now: float) -> None:
        limit = self.spec.timeout
        for worker in list(self._workers.values()):
            chunk = self._by_key.get(worker.key)
            if chunk is None or not worker.given:
                continue
            since = worker.since
            if limit is not None and since is not None and now >= since + limit:
                self._take_answers(worker)
                if worker.given and worker.since == since and worker.key not in self._overdue:
                    self._overdue.add(worker.key)
                    chunk.overdue = True
                    self._end(worker, worker.at, signal.SIGTERM)
            lasts = since is not None and now - since > LONG_CALL
            if lasts or now - chunk.began > LONG_CHUNK:
                self._preempt(worker, chunk, now)

    def _preempt(self, worker: NodeWorkerHandle, chunk: Chunk, now: float) -> None:
        """Take back what a long chunk has not begun."""
        if not worker.given or worker.ending:
            return
        stop = worker.given[0].stop
        if chunk.stop > stop:
            chunk.unstarted, chunk.stop = chunk.order.start + stop, stop
        if worker.preempt_requested_at is None:
            if worker.unstarted:
                worker.preempt()
        elif worker.may_take(now):
            unstarted = worker.take_unstarted_here()
            if unstarted:
                chunk.unstarted = chunk.order.start + unstarted.start
                chunk.stop = unstarted.start

    # ------------------------------------------------------------ answers

    def _take_answers(self, worker: NodeWorkerHandle) -> None:
        if worker.is_closed:
            return
        worker.hear()
        chunk = self._by_key.get(worker.key)
        if chunk is None or not worker.given:
            return
        stop, done = worker.look()
        for row in range(worker.at, stop):
            content, failed = worker.raw_answer(row)
            self._record(worker, chunk, row, content, failed)
        if not done:
            return
        rest = range(worker.at, worker.given[0].stop)
        chunk.next = rest.start
        worker.finish_chunk()
        chunk.ending = chunk.ending or worker.held
        self._release(worker, chunk)

    def _release(self, worker: NodeWorkerHandle, chunk: Chunk) -> None:
        """A worker has nothing more to do with a chunk."""
        self._by_key.pop(worker.key, None)
        chunk.key = None
        if chunk.ending:
            chunk.give_back()

    def _shorten(self, chunk: Chunk) -> None:
        if chunk.key is None:
            chunk.give_back()  # what runs is left to _preempt()

    def _running(self, chunk: Chunk) -> int:
        worker = self._workers.get(chunk.key or 0)
        return chunk.order.start + (chunk.next if worker is None else worker.at)

    def _running_since(self, chunk: Chunk) -> float:
        worker = self._workers.get(chunk.key or 0)
        since = None if worker is None else worker.since
        return time.monotonic() if since is None else since

    def _record(
        self,
        worker: NodeWorkerHandle,
        chunk: Chunk,
        row: int,
        content: bytes | int | None,
        failed: bool,
    ) -> None:
        """Note the end of a call; with None, its child has died."""
        forked, table, now = worker.process.forked, worker.table, time.monotonic()
        assert forked is not None
        since = worker.since or forked.started
        answered = content is not None
        overdue = worker.key in self._overdue
        ended = table.ended[row] if answered else now
        if isinstance(content, int):
            chunk.files.append(content)
            answer: Any = FiledAnswer(len(chunk.files) - 1, os.fstat(content).st_size)
        else:
            answer = content
        chunk.note(
            self,
            failed or overdue,
            Record(
                call=chunk.order.start + row,
                attempt=chunk.order.attempt,
                answer=answer,
                pid=forked.pid,
                exitcode=None if answered else forked.returncode,
                began=since,
                ended=ended,
                wall=time.time() - (now - since),
                cpu_time=table.cpu[row] if answered else None,
                max_rss=table.rss[row] or None if answered else forked.max_rss,
                rss=forked.rss,
                signalled=self._terminator.was_signalled(worker.key),
                overdue=overdue,
                later=worker.key in self._used,
                output=self._captured(worker, row, answered),
                profile=self._profile_of(worker.key, row),
            ),
        )
        self._overdue.discard(worker.key)
        self._used.add(worker.key)
        if worker.first < 0:
            worker.first = row
        if failed or overdue:
            self._failed += 1
            worker.held = failed and self.spec.strict
        worker.at, worker.since = row + 1, ended
        chunk.next = row + 1

    def _captured(
        self, worker: NodeWorkerHandle, row: int, answered: bool
    ) -> tuple[str, str] | None:
        columns, forked = worker.output_columns, worker.process.forked
        if columns is None:
            return None
        assert forked is not None
        assert forked.output is not None
        captured: Captured
        if answered:
            forked.output_end = columns.end_out[row], columns.end_err[row]
            captured = read_call(forked.output, columns, row, get_system())
        else:
            captured = read_rest(forked.output, forked.output_end)
        return captured.stdout, captured.stderr

    # ------------------------------------------------------------ ends

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        worker = self._workers[key]
        self._take_answers(worker)
        with DeferSignals():
            chunk = self._by_key.get(key)
            resources = self._resources
            assert resources is not None
            if chunk is not None and worker.given:
                row, stop = worker.at, worker.given[0].stop
                if row < stop and (worker.running or (worker.first < 0 and not worker.leaving)):
                    self._record(worker, chunk, row, None, True)
                else:
                    chunk.next = row
                worker.given.clear()
                chunk.ending = chunk.ending or worker.held
            if chunk is not None:
                self._release(worker, chunk)
            if self._by_socket.pop(worker.socket.fileno(), None) is not None:
                resources.poller.unregister(worker.socket.fileno())
            worker.close()
            self._strike_off(key, forked)
            self._overdue.discard(key)
            del self._workers[key], self._children[key], self._alive[key]

    def end_chunk(self, chunk: str) -> None:
        """A chunk is not wanted any more: end its call."""
        found = self._chunks.get(chunk)
        if found is not None:
            found.ending = True
            worker = self._workers.get(found.key or 0)
            if worker is None:
                found.give_back()
            else:
                self._end(worker, EVERY_CALL, signal.SIGTERM)

    def end_calls(self, number: int, index: int | None = None) -> None:
        """Send a signal to a running call, or to all; in that case start no further one."""
        for chunk in self._chunks.values():
            worker = self._workers.get(chunk.key or 0)
            if index is None:
                chunk.ending = True
                if worker is None:
                    chunk.give_back()
            if worker is None:
                continue
            if index is None:
                self._end(worker, EVERY_CALL, number)
            elif worker.given and chunk.order.start + worker.at == index:
                self._end(worker, worker.at, number)
        if index is None:
            self._terminator.end_leftovers(number)

    def _end(self, worker: NodeWorkerHandle, row: int, number: int) -> None:
        worker.control.counts[WorkerControl.CANCELLED] = row
        worker.end()
        self._terminator.signal(worker.key, number)
