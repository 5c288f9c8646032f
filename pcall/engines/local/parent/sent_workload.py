"""The workload of a pool whose calls come while it runs: they are sent to its workers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from pcall._core.growing_calls import GrowingCalls
from pcall._core.scheduler import Scheduler
from pcall._os.current import get_system
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._tuning import CHUNK_SECONDS, LARGE_VALUE
from pcall._wire.result_table import ResultTable
from pcall.engines.local.child.sent_calls import SentCallsWorker
from pcall.engines.local.parent.worker_handle import WorkerHandle

__all__ = ["SentCallsWorkload"]


class _SentCallsHandle(WorkerHandle):
    """A worker with two mailboxes, which take turns as its chunks do."""

    def __init__(
        self, number: int, calls: GrowingCalls, table: ResultTable, idle_timeout: float | None
    ) -> None:
        self._mailboxes: list[int] = []
        self._sizes = [0, 0]
        system = get_system()
        with DeferSignals():
            try:
                for _ in range(2):
                    fd = system.make_answer_file()
                    register_private_fd(fd)
                    self._mailboxes.append(fd)
                make = partial(SentCallsWorker, tuple(self._mailboxes), idle_timeout)
                super().__init__(number, calls, table, 1, make, tuple(self._mailboxes))
            except BaseException:
                self._close_mailboxes()
                raise

    def send_call(self, pickled: bytes) -> None:
        """Put the next chunk's call into its mailbox; empty: the worker has inherited it."""
        # The worker has one chunk at most, which uses the other mailbox.
        place = (self._done + len(self.given)) % 2
        fd = self._mailboxes[place]
        if self._sizes[place] > LARGE_VALUE:
            os.ftruncate(fd, 0)
        self._sizes[place] = len(pickled)
        data = memoryview(len(pickled).to_bytes(8, "little") + pickled)
        position = 0
        while position < len(data):
            position += os.pwrite(fd, data[position:], position)

    def close(self) -> None:
        super().close()
        self._close_mailboxes()

    def _close_mailboxes(self) -> None:
        fds, self._mailboxes = self._mailboxes, []
        for fd in fds:
            unregister_private_fd(fd)
            os.close(fd)


class SentCallsWorkload:
    """Sends calls one by one, and gives out those that workers have inherited in longer chunks.

    Args:
        calls: of the run.
        scheduler: of the run.
        idle_timeout: seconds after which an idle worker exits; None: it stays.
    """

    block = 1
    pauses_on_failure = False

    def __init__(
        self, calls: GrowingCalls, scheduler: Scheduler, idle_timeout: float | None
    ) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._pace = CHUNK_SECONDS  # seconds that a recent call took
        self._idle_timeout = idle_timeout

    def open(self, table: ResultTable, workers: int, seeded: bool) -> None:
        """Do nothing: each call is a block."""

    def make_worker(self, number: int, table: ResultTable) -> WorkerHandle:
        """A worker with mailboxes."""
        return _SentCallsHandle(number, self._calls, table, self._idle_timeout)

    def chunk_size(self, workers: int) -> int:
        """A number by recent durations, and no more than a fair share of the queued calls."""
        fair = -(-self._scheduler.queued // (2 * workers))
        return max(1, min(fair, int(CHUNK_SECONDS / self._pace)))

    def known(self, chunk: range, inherited: int) -> range:
        """One call that can be sent, or several that the worker has inherited."""
        pickled = self._calls.pickled
        if not chunk or pickled(chunk.start) is not None:
            return chunk[:1]
        stop = chunk.start
        end = min(chunk.stop, inherited)
        while stop < end and pickled(stop) is None:
            stop += 1
        return range(chunk.start, stop)

    def fit(self, worker: WorkerHandle, chunk: range) -> range:
        """Send the call. What was pickled is a snapshot, so it goes before what is inherited."""
        assert isinstance(worker, _SentCallsHandle)
        try:
            worker.send_call(self._calls.pickled(chunk.start) or b"")
        except OSError:  # no memory for it now
            with suppress(OSError):
                worker.leave()
            return range(0)
        return chunk

    def answered(self, worker: WorkerHandle, start: int, stop: int, began: float) -> None:
        """Note the mean duration of these calls."""
        assert worker.since is not None
        self._pace = max(1e-6, (worker.since - began) / (stop - start))

    def met_slow_call(self) -> None:
        """Let the next chunks have one call each."""
        self._pace = CHUNK_SECONDS

    def rebalance(self, workers: Iterable[WorkerHandle]) -> None:
        """Do nothing: the dispatcher takes back the calls that idle workers could run."""

    def reopen(self, index: int) -> None:
        """Do nothing: only a retry executes a call again."""

    def drop_unneeded(self) -> None:
        """Do nothing: the caller gets all values."""
