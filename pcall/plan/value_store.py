"""The values of finished calls, as the parent keeps them for the calls that need them.

A number is in the table that all workers share. A short value is pickled into a *store*, a file of
its worker that is open in all workers. So a value goes from one worker to another without the
parent, and outlives the worker that made it. A large value is in a file of its own; the parent
holds the descriptor, and sends it to the workers that need the value.

The parent itself reads a value only as output, or for an outcome.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pcall._errors import ResultError
from pcall._os.private_fds import is_scarce, register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._os.system import System
from pcall._tuning import STORE_BLOCK
from pcall._wire.answer_file import read_all, write_all
from pcall._wire.decode import Answer, read_answer
from pcall._wire.encode import unsendable
from pcall._wire.exception_codec import safe_str
from pcall._wire.mapping import map_private
from pcall._wire.result_table import (
    ENCODED,
    HANDED_OFF,
    IN_FILE,
    PICKLED,
    ResultTable,
    unpack_place,
)
from pcall._wire.row_reader import Raised, read_row
from pcall.plan.given_results import GivenResults
from pcall.plan.plan import Plan
from pcall.plan.plan_call import Settled

__all__ = ["Values"]


class Values:
    """The values that the calls of a run have returned.

    It is an :class:`~pcall._wire.row_reader.AnswerSource`.

    Args:
        plan: the plan.
        given: the results of settled calls.
        table: where workers answer.
        system: makes files.
        workers: the largest number of workers at once.

    Attributes:
        given: as given.
        stores: a file for each worker number, and one for values that are given during the run.
        owners: by call, the number of the store that has its value.
        files: by call, the descriptor of a large value; -1 if the value is mapped instead.
    """

    def __init__(
        self, plan: Plan, given: GivenResults, table: ResultTable, system: System, workers: int
    ) -> None:
        self._plan = plan
        self.given = given
        self._table = table
        self._system = system
        calls = max(1, len(plan.calls))
        self.owners: memoryview[int] = memoryview(mmap.mmap(-1, 2 * calls)).cast("H")
        # A worker may still write to the row of a call that is settled while it runs there. So
        # the length and the place of such a value lie elsewhere, and its bytes in the last store.
        self.shared: memoryview[int] = memoryview(mmap.mmap(-1, 16 * calls)).cast("q")
        self._written = 0
        self.files: dict[int, int] = {}
        self._mapped: dict[int, memoryview] = {}
        self._dropped = bytearray(len(plan.calls))
        # By store and block: bytes of dropped values.
        self._unneeded: Counter[tuple[int, int]] = Counter()
        self.stores: list[int] = []
        # An interrupt may come before anything refers to this object, or just before close().
        self._finalizer = weakref.finalize(self, _close_all, os.getpid(), self.stores, self.files)
        self._finalizer.atexit = False
        with DeferSignals():
            try:
                for _ in range(workers + 1):
                    self.stores.append(system.make_answer_file())
                    register_private_fd(self.stores[-1])
            except BaseException:
                self.close()
                raise

    def keep_file(self, index: int, fd: int) -> None:
        """Keep the file of a large value.

        If this process may not hold many more descriptors, the value is mapped instead. Then
        sending it to a worker takes a copy.

        Args:
            index: the call.
            fd: the file, registered as private; it is closed here.
        """
        if not is_scarce(fd):
            self.files[index] = fd
            return
        self._mapped[index] = map_private(fd, os.fstat(fd).st_size)
        self.files[index] = -1
        unregister_private_fd(fd)
        os.close(fd)

    @contextmanager
    def file(self, index: int) -> Iterator[int]:
        """Provide a descriptor of a large value within a ``with`` block."""
        view = self._mapped.get(index)
        if view is None:
            yield self.files[index]
            return
        with DeferSignals():
            fd = self._system.make_answer_file()
        try:
            written = 0
            while written < len(view):
                written += os.pwrite(fd, view[written:], written)
            yield fd
        finally:
            os.close(fd)

    def load(self, index: int) -> Any:
        """The value of a finished call; None if it was dropped, or never left its worker.

        Raises:
            ResultError: the value can't be read here.
        """
        if index in self.given:
            return self.given.value(index)
        kind = self._table.kinds[index]
        if not kind or kind == HANDED_OFF or self._dropped[index]:
            return None
        try:
            value = read_row(self._table, index, self)
        except BaseException as problem:
            if is_interrupt(problem):
                raise
            raise ResultError(
                f"the value of {self._plan.calls[index]!r} could not be read: "
                f"{type(problem).__name__}: {safe_str(problem)}"
            ) from problem
        if type(value) is Raised:
            raise value.error
        return value

    def give(self, index: int, value: Any) -> None:
        """Pass a value on to workers, those included that have been forked.

        Raises:
            ResultError: it can't be pickled, or not be written.
        """
        try:
            content = pickle.dumps(value, 5)
            write_all(self.stores[-1], content, self._written)
        except BaseException as problem:
            if is_interrupt(problem):
                raise
            raise unsendable(value, problem) from problem
        self.given.add(index, Settled(value, None))
        self.shared[2 * index + 1] = self._written
        self.shared[2 * index] = len(content)  # last: a worker may look now
        self._written += len(content)

    def load_given(self, index: int) -> Any:
        """Load the value that a call was given during the run."""
        length, place = self.shared[2 * index : 2 * index + 2]
        return pickle.loads(read_all(self.stores[-1], length, place))

    def short_answer(self, index: int) -> bytes:
        """The bytes of a short answer.

        Raises:
            EOFError: the store is too short.
        """
        place, length = unpack_place(self._table.values[index])
        content = os.pread(self.stores[self.owners[index]], length, place)
        if len(content) < length:
            raise EOFError(f"{length - len(content)} bytes of it are missing")
        return content

    def file_answer(self, index: int) -> Answer:
        """Read an answer that has a file of its own.

        Raises:
            EOFError: the answer is incomplete.
        """
        with self.file(index) as fd:
            answer = read_answer(fd)
        if answer is None:
            raise EOFError("it did not come to its end")
        return answer

    def is_used_up(self, index: int) -> bool:
        """True for a value that is gone because the only call that needed it has taken it."""
        if self._table.kinds[index] == HANDED_OFF:
            return True
        fd = self.files.get(index, -1)
        return fd >= 0 and not os.fstat(fd).st_size

    def drop(self, index: int) -> None:
        """Free a value that no call needs any more."""
        if self._dropped[index]:
            return
        self._dropped[index] = True
        kind = self._table.kinds[index]
        if kind == IN_FILE:
            with DeferSignals():
                fd = self.files.pop(index, -1)
                if fd >= 0:
                    unregister_private_fd(fd)
                    os.close(fd)
                self._mapped.pop(index, None)
        elif kind in (PICKLED, ENCODED):
            self._free(self.owners[index], *unpack_place(self._table.values[index]))

    def reopen(self, index: int) -> None:
        """Free the value of a call that is executed again, and expect a new value."""
        self.drop(index)
        self._dropped[index] = False
        self.given.forget(index)
        self.shared[2 * index] = 0

    def _free(self, store: int, place: int, length: int) -> None:
        """Count these bytes as unneeded, and free blocks of the file that are entirely unneeded."""
        end = place + length
        while place < end:
            block = place // STORE_BLOCK
            stop = min(end, (block + 1) * STORE_BLOCK)
            self._unneeded[store, block] += stop - place
            if self._unneeded[store, block] == STORE_BLOCK:
                del self._unneeded[store, block]
                self._system.free_range(self.stores[store], block * STORE_BLOCK, STORE_BLOCK)
            place = stop

    def close(self) -> None:
        """Close all files."""
        _close_all(os.getpid(), self.stores, self.files)
        # What a signal handler raises while a finalizer runs is lost.
        self._finalizer.detach()
        self._mapped.clear()


def _close_all(pid: int, stores: list[int], files: dict[int, int]) -> None:
    if os.getpid() != pid:
        return  # a child frees its copy of the object
    with DeferSignals():
        for fd in (*stores, *files.values()):
            if fd >= 0:
                unregister_private_fd(fd)
                os.close(fd)
        stores.clear()
        files.clear()
