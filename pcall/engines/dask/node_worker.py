"""A reused worker of a node: a child that runs chunk after chunk of whatever calls it is sent.

Unlike a pool's worker on one machine it was forked before its calls were known. So the node writes
each chunk to a file that both share, the *feed*, and the worker reads it when it begins the chunk.
Rows of the table are those of the chunk: the worker and the node clear them for the next.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextvars import Context
from types import FrameType
from typing import Any

from pcall._core.calls import Calls
from pcall._core.calls import make_call as call_target
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.system import ROOM, System
from pcall._tuning import WORKER_LOOK_INTERVAL
from pcall._wire.decode import is_error
from pcall._wire.result_table import (
    CONSTANTS,
    FLOAT,
    IN_FILE,
    INT,
    PICKLED,
    OutputColumns,
    ResultTable,
)
from pcall.engines.dask.answers import encode_pickled, encode_plain
from pcall.engines.dask.node_calls import Arguments, make_call
from pcall.engines.dask.node_values import WorkerValues, load_planned
from pcall.engines.dask.wire_records import ChunkOrder
from pcall.engines.invoke import run_if_coroutine
from pcall.engines.local.child.worker_main import Worker
from pcall.engines.local.child.worker_spec import WorkerSpec
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.engines.local.seeding import Seeds, seed
from pcall.engines.local.worker_control import WorkerControl

__all__ = ["FeedCalls", "NodeWorkerHandle"]

__tracebackhide__ = True  # pytest shows the frames of its user

# In the control block, by the worker: the row of a call that this process runs in any case, since
# the value that it needs has stayed here; 0 for none.
_LINKED = 7

#: The calls of one chunk at most, which are the rows of a worker's table.
ROWS = 2048


class FeedCalls(Calls):
    """The calls of the chunk that a worker has.

    Args:
        functions: of the run.
        feed: descriptor of the file with the chunk.

    Attributes:
        order: the chunk; None before the first.
        control: the control block of the worker, in its process.
    """

    def __init__(self, functions: list[Any], feed: int) -> None:
        super().__init__(ROWS, None, (), {})
        self._functions = functions
        self._feed = feed
        self.order: ChunkOrder | None = None
        self._values: WorkerValues | None = None
        self.control: WorkerControl | None = None

    def load(self) -> None:
        """Read the chunk that comes next."""
        content = os.pread(self._feed, os.fstat(self._feed).st_size, 0)
        self.order, self._values = pickle.loads(content)

    @property
    def is_linked(self) -> bool:
        """True if the value of the last call stays in this process for the next one."""
        return self._values is not None and self._values.is_linked

    def __getitem__(self, row: Any) -> Any:
        assert self.order is not None
        number, content, _ = self.order.calls[row]
        arguments = Arguments(content, self._values)
        return make_call(self.order.start + row, self._functions[number], arguments)

    def results(self, start: int, stop: int) -> Iterator[Any]:
        return map(
            self._make_one if self._values is None else self._make_planned, range(start, stop)
        )

    def _make_one(self, row: int) -> Any:
        assert self.order is not None
        number, content, _ = self.order.calls[row]
        args, kwargs = pickle.loads(content)
        return call_target(self._functions[number], args, kwargs)

    def _make_planned(self, row: int) -> Any:
        assert self.order is not None
        assert self._values is not None
        number, content, _ = self.order.calls[row]
        planned = load_planned(content, self._values)
        value = run_if_coroutine(planned.call(self._functions[number], self.order.start + row))
        del planned
        assert self.control is not None
        # In this order: either this process sees the request to end the chunk here, or the node,
        # which looks after it has made the request, sees that the next call runs here.
        self.control.counts[_LINKED] = row + 1
        last = bool(self.control.counts[WorkerControl.PREEMPT])
        answer = self._values.made(self.order, row, value, last)
        if not self._values.is_linked:
            self.control.counts[_LINKED] = 0
        return answer


class NodeWorker(Worker):
    """The worker, in its process.

    Args:
        calls: what it reads its chunks with.
        spec, common_file, system, seeds, handler: see
            :class:`~pcall.engines.local.child.worker_main.Worker`.
    """

    def __init__(
        self,
        calls: FeedCalls,
        spec: WorkerSpec,
        common_file: int,
        system: System,
        seeds: Seeds | None,
        handler: Callable[[int, FrameType | None], None],
    ) -> None:
        super().__init__(spec, common_file, system, seeds, handler)
        self._feed = calls
        calls.control = spec.control

    @property
    def call_index(self) -> int:
        """The index of the call that runs."""
        return (0 if self._feed.order is None else self._feed.order.start) + self.current

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        self._feed.load()
        super()._run(context, start, stop, attempt, strict)

    def _has_done_enough(self, index: int, now: float, end: float, least: int) -> bool:
        # A value that stays here is for the next call, and no other process can read it.
        return not self._feed.is_linked and super()._has_done_enough(index, now, end, least)

    def _seed(self, seeds: Seeds, index: int, attempt: int) -> None:
        assert self._feed.order is not None
        seed(seeds, self._feed.order.start + index, attempt)


class NodeWorkerHandle(WorkerHandle):
    """A reused worker as its node sees it. It has one chunk at a time.

    Args:
        number: of the worker.
        functions: of the run.
        captures: True if the output of calls is captured.
        block: calls that are seeded together.
        system: makes files.
    """

    calls: int

    def __init__(
        self, number: int, functions: list[Any], captures: bool, block: int, system: System
    ) -> None:
        self._feed = system.make_answer_file()
        register_private_fd(self._feed)
        table = ResultTable(ROWS, WorkerControl.SIZE, captures)
        calls = FeedCalls(functions, self._feed)

        def make(*args: Any) -> NodeWorker:
            return NodeWorker(calls, *args)

        super().__init__(0, calls, table, block, make, (self._feed,))
        self.process.name = f"pcall-worker-{number}"
        self.key = number

    def begin(
        self,
        order: ChunkOrder,
        first: int,
        stop: int,
        strict: bool,
        values: WorkerValues | None = None,
    ) -> None:
        """Have it run these calls of a chunk.

        Args:
            order: the chunk.
            first: the offset of the first call.
            stop: the offset behind the last.
            strict: True if it ends the chunk at a failure.
            values: those that the calls of a plan need.
        """
        content = pickle.dumps((order, values), 5)
        os.ftruncate(self._feed, 0)
        view, place = memoryview(content), 0
        while place < len(view):
            place += os.pwrite(self._feed, view[place:], place)
        table, rows = self.table, range(first, stop)
        table.kinds[first:stop] = bytes(len(rows))
        for row in rows:
            table.rss[row] = 0
        # Its file begins again: what was there has been read.
        self.control.counts[WorkerControl.WRITTEN] = ROOM
        self._received._read, self._received._read_at = memoryview(b""), 0
        self.preempt_requested_at: float | None = None
        if self.control.counts[WorkerControl.PREEMPT] == WorkerControl.CHUNK:
            self.control.counts[WorkerControl.PREEMPT] = 0
        self.control.counts[_LINKED] = 0
        if self.held:
            self.resume()
        self.give(range(first, stop), order.attempt, strict)

    def may_take(self, now: float) -> bool:
        """True a look interval after it was asked for the unstarted calls of its chunk."""
        asked = self.preempt_requested_at
        return asked is not None and now >= asked + WORKER_LOOK_INTERVAL

    @property
    def unstarted_here(self) -> range:
        """The calls of its chunk that another worker could run."""
        unstarted = self.unstarted
        linked = self.control.counts[_LINKED]
        start = unstarted.start + (linked > 0 and linked == unstarted.start)
        return range(min(start, unstarted.stop), unstarted.stop)

    def take_unstarted_here(self) -> range:
        """Take these calls; see :meth:`take_unstarted`."""
        unstarted = self.unstarted_here
        self.given[0] = range(self.given[0].start, unstarted.start)
        self.calls -= len(unstarted)
        return unstarted

    def raw_answer(self, row: int) -> tuple[bytes | int, bool]:
        """The answer of a call: its bytes, or a descriptor; and whether the call failed."""
        table, received = self.table, self._received
        kind, ended = table.kinds[row], table.ended[row]
        if kind == INT:
            return encode_plain(table.values[row], ended), False
        if kind == FLOAT:
            return encode_plain(table.floats[row], ended), False
        if kind in CONSTANTS:
            return encode_plain(CONSTANTS[kind], ended), False
        if kind == PICKLED:
            return encode_pickled(received.short_answer(row), ended), False
        if kind == IN_FILE:
            received.file_of(row)
            fd = received.take_file(row)
            unregister_private_fd(fd)
            return fd, is_error(os.pread(fd, 64, 0))
        content = bytes(received.short_answer(row))
        return content, is_error(content)

    @property
    def output_columns(self) -> OutputColumns | None:
        """Where the output of calls lies."""
        return self.table.output

    def close(self) -> None:
        """Close its descriptors; call it once the worker has ended."""
        super().close()
        feed, self._feed = self._feed, -1
        if feed >= 0:
            unregister_private_fd(feed)
            os.close(feed)
