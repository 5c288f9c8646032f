"""The values of calls that are done, as the parent keeps them for those that need them.

A number lies in the table that all children share. What is pickled and short lies in a
*store*: a file for each lane of children, open in all of them, so that a value goes from one
child to another without the parent, and outlives the child that made it. What is large lies in
a file of its own, whose descriptor the parent holds and hands to the child that needs it.

The parent itself reads a value when it is wanted here: as output, or in an outcome.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import loads
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any

from pcall._errors import ResultError
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._os.system import System
from pcall._wire.decode import Answer, decode, read_answer
from pcall._wire.exception_codec import safe_str
from pcall._wire.mapping import map_private
from pcall._wire.result_table import (
    CONSTANTS,
    ENCODED,
    FLOAT,
    HANDED_OFF,
    IN_FILE,
    INT,
    PICKLED,
    ResultTable,
    unpack_place,
)
from pcall.plan.plan import Plan

__all__ = ["Values"]

# Bytes of a store that are given back together, once nothing in them is needed.
_BLOCK = 1 << 16


class Values:
    """What the calls of a run have returned.

    Args:
        plan: the plan.
        table: where children answer.
        system: makes files.
        lanes: how many children there are at once.

    Attributes:
        stores: a file for each lane.
        owners: by call, the number of the store that its value is in.
        files: by call, the descriptor of a large value; -1 where it is mapped instead.
    """

    def __init__(self, plan: Plan, table: ResultTable, system: System, lanes: int) -> None:
        self._plan = plan
        self._table = table
        self._system = system
        self.owners = memoryview(mmap.mmap(-1, 2 * max(1, len(plan.calls)))).cast("H")
        self.files: dict[int, int] = {}
        self._mapped: dict[int, memoryview] = {}
        self._most = getrlimit(RLIMIT_NOFILE)[0] // 2
        self._dropped = bytearray(len(plan.calls))
        # By store and block: bytes that have been written, less those that are not needed.
        self._unneeded: Counter[tuple[int, int]] = Counter()
        self.stores: list[int] = []
        # An interrupt may come before anybody has this object, or just before close().
        weakref.finalize(self, _close_all, os.getpid(), self.stores, self.files).atexit = False
        with DeferSignals():
            try:
                for _ in range(lanes):
                    self.stores.append(system.make_answer_file())
                    register_private_fd(self.stores[-1])
            except BaseException:
                self.close()
                raise

    def keep_file(self, index: int, fd: int) -> None:
        """A large value has come.

        Where this process may not hold many more descriptors it is mapped instead: to hand it to
        a child is to copy it, then.
        """
        if len(self.files) - len(self._mapped) < self._most:
            self.files[index] = fd
            return
        self._mapped[index] = map_private(fd, os.fstat(fd).st_size)
        self.files[index] = -1
        unregister_private_fd(fd)
        os.close(fd)

    @contextmanager
    def file(self, index: int) -> Iterator[int]:
        """A descriptor of a large value, for the time of the block."""
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
        """The value of a call that is done; None when it was dropped, or never came here.

        Raises:
            ResultError: it can't be read here.
        """
        kind = self._table.kinds[index]
        if kind == HANDED_OFF:
            return None
        if not kind or self._dropped[index]:
            settled = self._plan.calls[index].settled
            return settled[0] if settled else None
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind == INT:
            return self._table.values[index]
        if kind == FLOAT:
            return self._table.floats[index]
        try:
            answer: Answer | None
            if kind == IN_FILE:
                with self.file(index) as fd:
                    answer = read_answer(fd)
                if answer is None:
                    raise EOFError("it did not come to its end")
            else:
                content = read_store(self.stores, self.owners, self._table, index)
                if kind == PICKLED:
                    return loads(content)
                answer = decode(memoryview(content))
        except Exception as problem:
            if is_interrupt(problem):
                raise
            raise ResultError(
                f"the value of {self._plan.calls[index]!r} could not be read: "
                f"{type(problem).__name__}: {safe_str(problem)}"
            ) from problem
        if answer.error is not None:
            raise answer.error
        return answer.value

    def is_used_up(self, index: int) -> bool:
        """True for a value that the only call that needed it has had, and nobody has any more."""
        if self._table.kinds[index] == HANDED_OFF:
            return True
        fd = self.files.get(index, -1)
        return fd >= 0 and not os.fstat(fd).st_size

    def drop(self, index: int) -> None:
        """Nothing needs this value any more."""
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
            self._give_back(self.owners[index], *unpack_place(self._table.values[index]))

    def reopen(self, index: int) -> None:
        """A call is made again: another value comes."""
        self.drop(index)
        self._dropped[index] = False

    def _give_back(self, store: int, place: int, length: int) -> None:
        end = place + length
        while place < end:
            block = place // _BLOCK
            stop = min(end, (block + 1) * _BLOCK)
            self._unneeded[store, block] += stop - place
            if self._unneeded[store, block] == _BLOCK:
                del self._unneeded[store, block]
                self._system.free_range(self.stores[store], block * _BLOCK, _BLOCK)
            place = stop

    def close(self) -> None:
        """Give all of it back."""
        _close_all(os.getpid(), self.stores, self.files)
        self._mapped.clear()


def _close_all(pid: int, stores: list[int], files: dict[int, int]) -> None:
    if os.getpid() != pid:
        return  # a child that frees its copy
    with DeferSignals():
        for fd in (*stores, *files.values()):
            if fd >= 0:
                unregister_private_fd(fd)
                os.close(fd)
        stores.clear()
        files.clear()


def read_store(stores: list[int], owners: memoryview, table: ResultTable, index: int) -> bytes:
    """The bytes of a short value."""
    place, length = unpack_place(table.values[index])
    content = os.pread(stores[owners[index]], length, place)
    if len(content) < length:
        raise EOFError(f"{length - len(content)} bytes of it are missing")
    return content
