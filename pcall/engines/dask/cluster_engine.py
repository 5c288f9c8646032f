"""The engine that runs calls on the workers of a cluster.

It cuts the calls that the scheduler has ready into chunks, gives each chunk to a worker, and
reports what comes back. Which call starts when, which is tried again and when a run stops: the same
scheduler decides as on one machine.

A chunk of calls whose durations are known to be short takes some milliseconds. A worker has one
chunk for each call that it may run at once, and of short ones a second that waits. A chunk that
takes longer is given back by its node as far as it has not begun, and goes to another worker.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from types import SimpleNamespace
from typing import Any

from pcall._core.call_failures import ChildDied
from pcall._core.captured import Captured
from pcall._core.decisions import Expiry
from pcall._core.options import Options
from pcall._core.packed_outcomes import PackedOutcomeStore, Returned
from pcall._core.records import Outcome
from pcall._core.run_state import RunState
from pcall._errors import ClusterError, DependenciesFailed, NoWorkers, WorkerLost
from pcall._os.private_fds import above_streams, register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals, deliver_due
from pcall._profiles.cluster_profiling import ProfiledPeriod
from pcall._profiles.current_profiles import ProfileKind
from pcall._version import __version__
from pcall._wire.decode import Answer
from pcall.engines.dask.answers import is_harmless
from pcall.engines.dask.cluster_logs import ClusterLogs, levels_here
from pcall.engines.dask.cluster_work import ClusterWork
from pcall.engines.dask.link import Link, Worker
from pcall.engines.dask.plugin import NodeDied
from pcall.engines.dask.preferences import Preferences
from pcall.engines.dask.sending import NotSendable, dumps
from pcall.engines.dask.wire_records import ChunkOrder, ChunkReport, Record, RunSpec
from pcall.engines.local.parent.call_outcome import Elsewhere, outcome_of
from pcall.engines.local.parent.captured_output import GroupWriter
from pcall.engines.local.parent.child_process import ChildProcess
from pcall.engines.local.seeding import draw

__all__ = ["ClusterEngine"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")

# Seconds that a chunk is to take: of reused children, and of fresh ones.
CHUNK_SECONDS, FRESH_CHUNK_SECONDS = 0.05, 0.3
# Less is not worth a message.
LEAST_CHUNK_SECONDS = 0.005
# Calls that take longer than this get no second chunk that waits behind the first.
SHORT_CALL = 0.02
MOST_CALLS = 2000  # rows of a reused child
# Bytes of arguments in a chunk, beyond which it gets no further call.
MOST_BYTES = 4 << 20
# A call under which so many workers died is not made again.
DEATHS = 3
# Seconds beyond the grace period after which a worker that says nothing is given up.
SILENCE = 15.0
# Seconds between two looks at whether the scheduler is there.
LOOK_INTERVAL = 0.5
OPENING_LOOK_INTERVAL = 0.05
# Calls among which the one is looked for that prefers a worker most.
LOCALITY_LOOKS = 5000


class Chunk:
    """A chunk that a worker has.

    Attributes:
        order: what the worker was sent.
        address: of the worker.
        future: dask's.
        head: the first call that has not ended.
        stop: the call behind the last.
        running: the call that is known to run, and was reported as started; -1 for none.
    """

    def __init__(self, order: ChunkOrder, address: str, future: Any) -> None:
        self.order = order
        self.address = address
        self.future = future
        self.head: int = order.start
        self.stop: int = order.start + len(order.calls)
        self.running = -1
        self.pid = 0  # of the process that runs the call
        self.slow = False  # it has reported before its end
        self.recalled = False  # its worker was asked not to begin it


class _Station:
    """A worker as this engine uses it."""

    def __init__(self, worker: Worker, slots: int) -> None:
        self.worker = worker
        self.slots = slots
        self.chunks: dict[str, Chunk] = {}
        self.future: Any = None  # keeps the run open there
        self.open = False
        self.openings = 1
        self.failed = 0  # calls there that have failed, as far as this process knows

    @property
    def free(self) -> int:
        return self.slots - len(self.chunks)


class ClusterEngine:
    """Runs calls on the workers of a cluster.

    Args:
        state: of the run.
        link: to the cluster.
        work: packs the calls of the run.
        workers: the addresses or names of the workers to use; None: all.
        concurrency: the calls at once on each worker; None: as many as it has threads.
    """

    synchronous = False

    def __init__(
        self,
        state: RunState,
        link: Link,
        work: ClusterWork,
        workers: frozenset[str] | None = None,
        concurrency: int | None = None,
    ) -> None:
        self._state = state
        self._link = link
        self._work = work
        self._only = workers
        self._concurrency = concurrency
        self._run = uuid.uuid4().hex
        self._stations: dict[str, _Station] = {}
        self._chunks: dict[str, Chunk] = {}
        self._inbox: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._pipe: tuple[int, int] | None = None
        self._spec: RunSpec | None = None
        self._unopened: set[str] = set()  # nothing starts before these have opened the run
        self._pace = 0.0
        self._tried: dict[int, set[str]] = {}  # by call, workers where an attempt failed
        self._deaths: dict[int, list[str]] = {}  # by call, workers that died under it
        self._stopped_at: float | None = None
        self._no_workers_since: float | None = None
        self._look_at = 0.0
        self._fresh = state.options.max_tasks_per_child == 1
        self._sent = 0
        self._excluded: set[str] = set()  # workers that get no further call of this run
        self._preferences = Preferences(work, state.calls)
        self._profiled: ProfiledPeriod | None = None  # in which this run began

    # ------------------------------------------------------------ the protocol of engines

    @property
    def is_open(self) -> bool:
        """True between :meth:`open` and :meth:`close`."""
        return self._pipe is not None

    @property
    def capacity(self) -> int | None:
        """The number of calls that the workers run at once, as far as they are known."""
        most = self._state.options.max_workers
        slots = sum(each.slots for each in self._stations.values())
        return slots if most is None else min(most, slots)

    @property
    def busy(self) -> bool:
        """True while a worker has a chunk."""
        return bool(self._chunks)

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """For each call a process object that is never started: the process is elsewhere."""
        return tuple(ChildProcess(f"{call.name}-{call.index}", call) for call in self._state.calls)

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """Those of the calls that workers have."""
        heads = sorted(chunk.head for chunk in self._chunks.values())
        calls = [self._state.calls[head] for head in heads if head < len(self._state.calls)]
        return tuple(ChildProcess(f"{call.name}-{call.index}", call) for call in calls)

    def open(self) -> None:
        """Have the workers open the run.

        Raises:
            NotSendable: a function or an argument can't be pickled.
            ClusterError: a worker can't run calls of this process.
        """
        options, drawn = self._state.options, draw()
        profile = self._chosen_profile()
        self._work.open()
        with DeferSignals():
            self._pipe = tuple(map(above_streams, os.pipe()))  # type: ignore[assignment]
            assert self._pipe is not None
            for fd in self._pipe:
                os.set_blocking(fd, False)
                register_private_fd(fd)
        levels = levels_here() if options.tasklog else None
        if levels is not None:
            self._state.use_logs(ClusterLogs(self._state.calls.__len__))
        seeds = None if drawn.seeds is None else (drawn.seeds.random, drawn.seeds.numpy)
        self._spec = RunSpec(
            run=self._run,
            functions=self._work.functions,
            grace_period=options.grace_period,
            timeout=self._state.timeout,
            capture=bool(options.capture_output),
            max_tasks=options.max_tasks_per_child,
            seeds=seeds,
            entropy=drawn.entropy,
            block=self._work.block(drawn.seeds is not None),
            levels=levels,
            preload=self._link.preload,
            path=self._link.path,
            version=__version__,
            strict=self._work.strict or options.max_errors is not None,
            keeps=self._work.keeps,
            initialize=_pickled_initializer(options),
            profile=profile,
        )
        if options.capture_output == "group":
            self._state.use_output(GroupWriter(self._state.outcomes))
        self._link.attach(self._run, self._put)
        self._link.refresh()
        self._link.check()
        self._take_workers()
        self._unopened = {*self._stations}
        while self._unopened:
            self.poll(OPENING_LOOK_INTERVAL)
            deliver_due()  # a Ctrl-C does not wait for it
            self.collect(())
            if self._pipe is None:
                return  # a signal handler has ended the run

    def _chosen_profile(self) -> ProfileKind | None:
        """The kind of profile to take: that of the run, or that of the cluster.

        Raises:
            ValueError: they differ.
        """
        profiles, period = self._state.profiles, self._link.profiled.current
        if profiles is not None and period is not None and profiles.kind != period.kind:
            raise ValueError(
                f"a call is profiled in one way at a time: profile={profiles.kind!r} is asked for "
                f"while the cluster's {period.kind}_profiling is on"
            )
        self._profiled = period
        if profiles is not None:
            return profiles.kind
        return None if period is None else period.kind

    def _put(self, kind: str, what: tuple[Any, ...]) -> None:
        """In dask's thread: something has arrived."""
        self._inbox.append((kind, what))
        self.wake()

    def wake(self) -> None:
        """End the wait of :meth:`poll`."""
        pipe = self._pipe
        if pipe is not None:
            with suppress(OSError):  # it is full, or was closed just now
                os.write(pipe[1], b".")

    def poll(self, timeout: float) -> Sequence[int]:
        """Wait until something has arrived."""
        pipe = self._pipe
        if pipe is None:
            return []
        if not self._inbox:
            poller = select.poll()
            poller.register(pipe[0], select.POLLIN)
            poller.poll(timeout * 1000)
        with suppress(OSError):
            os.read(pipe[0], 4096)
        return []

    def fileno(self) -> int | None:
        """A descriptor that is readable when something has arrived."""
        return None if self._pipe is None else self._pipe[0]

    def pause(self) -> float:
        """Seconds until :meth:`collect` is due although nothing has arrived."""
        if self._inbox:
            return 0.0
        return max(0.0, self._look_at - time.monotonic())

    def refresh(self) -> None:
        """Take what has arrived by now."""
        self.collect(())

    def pid(self, index: int) -> int | None:
        """None: nodes watch the timeouts of calls."""
        return None

    def cancel(self, index: int) -> None:
        """End a running call."""
        for chunk in self._chunks.values():
            if chunk.head == index:
                self._link.control(chunk.address, "end", self._run, int(signal.SIGTERM), index)

    def cancel_all(self) -> None:
        """End all calls: one has exceeded the timeout."""
        self._end_everywhere(signal.SIGTERM)

    def stop(self, signal_number: int) -> None:
        """End all calls at the caller's request."""
        self.collect(())
        for chunk in self._chunks.values():
            self._state.ended_by_us.update(range(chunk.head, chunk.stop))
        self._end_everywhere(signal_number)

    def _end_everywhere(self, number: int) -> None:
        self._stopped_at = self._stopped_at or time.monotonic()
        for address in {chunk.address for chunk in self._chunks.values()}:
            self._link.control(address, "end", self._run, int(number), None)
        for chunk in self._chunks.values():
            self._recall(chunk)

    def close(self) -> None:
        """Have the workers close the run, and release everything."""
        with DeferSignals():
            pipe, self._pipe = self._pipe, None
            if pipe is None:
                return
            self._link.detach(self._run)
            for chunk in self._chunks.values():
                _release(chunk.future)
            for station in self._stations.values():
                _release(station.future)
            self._chunks.clear()
            self._stations.clear()
            for fd in pipe:
                unregister_private_fd(fd)
                os.close(fd)
            self._work.close()

    def lingers(self, pid: int) -> bool:
        """False: what a call leaves behind is ended by its node."""
        return False

    def withdraw(self, index: int) -> None:
        """A call was settled meanwhile: end it where it runs, and see that it starts nowhere."""
        self.cancel(index)
        for chunk in self._chunks.values():
            if chunk.head < chunk.stop and index in range(chunk.head, chunk.stop):
                self._recall(chunk)
                self._link.control(chunk.address, "shorten", self._run, chunk.order.chunk)

    # ------------------------------------------------------------ workers

    def _take_workers(self) -> None:
        """Open the run on workers that are new."""
        assert self._spec is not None
        for address, worker in list(self._link.workers.items()):
            if address in self._stations or address in self._excluded:
                continue
            if self._only and not self._only & {address, worker.name}:
                continue
            station = _Station(worker, self._concurrency or worker.threads)
            self._stations[address] = station
            station.future = self._link.open_run(self._spec, address)
        for address in [each for each in self._stations if each not in self._link.workers]:
            self._lose(address)
        self._preferences.take_workers(tuple(each.worker for each in self._stations.values()))
        if self._stations:
            self._no_workers_since = None
        elif self._no_workers_since is None:
            self._no_workers_since = time.monotonic()

    def _lose(self, address: str) -> None:
        """A worker is gone: its calls run again elsewhere."""
        station = self._stations.pop(address, None)
        self._unopened.discard(address)
        if station is None:
            return
        _release(station.future)
        for name in list(station.chunks):
            self._lose_chunk(station.chunks[name], station.worker.name)
        self._work.lost(address)
        self._preferences.take_workers(tuple(each.worker for each in self._stations.values()))

    def _lose_chunk(self, chunk: Chunk, worker: str) -> None:
        """The worker of a chunk has died: what has not ended is queued again."""
        self._remove(chunk)
        if chunk.head >= chunk.stop:
            return
        state, head = self._state, chunk.head
        if chunk.running == head:
            state.events.not_started(head)
        if self._stopped_at is not None or state.is_stopping:
            self._give_up(chunk, worker)
            return
        for index in range(head, chunk.stop):
            died = self._deaths.setdefault(index, [])
            died.append(worker)
            if len(died) >= DEATHS and index == head:
                self._fail_as_lost(index, died)
                head = index + 1
        if head < chunk.stop:
            state.requeue(head)

    def _give_up(self, chunk: Chunk, worker: str) -> None:
        """The run is being ended: nothing of this chunk is made again."""
        state, head = self._state, chunk.head
        call = state.calls[head]
        error = ChildDied(None)
        error.add_note(f"its worker {worker} died")
        attempt = state.scheduler.attempt(head)
        self._conclude(
            chunk, Outcome(head, call, False, error=error, attempts=attempt, worker=worker)
        )
        if chunk.head < chunk.stop:
            state.requeue(chunk.head)

    def _fail_as_lost(self, index: int, workers: list[str]) -> None:
        call = self._state.calls[index]
        error = WorkerLost(
            f"{call} (call {index}): {len(workers)} workers died under it, one after another: "
            f"{', '.join(workers)}",
            tuple(workers),
        )
        attempt = self._state.scheduler.attempt(index)
        self._state.conclude(
            Outcome(index, call, False, error=error, attempts=attempt, worker=workers[-1])
        )

    def _remove(self, chunk: Chunk) -> None:
        self._chunks.pop(chunk.order.chunk, None)
        station = self._stations.get(chunk.address)
        if station is not None:
            station.chunks.pop(chunk.order.chunk, None)
        _release(chunk.future)

    # ------------------------------------------------------------ dispatching

    def start(self) -> None:
        """Give calls to the workers that have too few."""
        if self._pipe is None or self._unopened or self._stopped_at is not None:
            return
        scheduler = self._state.scheduler
        scheduler.look_further()
        self._work.drop_unneeded()
        for address, calls in self._work.take_drops():
            self._link.control(address, "drop_values", self._run, calls)
        while True:
            for index in self._state.reopen():
                self._work.reopen(index)
            with DeferSignals():  # a call that counts as dispatched has a worker
                if not self._dispatch_next():
                    return

    def _dispatch_next(self) -> bool:
        """Give one chunk to one worker; False if none can be given."""
        scheduler, now = self._state.scheduler, time.monotonic()
        most = self._state.options.max_workers
        if most is not None and len(self._chunks) >= most:
            return False
        first = scheduler.startable(1, now) if self._tried else ()
        if self._work.has_locality or any(index in self._tried for index in first):
            return self._dispatch_by_locality(now)
        # Rooms first: whether a worker is free costs less to see than which call comes next.
        short = most is None and 0 < self._pace < SHORT_CALL
        stations = [each for each in self._stations.values() if each.open]
        room = max((each.free for each in stations), default=-math.inf)
        if room <= -max((each.slots for each in stations), default=0) or (room <= 0 and not short):
            return False
        chunk = scheduler.next_chunk(self._chunk_size(stations), now)
        for index in self._state.reopen():
            self._work.reopen(index)
        if not chunk:
            return False
        station = self._choose(chunk, stations, short)
        if station is None:
            return False
        self._send(self._cut(chunk), station)
        return True

    def _dispatch_by_locality(self, now: float) -> bool:
        """Give a worker that is free the call that prefers it most, or any that may run there."""
        free = [each for each in self._stations.values() if each.open and each.free > 0]
        if not free:
            return False
        candidates = self._state.scheduler.startable(LOCALITY_LOOKS, now)
        for index in self._state.reopen():
            self._work.reopen(index)
        self._state.reopen()
        best = None
        for place, index in enumerate(candidates):
            numbers = self._preferences.numbers(index) if self._work.has_locality else {}
            tried = self._tried.get(index, set())
            elsewhere = any(
                each.slots and address not in tried and numbers.get(address, 0) >= 0
                for address, each in self._stations.items()
            )
            for station in free:
                address = station.worker.address
                number = numbers.get(address, 0)
                if number < 0 or (elsewhere and address in tried):
                    continue
                rank = (-number, place, len(station.chunks) / station.slots)
                if best is None or rank < best[0]:
                    best = rank, index, station
        if best is None:
            return False
        _, index, station = best
        self._send(range(index, index + 1), station)
        return True

    def _chunk_size(self, stations: list[_Station]) -> int:
        if not self._pace:
            return self._work.least
        seconds = FRESH_CHUNK_SECONDS if self._fresh else CHUNK_SECONDS
        lanes = max(1, sum(each.slots for each in stations))
        scheduler = self._state.scheduler
        fair = -(-scheduler.queued // (2 * lanes))
        if self._work.is_in_line:
            fair = scheduler.queued  # a chain: no other worker could take a part of it
        fair = max(fair, int(LEAST_CHUNK_SECONDS / self._pace))
        size = max(1, min(int(seconds / self._pace), fair, MOST_CALLS))
        return self._work.rounded(size)

    def _choose(self, chunk: range, stations: list[_Station], short: bool) -> _Station | None:
        """The worker that gets a chunk."""
        tried = self._tried.get(chunk.start, ())
        near = self._work.near(chunk)
        best = None
        for station in stations:
            waits = len(station.chunks) - station.slots
            if not station.slots or waits >= (station.slots if short else 0):
                continue
            address = station.worker.address
            load = len(station.chunks) / station.slots
            rank = (address in tried, -near.get(address, 0), load)
            if best is None or rank < best[0]:
                best = rank, station
        return None if best is None else best[1]

    def _cut(self, chunk: range) -> range:
        """The part of a chunk that goes to one worker: calls under which workers died go alone."""
        if not self._deaths:
            return chunk
        if chunk.start in self._deaths:
            return chunk[:1]
        for index in chunk:
            if index in self._deaths:
                return range(chunk.start, index)
        return chunk

    def _send(self, calls: range, station: _Station) -> None:
        scheduler = self._state.scheduler
        attempt = scheduler.attempt(calls.start)
        self._sent += 1
        name = f"{self._run}-{self._sent}"
        packed, size = [], 0
        for content in self._work.pack(calls):
            packed.append(content)
            size += len(content[1])
            if size > MOST_BYTES:
                break
        calls = calls[: len(packed)]
        address = station.worker.address
        order = ChunkOrder(self._run, name, calls.start, attempt, packed, station.failed)
        order = self._work.complete(order, address)
        scheduler.dispatched(calls.start, calls.stop)
        future = self._link.submit(order, address)
        chunk = Chunk(order, address, future)
        self._chunks[name] = station.chunks[name] = chunk

    # ------------------------------------------------------------ what arrives

    def collect(self, ready: Iterable[int]) -> None:
        """Report what has arrived."""
        while self._inbox:
            item = self._inbox[0]
            kind, what = item
            getattr(self, f"_on_{kind}")(*what)
            # Only now: an interrupt in the line above leaves it to be done again.
            if self._inbox and self._inbox[0] is item:
                self._inbox.popleft()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_INTERVAL
            self._look(now)

    def _look(self, now: float) -> None:
        """Notice what nobody reports."""
        if self._pipe is None:
            return
        if self._link.is_lost:
            self._give_up_all()
            if self._stopped_at is None:
                raise ClusterError(
                    "the scheduler of the cluster is gone: the connection to "
                    f"{self._link.client.scheduler.address} was lost"
                )
        if self._stopped_at is not None:
            if now > self._stopped_at + self._state.options.grace_period + SILENCE:
                self._give_up_all()
            return
        since = self._no_workers_since
        if since is not None and now > since + self._link.connect_timeout and not self._chunks:
            self._give_up_all()
            raise NoWorkers(
                f"the cluster {self._link.client.scheduler.address} has had no worker "
                f"{'that may be used ' if self._only else ''}for "
                f"{self._link.connect_timeout:g} s"
            )

    def _give_up_all(self) -> None:
        """Wait for no chunk any more."""
        for chunk in list(self._chunks.values()):
            station = self._stations.get(chunk.address)
            self._remove(chunk)
            if chunk.head < chunk.stop:
                self._give_up(chunk, station.worker.name if station else chunk.address)

    def _on_workers(self) -> None:
        if self._pipe is not None and self._stopped_at is None:
            self._link_check()
            self._take_workers()

    def _link_check(self) -> None:
        known = {*self._stations}
        if any(address not in known for address in self._link.workers):
            self._link.check()

    def _on_gone(self, address: str) -> None:
        self._lose(address)
        if not self._stations and self._no_workers_since is None:
            self._no_workers_since = time.monotonic()

    def _on_opened(self, address: str, error: BaseException | None) -> None:
        station = self._stations.get(address)
        if station is None:
            return
        if isinstance(error, NodeDied | OSError) and station.openings < DEATHS:
            # Nobody's fault: its node was killed meanwhile, or its connection was cut.
            assert self._spec is not None
            station.openings += 1
            _release(station.future)
            station.future = self._link.open_run(self._spec, address)
            return
        if error is not None:
            name = station.worker.name
            raise ClusterError(
                f"the worker {name} ({address}) can't run these calls: "
                f"{type(error).__name__}: {error}"
            ) from error
        station.open = True
        self._unopened.discard(address)

    def _on_failed(self, name: str, error: BaseException | None) -> None:
        """The task of a chunk failed: its node died, or dask gave it up."""
        chunk = self._chunks.get(name)
        if chunk is not None:
            self._work.lost(chunk.address)
            station = self._stations.get(chunk.address)
            self._lose_chunk(chunk, station.worker.name if station else chunk.address)

    def _on_report(self, report: ChunkReport) -> None:
        chunk = self._chunks.get(report.chunk)
        if chunk is None:
            return  # it was lost, and its calls run elsewhere
        with DeferSignals():  # once for all
            records, at = report.records, 0
            while at < len(records):
                taken = self._take_returned(chunk, records, at)
                if not taken and records[at].call == chunk.head:
                    self._take(chunk, records[at])
                at += taken or 1
        station = self._stations.get(chunk.address)
        if station is not None:
            station.failed = max(station.failed, report.failed)
        if report.missing:
            self._work.missing(chunk.address, report.missing)
        if report.problem is not None:
            number, text = report.problem
            raise OSError(number, f"{text}: on the worker {chunk.address}")
        if not report.over:
            chunk.slow = True
            self._recall_waiting(chunk)
        if 0 <= report.unstarted < chunk.stop and report.unstarted >= chunk.head:
            self._state.requeue(chunk.head, report.unstarted)
            chunk.stop = report.unstarted
            self._pace = max(self._pace, SHORT_CALL)
        if report.running == chunk.head < chunk.stop and chunk.running != report.running:
            chunk.running, chunk.pid = report.running, report.pid
            self._state.events.started(chunk.head, time.monotonic() - report.since)
        if report.overdue and report.running == chunk.head:
            self._time_out(chunk)
        if report.over:
            self._remove(chunk)
            if chunk.head < chunk.stop:
                self._state.requeue(chunk.head)

    def _recall_waiting(self, slow: Chunk) -> None:
        """A chunk takes long: take back those that wait behind it."""
        station = self._stations.get(slow.address)
        if station is not None and len(station.chunks) > station.slots:
            for chunk in station.chunks.values():
                if not chunk.slow:
                    self._recall(chunk)

    def _recall(self, chunk: Chunk) -> None:
        """Ask a worker not to begin a chunk."""
        if not chunk.recalled:
            chunk.recalled = True
            self._link.control(
                chunk.address, "refuse", self._run, chunk.order.chunk, answer="refused"
            )

    def _on_refused(self, address: str, args: tuple[Any, ...], refused: Any) -> None:
        chunk = self._chunks.get(args[0])
        if chunk is not None and refused is True:
            self._remove(chunk)
            self._state.requeue(chunk.head)

    def _time_out(self, chunk: Chunk) -> None:
        """The node of a chunk is ending its call, which ran too long."""
        state, index = self._state, chunk.head
        if index in state.overdue:
            return
        scheduler = state.scheduler
        may_retry = scheduler._may_retry_timeout(index)
        fatal = state.options.max_errors == 0 and not may_retry
        running: tuple[int, ...] = (index,)
        if fatal:
            running = tuple(
                sorted(each.head for each in self._chunks.values() if each.running == each.head)
            )
        for each in self._chunks.values():
            if each.head in running:
                self._log_timeout(each)
        state.time_out(Expiry((index,), running, fatal), running)
        if fatal:
            self.cancel_all()

    def _log_timeout(self, chunk: Chunk) -> None:
        _log.error(
            "timeout of %g s: call %d, %s, is still running in process %d of worker %s",
            self._state.timeout,
            chunk.head,
            self._state.calls[chunk.head],
            chunk.pid,
            self._name_of(chunk.address),
        )

    # ------------------------------------------------------------ outcomes

    def _take_returned(self, chunk: Chunk, records: list[Record], at: int) -> int:
        """Note the calls at the head of a chunk that returned, and of which nothing is to be told.

        Args:
            chunk: the chunk.
            records: of its calls.
            at: the first record that is new.

        Returns:
            The number of these calls.
        """
        state, first = self._state, chunk.head
        if state.events or chunk.running == first:
            return 0
        unusual = state.overdue | state.scheduler.disregarded | state.scheduler.unwanted
        attempt, calls, ended = state.scheduler.attempt(first), [], 0.0
        for index, record in enumerate(islice(records, at, None), first):
            if (
                record.call != index
                or index in unusual
                or record.overdue
                or record.exitcode
                or record.logs
                or record.output is not None
                or record.profile is not None
                or not (record.kept >= 0 or is_harmless(record.answer))
            ):
                break
            answer = self._work.decode(record)
            if not isinstance(answer, Answer):
                break
            ended = record.ended
            finished = ended if record.kept >= 0 else answer.finished
            duration = max(0.0, finished - record.began)
            rss = record.max_rss
            grown = None if rss is None else max(0, rss - record.rss)
            calls.append(
                Returned(
                    answer.value,
                    record.pid,
                    attempt,
                    record.wall,
                    duration,
                    record.cpu_time,
                    rss,
                    grown,
                )
            )
            self._note_pace(record)
        if not calls:
            return 0
        stop, worker = first + len(calls), self._name_of(chunk.address)
        assert isinstance(state.outcomes, PackedOutcomeStore)
        for record, call in zip(islice(records, at, None), calls, strict=False):
            self._work.returned(record, call.value, worker, chunk.address)
        if state.logs is not None:
            state.logs.ended_well(range(first, stop), 0, first)
        state.scheduler.advanced(first, stop, ended)
        state.outcomes.record_returned(first, worker, calls)
        state.forget_failures(range(first, stop))
        chunk.running, chunk.head = -1, stop
        return len(calls)

    def _take(self, chunk: Chunk, record: Record) -> None:
        """Report the end of a call."""
        state, index = self._state, record.call
        with DeferSignals() as deferred:
            try:
                # Loading an answer may run the user's code, and may be interrupted.
                deferred.deliver()
                answer = self._work.decode(record)
            finally:
                deferred.hold()
            if self._chunks.get(chunk.order.chunk) is not chunk or chunk.head != index:
                return  # a signal handler has used the run meanwhile, and was here before
            outcome = self._outcome(chunk, record, answer)
            if answer is None:
                state.child_died(index)
            if chunk.running != index:
                state.events.started(index, time.monotonic() - (outcome.duration or 0.0))
            self._note_pace(record)
            self._add_profile(chunk, record)
            if isinstance(outcome.error, DependenciesFailed):
                self._exclude(outcome.error)
            elif not outcome.ok:
                self._tried.setdefault(index, set()).add(chunk.address)
            if isinstance(state.logs, ClusterLogs):
                state.logs.add(outcome, record.logs)
            self._work.ended(record, outcome, chunk.address)
            self._conclude(chunk, outcome, record.later)

    def _add_profile(self, chunk: Chunk, record: Record) -> None:
        if record.profile is None:
            return
        worker, profiles = self._name_of(chunk.address), self._state.profiles
        if profiles is not None:
            profiles.add(record.call, worker, record.profile)
        if self._profiled is not None:
            self._profiled.add(worker, record.profile)

    def _exclude(self, error: DependenciesFailed) -> None:
        """Use a worker no more whose values were found to be of no use, unless that is known."""
        for name, calls in error.dependencies.items():
            for address, station in list(self._stations.items()):
                if name is None or station.worker.name != str(name) or len(self._stations) == 1:
                    continue
                indices = [getattr(call, "index", -1) for call in calls]
                if any(self._work.made_last_by(index, str(name)) for index in indices):
                    self._excluded.add(address)
                    station.slots = 0  # what runs there may end
                    self._preferences.take_workers(
                        tuple(each.worker for each in self._stations.values() if each.slots)
                    )

    def _conclude(self, chunk: Chunk, outcome: Outcome, later: bool = False) -> None:
        chunk.running = -1
        chunk.head = outcome.index + 1
        self._state.conclude(outcome, later=later)

    def _note_pace(self, record: Record) -> None:
        took = record.ended - record.began
        self._pace = took if not self._pace else 0.7 * self._pace + 0.3 * took

    def _outcome(self, chunk: Chunk, record: Record, answer: Any) -> Outcome:
        state, index = self._state, record.call
        if record.overdue:
            state.overdue.add(index)
        process: Any = SimpleNamespace(
            pid=record.pid,
            returncode=record.exitcode,
            started=record.began,
            cpu_time=record.cpu_time,
            max_rss=record.max_rss,
            rss=record.rss,
        )
        captured = None
        if record.output is not None:
            captured = Captured(*record.output)
        finished = answer.finished if isinstance(answer, Answer) else record.ended
        return outcome_of(
            state.calls[index],
            process,
            answer,
            signalled=record.signalled,
            overdue=state.timeout if index in state.overdue else None,
            attempt=state.scheduler.attempt(index),
            captured=captured,
            figures=None if self._fresh else (record.cpu_time, record.max_rss),
            elsewhere=Elsewhere(
                self._name_of(chunk.address), record.wall, max(0.0, finished - record.began)
            ),
        )

    def _name_of(self, address: str) -> str:
        station = self._stations.get(address)
        return address if station is None else station.worker.name


def _release(future: Any) -> None:
    """Have dask forget a task; what runs for it is ended."""
    if future is not None:
        with suppress(Exception):  # the connection is gone
            future.cancel() if future.status == "pending" else future.release()


def _pickled_initializer(options: Options) -> bytes | None:
    if options.initialize is None:
        return None
    try:
        return dumps(options.initialize)
    except Exception as error:
        raise NotSendable(
            f"initializer {options.initializer!r} or its initargs can't be pickled, which calls on "
            f"a cluster need: {error}"
        ) from error
