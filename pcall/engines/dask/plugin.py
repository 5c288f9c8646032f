"""The part of a worker of the cluster: it starts a node, and passes orders and reports on.

A chunk is one task of dask. Its function gives the chunk to the node and waits. If the task is
released (its caller cancels it, or is gone), the node ends the call that runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.protocol import to_serialize

from pcall._wire.exception_codec import load_exception
from pcall.engines.dask.channel import Channel, ChannelClosed, Mapped, file_with
from pcall.engines.dask.wire_records import (
    ChunkOrder,
    ChunkReport,
    FiledAnswer,
    RunSpec,
    ValueAt,
)

if TYPE_CHECKING:

    class WorkerPlugin:
        """Distributed's, which is not fully typed."""

else:
    from distributed.diagnostics.plugin import WorkerPlugin

__all__ = [
    "PLUGIN",
    "NodeDied",
    "NodePlugin",
    "Opened",
    "control",
    "open_run",
    "run_chunk",
    "topic_of",
]

#: The name of the plugin on each worker.
PLUGIN = "pcall-node"
# Bytes of a report up to which it travels as an event.
_EVENT_SIZE = 64_000
_ALIGNMENT = 16

_NODE = (
    "import sys; sys.path[:0] = {path!r}\nfrom pcall.engines.dask.node_main import main\nmain({fd})"
)


class NodeDied(Exception):
    """The node of a worker died, so that nobody knows how its calls ended."""


class Opened:
    """The result of :func:`open_run`: as long as it lives, a worker keeps the run open."""

    def __init__(self, run: str) -> None:
        self.run = run


def topic_of(run: str) -> str:
    """The topic of the events of a caller's runs."""
    return f"pcall-{run}"


