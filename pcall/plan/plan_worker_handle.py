"""A plan's worker as its parent sees it. Its values stay where they are."""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT
from functools import partial
from time import monotonic, sleep
from typing import Any

from pcall._os.fd_passing import send_with_fd
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._tuning import FD_RETRY_INTERVAL, FILE_DELIVERY_TIMEOUT
from pcall._wire.decode import is_error
from pcall._wire.result_table import ENCODED, HANDED_OFF, IN_FILE, ResultTable
from pcall._wire.row_reader import decode_error, unreadable
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.engines.local.worker_control import FILE, TOKEN, WorkerControl
from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_worker import PlanWorker
from pcall.plan.value_store import Values

__all__ = ["PlanWorkerHandle"]


class PlanWorkerHandle(WorkerHandle):
    """A worker that runs call after call of a plan.

    The parent reads only the errors of its calls. Values go from worker to worker.

    Args:
        number: of its control block, and of its store.
        calls: of the plan.
        table: where it answers.
        values: where the values of calls lie.
        links: the calls whose values may stay in the worker for the next call.

    Attributes:
        came: the calls whose large values have arrived since this was last cleared.
        handed_off: the calls whose values it has handed off to the next call, likewise.
    """

    def __init__(
        self, number: int, calls: PlanCalls, table: ResultTable, values: Values, links: ChainLinks
    ) -> None:
        make = partial(PlanWorker, calls, values, links, number)
        store = partial(values.stores.__getitem__, number)
        written = WorkerControl(table.extra, number).counts[WorkerControl.WRITTEN]
        super().__init__(number, calls, table, 1, make, tuple(values.stores), store)
        # The store outlives the worker: a new worker appends to what the last one has written.
        counts = self.control.counts
        counts[WorkerControl.WRITTEN] = max(written, counts[WorkerControl.WRITTEN])
        self._values = values
        self.came: list[int] = []
        self.handed_off: list[int] = []

    @property
    def running(self) -> bool:
        """True if it has begun the call at :attr:`at`, or holds the only copy of its input."""
        return super().running or self._has_handed_off()

    def _has_handed_off(self) -> bool:
        if not self.given or self.since is None:
            return False
        if not self.given[0].start < self.at < self.given[0].stop:
            return False
        return self._table.kinds[self.at - 1] == HANDED_OFF

    def send_file(self, index: int, single: bool) -> bool:
        """Send it a large value, for the chunk that it is given next.

        The worker waits for work, so it takes the file at once unless it has died.

        Args:
            index: the call whose value it is.
            single: True if only one call of the chunk needs the value, and is tried once. Then
                the worker may free it.

        Returns:
            False if the worker does not take it.
        """
        end = monotonic() + FILE_DELIVERY_TIMEOUT
        message = TOKEN.pack(FILE, index, 0, single)
        with self._values.file(index) as fd:
            while monotonic() < end and self.process.is_alive():
                # Never wait in the system call: the worker's end is open in this process, too, so
                # the wait would not end when the worker dies.
                if send_with_fd(self.socket, message, fd, MSG_DONTWAIT):
                    return True
                sleep(FD_RETRY_INTERVAL)  # until the worker has taken some of what is under way
        return False

    def answers(self, stop: int) -> tuple[list[Any], dict[int, BaseException]]:
        """Read the errors of the calls from :attr:`at` to ``stop``, and take files that came.

        Returns:
            None for each call, since no value is read; and errors by call.
        """
        start, table = self.at, self._table
        kinds = bytes(table.kinds[start:stop])
        errors: dict[int, BaseException] = {}
        if max(kinds, default=0) >= ENCODED:
            for index, kind in enumerate(kinds, start):
                error = None
                if kind == ENCODED:
                    error = decode_error(self._received.short_answer(index))
                elif kind == HANDED_OFF:
                    self.handed_off.append(index)
                elif kind == IN_FILE and index not in self._values.files:
                    error = self._take_file(index)
                if error is not None:
                    errors[index] = error
        return [None] * (stop - start), errors

    def _take_file(self, index: int) -> BaseException | None:
        """Take the file with the answer of a call; return the error if the call has one."""
        try:
            fd = self._received.file_of(index)
            if is_error(os.pread(fd, 64, 0)):
                return self._received.file_answer(index).error
        except Exception as problem:
            if is_interrupt(problem):
                raise
            return unreadable(problem, str(problem))
        with DeferSignals():
            # A signal handler may have used the run meanwhile, and been here before.
            if index not in self._values.files:
                # From here on the store of values owns the file.
                self._values.keep_file(index, self._received.take_file(index))
                self.came.append(index)
        return None
