"""One child of a plan's run as its parent sees it: its values stay where they are."""

from __future__ import annotations

import os
import sys
from _socket import MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET
from errno import EAGAIN, ETOOMANYREFS
from functools import partial
from time import monotonic, sleep
from typing import Any

from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._wire.decode import decode, is_error, read_answer
from pcall._wire.result_table import ENCODED, FILE, HANDED_OFF, IN_FILE, TOKEN, ResultTable
from pcall.engines.local.parent.worker_handle import WorkerHandle
from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_worker import PlanWorker
from pcall.plan.value_store import Values

__all__ = ["PlanWorkerHandle"]

# Seconds after which a child that takes nothing is given up.
_PATIENCE = 5.0


class PlanWorkerHandle(WorkerHandle):
    """A child that takes call after call of a plan.

    Args:
        number: of its slot, and of its store.
        calls: of the plan.
        table: where it answers.
        values: where they are kept.
        links: which values may stay in it for the next call.

    Attributes:
        came: calls whose large values have come since this was last cleared.
        handed_off: calls whose values it has handed on itself, likewise.
    """

    def __init__(
        self, number: int, calls: PlanCalls, table: ResultTable, values: Values, links: ChainLinks
    ) -> None:
        make = partial(PlanWorker, calls, values, links, number)
        super().__init__(number, calls, table, 1, make, tuple(values.stores))
        self._values = values
        self.came: list[int] = []
        self.handed_off: list[int] = []

    @property
    def running(self) -> bool:
        """True when it has begun with the call at :attr:`at`; or has what that alone is to get."""
        return super().running or self._has_handed_off()

    def _has_handed_off(self) -> bool:
        if self.since is None or not self.given[0].start < self.at < self.given[0].stop:
            return False
        return self._table.kinds[self.at - 1] == HANDED_OFF

    def send_file(self, index: int, single: bool) -> bool:
        """Hand it a large value, for the chunk that it is given next.

        It waits for something to do, so it takes what it is sent, unless it has died.

        Args:
            index: the call whose value it is.
            single: True when one call of the chunk alone needs it, and will be tried once: it
                may be given up then.

        Returns:
            False when it does not.
        """
        end = monotonic() + _PATIENCE
        with self._values.file(index) as fd:
            files = [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
            while monotonic() < end and self.process.is_alive():
                try:
                    # This end of its own is open here as well: to wait would be for ever.
                    self.socket.sendmsg([TOKEN.pack(FILE, index, 0, single)], files, MSG_DONTWAIT)
                    return True
                except OSError as error:
                    if error.errno not in (EAGAIN, ETOOMANYREFS):
                        raise
                sleep(0.0005)  # until it has taken some of what is under way
        return False

    def answers(self, stop: int) -> tuple[list[Any], dict[int, BaseException]]:
        """The errors of calls; of the others nothing is read, and the values are None."""
        start, table = self.at, self._table
        kinds = bytes(table.kinds[start:stop])
        errors: dict[int, BaseException] = {}
        if max(kinds, default=0) >= ENCODED:
            for index, kind in enumerate(kinds, start):
                if kind == ENCODED:
                    view = self._view(table.values[index])
                    if is_error(view):
                        errors[index] = _error(decode(view).error)
                elif kind == HANDED_OFF:
                    self.handed_off.append(index)
                elif kind == IN_FILE and index not in self._values.files:
                    problem = self._take_file(index)
                    if problem is not None:
                        errors[index] = problem
        return [None] * (stop - start), errors

    def _take_file(self, index: int) -> BaseException | None:
        try:
            number = self._file_of(index)
            fd = self._files[number]
            if is_error(os.pread(fd, 64, 0)):
                answer = read_answer(fd)
                self._drop(number)
                return _error(None if answer is None else answer.error)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            failure = ResultError(f"the answer could not be read: {problem}")
            failure.__cause__ = problem
            return failure
        # From here on it is held by its call.
        self._values.keep_file(index, self._files.pop(number))
        self.came.append(index)
        return None

    def _file(self) -> int:
        return self._values.stores[self.number]


def _error(error: BaseException | None) -> BaseException:
    return error or ResultError("the answer could not be read: it did not come to its end")