class _Answer:
    """A long answer on its way: dask sends its bytes without a copy."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Through the scheduler, dask uses an older protocol.
        return _load_answer, (PickleBuffer(self.content) if protocol >= 5 else bytes(self.content),)

    def __sizeof__(self) -> int:
        return memoryview(self.content).nbytes


def _load_answer(content: Any) -> Any:
    # As from a file in memory: whoever gets the value may change it, and arrays are aligned.
    view = memoryview(content).cast("B")
    if not view.readonly and ctypes.addressof(ctypes.c_char.from_buffer(view)) % _ALIGNMENT == 0:
        return view
    copied = memoryview(mmap.mmap(-1, len(view)))
    copied[:] = view
    return copied


class NodePlugin(WorkerPlugin):
    """Starts a node when a run first needs it, and again if it dies."""

    name = PLUGIN
    idempotent = True

    def __init__(self) -> None:
        self._worker: Any = None

    # ------------------------------------------------------------ dask's calls

    def setup(self, worker: Any) -> None:
        """Take note of the worker."""
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._specs: dict[str, tuple[RunSpec, str]] = {}
        self._opening: dict[str, list[Future[None]]] = {}
        self._open: set[str] = set()
        self._chunks: dict[str, Future[ChunkReport]] = {}
        self._orders: dict[str, ChunkOrder] = {}
        self._records: dict[str, list[Any]] = {}  # of chunks: what was not reported by an event
        self._refused: set[str] = set()
        self._begun: deque[str] = deque(maxlen=10_000)
        self._tasks: set[Any] = set()
        self._asked = 0
        self._questions: dict[int, Any] = {}
        worker.handlers["pcall_value"] = self._serve_value

    def teardown(self, worker: Any) -> None:
        """End the node."""
        self._lose_node()

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:
        """A task is released: end what runs for it."""
        if finish not in ("released", "forgotten", "cancelled") or not isinstance(key, str):
            return
        kind, _, name = key.partition("/")
        if kind == "pcall-chunk":
            order = self._orders.get(name)
            if order is not None:
                self._send(("drop", order.run, name))
            else:
                self._refused.add(name)
                if len(self._refused) > 10_000:
                    self._refused.clear()
        elif kind == "pcall-run":
            run = name.partition("/")[0]
            if self._specs.pop(run, None) is not None:
                self._open.discard(run)
                self._send(("close", run))

    # ------------------------------------------------------------ the node

    def _start_node(self) -> Channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path = [each or os.getcwd() for each in sys.path]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _NODE.format(path=path, fd=theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C at the worker's terminal is the worker's
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = Channel(ours, self._wants_write)
        self._channel = channel
        self._loop.add_reader(channel.fileno(), self._receive)
        return channel

    def _wants_write(self, wants: bool) -> None:
        channel = self._channel
        if channel is None:
            return
        if wants:
            self._loop.add_writer(channel.fileno(), self._flush)
        else:
            self._loop.remove_writer(channel.fileno())

    def _flush(self) -> None:
        try:
            if self._channel is not None:
                self._channel.flush()
        except ChannelClosed:
            self._lose_node()

    def _send(self, message: Any, files: Sequence[int] = ()) -> None:
        """In the loop: send the node a message, if there is one."""
        if self._channel is None:
            for fd in files:
                os.close(fd)
            return
        try:
            self._channel.send(message, files)
        except ChannelClosed:
            self._lose_node()

    def _lose_node(self) -> None:
        """The node is gone: fail what it had."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self._loop.remove_reader(channel.fileno())
        self._loop.remove_writer(channel.fileno())
        channel.close()
        process, self._process = self._process, None
        if process is not None:
            # It ends within the grace period; somebody has to reap it.
            threading.Thread(target=process.wait, daemon=True, name="pcall-reap-node").start()
        for answer in self._questions.values():
            if not answer.done():
                answer.set_result(None)
        self._questions.clear()
        died = NodeDied(f"the node of worker {self._worker.address} died")
        chunks, self._chunks = self._chunks, {}
        opening, self._opening = self._opening, {}
        self._open.clear()
        self._orders.clear()
        self._records.clear()
        lost: list[Future[Any]] = [*chunks.values()]
        for waiting in opening.values():
            lost += waiting
        for each in lost:
            if not each.done():
                each.set_exception(died)

    def _receive(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            for message, files in channel.receive():
                getattr(self, f"_on_{message[0]}")(*message[1:], files=files)
        except ChannelClosed:
            self._lose_node()

    # ------------------------------------------------------------ from the node

    def _on_opened(self, run: str, error: bytes | None, files: list[int]) -> None:
        if error is None:
            self._open.add(run)
        for waiting in self._opening.pop(run, ()):
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(load_exception(error))

    def _on_report(self, report: ChunkReport, files: list[int]) -> None:
        mapped = [Mapped(fd, 0) for fd in files]
        records = []
        for record in report.records:
            answer = record.answer
            if isinstance(answer, FiledAnswer):
                file = mapped[answer.number]
                file.size = answer.size
                record = record._replace(answer=_Answer(file.content()))
            records.append(record)
        for file in mapped:
            file.close()
        report = report._replace(records=records, worker=self._worker.address)
        if report.over:
            self._orders.pop(report.chunk, None)
            waiting = self._chunks.pop(report.chunk, None)
            kept = self._records.pop(report.chunk, [])
            if waiting is not None and not waiting.done():
                waiting.set_result(report._replace(records=[*kept, *records]))
            return
        # Answers travel in order: once one is too long for an event, the others follow it.
        kept = self._records.setdefault(report.chunk, [])
        kept += records
        spec = self._specs.get(report.run)
        if spec is None:
            return
        size = sum(map(_size, kept))
        told = report._replace(records=kept if size <= _EVENT_SIZE else [])
        if size <= _EVENT_SIZE:
            self._records[report.chunk] = []
        self._worker.log_event(spec[1], {"report": pickle.dumps(tuple(told), 5)})

    # ------------------------------------------------------------ from the caller

    def ask_open(self, spec: RunSpec, topic: str) -> Future[None]:
        """From any thread: have the node open a run."""
        waiting: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._do_open, spec, topic, waiting)
        return waiting

    def _do_open(self, spec: RunSpec, topic: str, waiting: Future[None]) -> None:
        try:
            self._specs[spec.run] = spec, topic
            if self._channel is None:
                self._start_node()
            self._opening.setdefault(spec.run, []).append(waiting)
            self._send(("open", spec))
        except BaseException as error:
            waiting.set_exception(error)

    def ask_chunk(self, order: ChunkOrder) -> Future[ChunkReport]:
        """From any thread: have the node run a chunk."""
        waiting: Future[ChunkReport] = Future()
        self._loop.call_soon_threadsafe(self._do_chunk, order, waiting)
        return waiting

    def _do_chunk(self, order: ChunkOrder, waiting: Future[ChunkReport]) -> None:
        if order.chunk in self._refused or order.run not in self._specs:
            self._refuse(order, waiting)
            return
        away = [(index, at) for index, at in order.values if isinstance(at, ValueAt)]
        if away:
            self._begun.append(order.chunk)
            task = asyncio.ensure_future(self._fetch_for(order, away, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._give(order, waiting)

    def _refuse(
        self, order: ChunkOrder, waiting: Future[ChunkReport], missing: Iterable[int] = ()
    ) -> None:
        """Give a chunk back before any of its calls has started."""
        self._refused.discard(order.chunk)
        waiting.set_result(
            ChunkReport(
                order.run,
                order.chunk,
                [],
                unstarted=order.start,
                over=True,
                missing=tuple(missing),
                worker=self._worker.address,
            )
        )

    async def _fetch_for(
        self,
        order: ChunkOrder,
        away: list[tuple[int, ValueAt]],
        waiting: Future[ChunkReport],
    ) -> None:
        """Bring values from other workers to the node, and give it the chunk then."""
        missing = []
        for index, at in away:
            try:
                if self._channel is None:
                    self._start_node()
                answer = await self._worker.rpc(at.address).pcall_value(run=order.run, index=index)
                content = answer["content"]
                if content is None:
                    raise LookupError(index)
                fd = file_with(content)
                self._send(("value", order.run, index, len(content)), [fd])
            except Exception:  # the other worker is gone, or has lost it
                missing.append(index)
        if missing or order.chunk in self._refused:
            self._refuse(order, waiting, missing)
            return
        self._give(order, waiting)

    async def _serve_value(self, run: str, index: int) -> Any:
        """Another worker asks for a value of this node."""
        self._asked += 1
        number, answer = self._asked, self._loop.create_future()
        self._questions[number] = answer
        self._send(("ask", run, index, number))
        if self._channel is None:
            answer.cancel()
        content = await asyncio.wait_for(answer, 60)
        return {"content": None if content is None else to_serialize(content)}

    def _on_told(self, number: int, size: int, files: list[int]) -> None:
        """The node tells of a value; without a file it does not have it."""
        answer = self._questions.pop(number, None)
        content = None
        for fd in files:
            file = Mapped(fd, size)
            content = file.content()
            file.close()
        if answer is not None and not answer.done():
            answer.set_result(content)

    def _give(self, order: ChunkOrder, waiting: Future[ChunkReport]) -> None:
        """Give the node a chunk."""
        self._chunks[order.chunk] = waiting
        self._orders[order.chunk] = order
        self._begun.append(order.chunk)
        if self._channel is None:  # the last node has died
            self._start_node()
        if order.run not in self._open and order.run not in self._opening:
            self._opening[order.run] = []
            self._send(("open", self._specs[order.run][0]))
        self._send(("chunk", order))

    def drop_values(self, run: str, calls: tuple[int, ...]) -> None:
        """In the loop: nothing needs the values of these calls any more."""
        self._send(("forget", run, calls))

    def shorten(self, run: str, chunk: str) -> None:
        """In the loop: give back what a chunk has not begun."""
        self._send(("shorten", run, chunk))

    def refuse(self, chunk: str) -> bool:
        """In the loop: do not run a chunk.

        Returns:
            False if it has begun.
        """
        if chunk in self._orders or chunk in self._begun:
            return False
        self._refused.add(chunk)
        return True

    def end(self, run: str, number: int, index: int | None) -> None:
        """In the loop: send a signal to the calls of a run, or to one."""
        self._send(("end", run, number, index))


def _size(record: Any) -> int:
    answer = record.answer
    size = answer.__sizeof__() if isinstance(answer, _Answer) else len(answer or b"")
    size += sum(map(len, record.output or ())) + sum(map(len, record.logs))
    size += len(record.profile or b"")
    return int(size)


def _plugin(worker: Any = None) -> NodePlugin:
    plugin: NodePlugin = (worker or get_worker()).plugins[PLUGIN]
    return plugin


# ------------------------------------------------------------------ functions of tasks


def open_run(spec: RunSpec, topic: str) -> Opened:
    """A task: have the node of this worker open a run."""
    _plugin().ask_open(spec, topic).result()
    return Opened(spec.run)


def run_chunk(order: tuple[Any, ...]) -> tuple[Any, ...]:
    """A task: have the node of this worker run a chunk, and wait for that."""
    return tuple(_plugin().ask_chunk(ChunkOrder(*order)).result())


async def control(action: str, *args: Any, dask_worker: Any) -> Any:
    """Called in the loop of a worker: do something with its node."""
    return getattr(_plugin(dask_worker), action)(*args)
