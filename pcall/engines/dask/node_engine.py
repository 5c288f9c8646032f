"""The engine of a node: the local engine, fed with chunks of calls by a worker of the cluster.

It has no policy: the caller's run decides which call starts where, and whether it is tried again.
A node starts the calls of a chunk one after another, ends those that run too long, and reports how
each of them ended. A chunk that takes long is given back as far as it has not begun.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import time
from collections.abc import Callable
from importlib import import_module
from marshal import dumps as dump_plain
from marshal import loads as load_plain
from types import SimpleNamespace
from typing import Any

from pcall._core.options import Options
from pcall._core.records import name_of
from pcall._os.current import get_system
from pcall._os.private_fds import duplicate
from pcall._os.signals import DeferSignals
from pcall._tuning import FORK_BURST
from pcall._wire.decode import HEADER, MAGIC, has_answer, is_error
from pcall.engines.dask.node_calls import Arguments, load_functions, make_call
from pcall.engines.dask.node_logs import NodeLogs
from pcall.engines.dask.node_values import NodeValues
from pcall.engines.dask.wire_records import (
    ChunkOrder,
    ChunkReport,
    FiledAnswer,
    Record,
    RunSpec,
)
from pcall.engines.local.parent.captured_output import read_all
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.parent.local_engine import LocalEngine
from pcall.engines.local.parent.run_resources import RunResources
from pcall.engines.local.seeding import Seeds

__all__ = ["Chunk", "NodeEngine"]

# Seconds after which a chunk reports a call that runs longer.
REPORT_INTERVAL = 0.1
# Seconds after which a chunk reports what has ended.
RECORDS_INTERVAL = 0.4
# Seconds after which the unstarted calls of a chunk are given back: one of them takes long, or the
# whole chunk.
LONG_CALL, LONG_CHUNK = 0.2, 0.6
# Bytes up to which an answer is part of a message.
SHORT_ANSWER = 16 << 10
# Seconds between two looks for children that have answered and not ended.
_LOOK_INTERVAL = 0.1

#: Sends a report, with the descriptors of answers that are files.
Send = Callable[[ChunkReport, list[int]], None]


class Chunk:
    """A chunk that this node runs.

    Args:
        order: of the chunk.

    Attributes:
        order: of the chunk.
        next: the offset of the next call to start.
        stop: the offset behind the last call that this node starts.
        key: of the child that runs its current call; None: none does.
        records: of calls that have ended and were not reported.
        files: the descriptors of their answers.
        began: when it began, on the monotonic clock.
        reported: when it was reported last.
        announced: the index of the call that was last reported as running.
    """

    def __init__(self, order: ChunkOrder) -> None:
        self.order = order
        self.next = 0
        self.stop: int = len(order.calls)
        self.key: int | None = None
        self.records: list[Record] = []
        self.files: list[int] = []
        self.began: float = time.monotonic()
        self.reported: float = self.began
        self.announced = -1
        self.overdue = False
        self.unstarted: int = -1
        self.problem: tuple[int, str] | None = None
        self.ending = False  # none of its calls starts any more

    @property
    def waits(self) -> bool:
        """True if its next call can start."""
        return self.key is None and self.next < self.stop

    @property
    def over(self) -> bool:
        """True if no call of it runs or will start here."""
        return self.key is None and self.next >= self.stop

    def note(self, engine: NodeEngine, failed: bool, record: Record) -> None:
        """Note how a call ended; keep its value here if that is needed."""
        if engine.spec.keeps and not failed:
            home = self.order.calls[record.call - self.order.start][2]
            record = engine.values.keep(record, self.files, home)
        self.records.append(record._replace(logs=engine.take_logs(record.call)))

    def give_back(self) -> None:
        """Start none of its further calls."""
        if self.next < self.stop:
            self.unstarted = self.order.start + self.next
            self.stop = self.next


class NodeEngine(LocalEngine):
    """Runs the calls of one run of one caller.

    Args:
        spec: of the run.
        send: sends reports.
    """

    def __init__(self, spec: RunSpec, send: Send) -> None:
        initialize = None if spec.initialize is None else pickle.loads(spec.initialize)
        options = Options(
            grace_period=spec.grace_period, capture_output=spec.capture, initializer=initialize
        )
        self._calls: list[Any] = []
        state: Any = SimpleNamespace(options=options, calls=self._calls, outcomes=())
        super().__init__(state, self._describe)
        self.spec = spec
        self._send = send
        self._functions = load_functions(spec.functions)
        self._chunks: dict[str, Chunk] = {}
        self._by_key: dict[int, Chunk] = {}
        self._last_key = 0
        self._answered: set[int] = set()
        self._deadlines: dict[int, float] = {}
        self._overdue: set[int] = set()
        self._look_at = 0.0
        self._failed = 0
        self.values: NodeValues = NodeValues()
        self._node_logs: NodeLogs | None = None

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The children that live."""
        return tuple(self._children.values())

    @property
    def capacity(self) -> int | None:
        """None: one call of each chunk runs at once."""
        return None

    def _describe(self, key: int) -> str:
        return self._children[key].name

    # ------------------------------------------------------------ orders

    def open(self) -> None:
        """Acquire the resources of the run."""
        with DeferSignals():
            system, kind = get_system(), self.spec.profile
            resources = RunResources(
                system,
                self.spec.grace_period,
                self._child_logs(),
                self.spec.capture,
                profile=kind,
            )
            resources.child_context = resources.child_context._replace(
                seeds=_seeds_from(self.spec.seeds),
                entropy=self.spec.entropy,
                initialize=self._state.options.initialize,
            )
            if kind is not None:
                # Loaded for runs whose calls are profiled.
                from pcall.engines.local.parent.profile_files import ProfileFiles

                self._profiles = ProfileFiles(None, system)
            self._resources = resources

    def _child_logs(self) -> Any:
        if self.spec.levels is None:
            return None
        self._node_logs = NodeLogs(self.spec.levels, get_system())
        return self._node_logs.child

    def take_logs(self, call: int) -> tuple[bytes, ...]:
        """What a call that has ended has logged."""
        return () if self._node_logs is None else self._node_logs.take(call)

    def add(self, order: ChunkOrder) -> None:
        """Run a chunk."""
        missing = self.values.take(order) if self.spec.keeps else ()
        if missing:
            self._send(
                ChunkReport(
                    order.run, order.chunk, [], unstarted=order.start, over=True, missing=missing
                ),
                [],
            )
            return
        chunk = self._chunks[order.chunk] = Chunk(order)
        if self.spec.strict and order.failed < self._failed:
            chunk.give_back()  # it was sent before the caller knew of a failure

    def end_chunk(self, chunk: str) -> None:
        """A chunk is not wanted any more: end its call."""
        found = self._chunks.get(chunk)
        if found is not None:
            found.give_back()
            if found.key is not None:
                self._terminator.signal(found.key, signal.SIGTERM)

    def shorten(self, chunk: str) -> None:
        """Give back what a chunk has not begun."""
        found = self._chunks.get(chunk)
        if found is not None:
            found.began = -math.inf
            self._shorten(found)

    def end_calls(self, number: int, index: int | None = None) -> None:
        """Send a signal to a running call, or to all; in that case start no further one.

        Args:
            number: of the signal.
            index: of the call; None: all.
        """
        if index is None:
            for chunk in self._chunks.values():
                chunk.give_back()
        for chunk in self._chunks.values():
            if chunk.key is not None and index in (None, self._running(chunk)):
                self._terminator.signal(chunk.key, number)
        if index is None:
            self._terminator.end_leftovers(number)

    # ------------------------------------------------------------ turns

    @property
    def idle(self) -> bool:
        """True if it has no chunk, and no process lives that a call has started."""
        return not self._chunks and not self.busy

    def finish(self) -> None:
        """No chunk will come."""

    def start(self) -> None:
        """Start the calls that may start now."""
        resources = self._resources
        if resources is None:
            return
        while waiting := [each for each in self._chunks.values() if each.waits][:FORK_BURST]:
            children = {}
            for chunk in waiting:
                self._last_key += 1
                self._by_key[self._last_key] = chunk
                children[self._last_key] = self._make_child(chunk)
            self._children.update(children)
            problem: OSError | None = None
            try:
                complete = self._fork(children, resources)
            except OSError as error:
                problem, complete = error, False
            for key, child in children.items():
                if child.forked is None:
                    del self._by_key[key], self._children[key]
            if problem is not None:
                for chunk in waiting:
                    if chunk.waits:
                        chunk.problem = problem.errno or 0, str(problem.strerror)
                        chunk.give_back()
            if not complete:
                break
        self._guard(resources)

    def _make_child(self, chunk: Chunk) -> ChildProcess:
        order, offset = chunk.order, chunk.next
        number, content, _ = order.calls[offset]
        function = self._functions[number]
        arguments = Arguments(content, self.values if self.spec.keeps else None)
        call = make_call(order.start + offset, function, arguments)
        child = ChildProcess(f"{name_of(function)}-{call.index}", call)
        child.attempt = order.attempt
        return child

    def turn(self) -> None:
        """Collect what has ended, end what runs too long, start what may start, and report."""
        assert self._resources is not None
        ready = self._resources.poller.poll(0)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_INTERVAL
            self._look_for_answers()
        self.collect(ready)
        self._expire(now)
        self.start()
        self._report()

    def pause(self) -> float:
        """Seconds until the next turn is due although nothing has happened."""
        pause = super().pause()
        if self._chunks:
            pause = min(pause, REPORT_INTERVAL)
        if self._deadlines:
            pause = min(pause, next(iter(self._deadlines.values())) - time.monotonic())
        return max(0.0, pause)

    def _look_for_answers(self) -> None:
        for key, forked in list(self._alive.items()):
            if key not in self._answered and forked.answer >= 0 and has_answer(forked.answer):
                self._answered.add(key)
                self._deadlines.pop(key, None)
                self._terminator.expect_end(key)

    def _expire(self, now: float) -> None:
        if not self._deadlines or next(iter(self._deadlines.values())) > now:
            return
        self._look_for_answers()
        for key, deadline in list(self._deadlines.items()):
            if deadline > now:
                break
            del self._deadlines[key]
            self._overdue.add(key)
            chunk = self._by_key[key]
            chunk.overdue = True
            self._terminator.signal(key, signal.SIGTERM)

    # ------------------------------------------------------------ reports

    def _report(self) -> None:
        now = time.monotonic()
        for name, chunk in list(self._chunks.items()):
            if chunk.over:
                del self._chunks[name]
                self._send_report(chunk)
                continue
            lasts = 0.0 if chunk.key is None else now - self._running_since(chunk)
            if lasts > LONG_CALL or now - chunk.began > LONG_CHUNK:
                self._shorten(chunk)
            since = now - chunk.reported
            is_long = lasts >= REPORT_INTERVAL and chunk.announced != self._running(chunk)
            if (
                chunk.overdue
                or chunk.unstarted >= 0
                or (is_long and since >= REPORT_INTERVAL)
                or (chunk.records and since >= RECORDS_INTERVAL)
            ):
                self._send_report(chunk)

    def _shorten(self, chunk: Chunk) -> None:
        """A chunk takes long: give back what has not begun."""
        chunk.give_back()

    def _running(self, chunk: Chunk) -> int:
        """The index of the call of a chunk that runs."""
        return chunk.order.start + chunk.next - 1

    def _running_since(self, chunk: Chunk) -> float:
        """When that call began, on the monotonic clock."""
        assert chunk.key is not None
        return self._alive[chunk.key].started

    def _send_report(self, chunk: Chunk) -> None:
        now = time.monotonic()
        running, since, pid = -1, 0.0, 0
        if chunk.key is not None and chunk.key not in self._answered:
            running = self._running(chunk)
            since, pid = now - self._running_since(chunk), self._alive[chunk.key].pid
        chunk.announced, chunk.reported = running, now
        records, chunk.records = chunk.records, []
        files, chunk.files = chunk.files, []
        report = ChunkReport(
            self.spec.run,
            chunk.order.chunk,
            records,
            running,
            since,
            chunk.unstarted,
            chunk.over,
            chunk.overdue,
            chunk.problem,
            self._failed,
            pid,
        )
        chunk.overdue, chunk.unstarted, chunk.problem = False, -1, None
        self._send(report, files)

    # ------------------------------------------------------------ children

    def _watch(self, key: int, forked: ForkedProcess, resources: RunResources) -> None:
        self._hold(key, forked, resources)
        chunk = self._by_key[key]
        chunk.key = key
        chunk.next += 1
        if self.spec.timeout is not None:
            self._deadlines[key] = forked.started + self.spec.timeout

    def _finish(self, key: int, forked: ForkedProcess) -> None:
        with DeferSignals():
            chunk = self._by_key.pop(key)
            child = self._children[key]
            failed = _is_failure(forked.answer) or key in self._overdue
            self._failed += failed
            if failed and self.spec.strict:
                chunk.give_back()
            chunk.note(
                self,
                failed,
                Record(
                    call=child.job.index,
                    attempt=child.attempt,
                    answer=self._take_answer(forked.answer, chunk.files),
                    pid=forked.pid,
                    exitcode=forked.returncode,
                    began=forked.started,
                    ended=time.monotonic(),
                    wall=time.time() - (time.monotonic() - forked.started),
                    cpu_time=forked.cpu_time,
                    max_rss=forked.max_rss,
                    rss=forked.rss,
                    signalled=self._terminator.was_signalled(key),
                    overdue=key in self._overdue,
                    later=False,
                    output=read_all(forked.output),
                    profile=self._profile_of(key, child.job.index),
                ),
            )
            self._strike_off(key, forked)
            self._answered.discard(key)
            self._overdue.discard(key)
            self._deadlines.pop(key, None)
            chunk.key = None
            del self._children[key], self._alive[key]

    def _profile_of(self, key: int, index: int) -> bytes | None:
        """The profile of a call that has ended; its last snapshot, if its child has died.

        Args:
            key: of the child.
            index: of the call, as the child counts.
        """
        return None if self._profiles is None else self._profiles.read(key, index)

    def _take_answer(self, fd: int, files: list[int]) -> bytes | FiledAnswer | None:
        """The answer in a child's file: its bytes, or the file; None if there is none."""
        if not has_answer(fd):
            return None
        size = os.fstat(fd).st_size
        if size > SHORT_ANSWER:
            files.append(duplicate(fd))
            return FiledAnswer(len(files) - 1, size)
        content = os.pread(fd, size, 0)
        if content.startswith(MAGIC):
            return content[: HEADER.unpack_from(content)[5]]
        return dump_plain(load_plain(content))

    def close(self) -> None:
        """Release everything."""
        super().close()
        self.values.close()
        if self._node_logs is not None:
            self._node_logs.close()

    def _end_on_request(self, key: int, signal_number: int) -> None:
        self._terminator.signal(key, signal_number)

    def _wait_for_room(self) -> bool:
        return bool(self._alive)

    def _fork_error(self, error: OSError) -> OSError:
        return OSError(error.errno, f"{error.strerror}: a call could not be forked")


def _is_failure(fd: int) -> bool:
    """True if there is no answer in a child's file, or an exception."""
    if not has_answer(fd):
        return True
    head = os.pread(fd, HEADER.size, 0)
    return head.startswith(MAGIC) and is_error(head)


def _seeds_from(numbers: tuple[int | None, int | None] | None) -> Seeds | None:
    """The seeds of the caller, for the generators of this process."""
    if numbers is None:
        return None
    of_random, of_numpy = numbers
    reseed = None
    if of_random is not None:
        import random

        reseed = random.seed
    if of_numpy is not None:
        try:
            import_module("numpy.random")
        except ImportError:
            of_numpy = None  # so no call can draw from it
    return Seeds(of_random, reseed, of_numpy)
