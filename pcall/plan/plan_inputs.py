"""The values that the calls of a plan's worker need: where they lie, and when they are freed.

An input that one call alone needs, and that no other attempt will need, is freed once that call
has it. So a chain of large values holds two of them at a time, and not three.
"""

from __future__ import annotations

import os
from typing import Any
from weakref import ref

from pcall._errors import ResultError
from pcall._os.private_fds import is_scarce
from pcall._tuning import LARGE_VALUE
from pcall._wire.decode import Answer, decode, read_answer
from pcall._wire.mapping import map_private
from pcall._wire.result_table import HANDED_OFF, INT, ResultTable
from pcall._wire.row_reader import Raised, read_row
from pcall._wire.weak_values import WeakValues
from pcall.plan.handoff import HandedOff
from pcall.plan.plan import Plan
from pcall.plan.value_store import Values

__all__ = ["PlanInputs"]


class PlanInputs:
    """Reads the values of calls in a worker.

    It is an :class:`~pcall._wire.row_reader.AnswerSource`.

    Args:
        plan: the plan.
        table: where all workers answer.
        values: has the stores with the short answers of all workers.

    Attributes:
        handed_off: the value that the last call left for the next one, or None.
        mappings: private mappings of inputs, by identity, while anything refers to them.
    """

    def __init__(self, plan: Plan, table: ResultTable, values: Values) -> None:
        self._nodes = plan.calls
        self._table = table
        self._values = values
        # For every value of a call: looked up here once.
        self._given, self._kinds, self._ints = values.shared, table.kinds, table.values
        # Of large values, for the chunk that needs them: by call, the descriptors.
        self._files: dict[int, int] = {}
        self._mapped: dict[int, memoryview] = {}  # those that would be too many descriptors
        # The inputs that one call alone needs; of those that the current call has, the mappings.
        self._single: set[int] = set()
        self._taken: list[tuple[int, ref[Any]]] = []
        self.mappings: WeakValues[int, Any] = WeakValues()
        self.handed_off: HandedOff | None = None

    def value_of(self, index: int) -> Any:
        """Load the value of a call, each time as a new object.

        So no call sees what another one does to its arguments, wherever that one runs.

        Raises:
            ResultError: the value can't be read.
        """
        if self._given[2 * index] > 0:  # the call was settled during the run
            return self._values.load_given(index)
        kind = self._kinds[index]
        if kind == INT:
            return self._ints[index]
        if kind == HANDED_OFF:
            assert self.handed_off is not None
            return self.handed_off.load()
        if not kind:
            given = self._values.given
            assert index in given, f"{self._nodes[index]!r} has no value"
            return given.value(index)
        value = read_row(self._table, index, self)
        if type(value) is Raised:
            raise self._unreadable(index, value.error) from value.error
        return value

    def short_answer(self, index: int) -> bytes:
        """The bytes of a short answer, from the store of the worker that wrote it."""
        return self._values.short_answer(index)

    def file_answer(self, index: int) -> Answer:
        """Read an answer that has a file of its own.

        Raises:
            ResultError: the answer is incomplete.
        """
        view = self._mapped.get(index)
        # A mapping for each use, or a copy, so that no use sees what another one changes.
        if view is not None:
            return decode(memoryview(bytearray(view)))
        fd = self._files[index]
        size = os.fstat(fd).st_size
        if size < LARGE_VALUE:
            answer = read_answer(fd)
            if answer is None:
                raise self._unreadable(index, None)
            return answer
        view = map_private(fd, size)
        self.mappings[id(view.obj)] = view.obj
        if index in self._single:
            self._taken.append((fd, ref(view.obj)))
        return decode(view)

    def _unreadable(self, index: int, problem: BaseException | None) -> ResultError:
        return ResultError(f"the value of {self._nodes[index]!r} could not be read: {problem}")

    def keep(self, index: int, fd: int, single: bool = False) -> None:
        """Keep the file of a large value until the chunk has ended.

        Args:
            index: the call whose value it is.
            fd: the file, which is closed here.
            single: True when one call of the chunk alone needs the value, and is tried once.
        """
        before = self._files.pop(index, -1)
        if before >= 0:
            os.close(before)
        self._files[index] = fd
        if is_scarce(fd):
            self._mapped[index] = map_private(fd, os.fstat(fd).st_size)
            self._files[index] = -1
            os.close(fd)
        if single:
            self._single.add(index)

    def begin_call(self) -> None:
        """A call has its arguments, and begins."""
        self.handed_off = None
        if self._taken:
            self.free_taken()

    def free_taken(self) -> None:
        """Free the inputs that the current call alone needed and no longer refers to."""
        left = []
        for fd, mapping in self._taken:
            if mapping() is None:
                os.ftruncate(fd, 0)
            else:
                left.append((fd, mapping))
        self._taken = left

    def end_chunk(self) -> None:
        """Close all files: the next chunk gets its own."""
        for fd in self._files.values():
            if fd >= 0:
                os.close(fd)
        self._files.clear()
        self._mapped.clear()
        self._single.clear()
        self._taken.clear()
        self.handed_off = None
