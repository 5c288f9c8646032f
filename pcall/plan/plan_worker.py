"""The child's side of a plan: where the values are that its calls need.

What a call alone needs, and what is not needed for another attempt, is given up once the call
has it: with large values in a chain there are two at a time then, and not three.
"""

from __future__ import annotations

import os
import sys
from _socket import CMSG_SPACE
from contextvars import Context
from pickle import loads
from resource import RLIMIT_NOFILE, getrlimit
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary, ref

from pcall._errors import ResultError
from pcall._wire.decode import Answer, decode, read_answer
from pcall._wire.encode import Parts, take_apart, write_parts
from pcall._wire.mapping import map_private
from pcall._wire.result_table import (
    CONSTANTS,
    FILE,
    FLOAT,
    HANDED_OFF,
    IN_FILE,
    INT,
    PICKLED,
    TOKEN,
    WorkerControl,
)
from pcall.engines.local.child.worker_main import AnswerFile, Worker
from pcall.plan.chain_links import ChainLinks
from pcall.plan.handoff import HandedOff, is_unshared
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.value_store import Values, read_store

__all__ = ["PlanWorker"]

# Bytes of a value that is given up as soon as may be.
_LARGE = 1 << 20


class PlanWorker(Worker):
    """A worker whose calls need the values of others, and which answers into a store.

    Args:
        calls: of the plan.
        values: where they are.
        links: which values may stay here for the next call.
        number: of the child's store.
        told: what every worker is.
    """

    def __init__(
        self, calls: PlanCalls, values: Values, links: ChainLinks, number: int, *told: Any
    ) -> None:
        lane, _, *rest = told
        super().__init__(lane, values.stores[number], *rest)
        self._number = number
        self._stores, self._owners = values.stores, values.owners
        self._nodes = calls.plan.calls
        # Of large values, for the chunk that needs them: by call, the descriptors.
        self._inputs: dict[int, int] = {}
        self._mapped: dict[int, memoryview] = {}  # those that would be too many descriptors
        self._most = getrlimit(RLIMIT_NOFILE)[0] // 4
        # Those that one call alone needs; and of what the current call has of them, the mapping.
        self._single: set[int] = set()
        self._taken: list[tuple[int, ref[Any]]] = []
        self._mappings: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._links = links
        self._handed_off: HandedOff | None = None
        self._calls = calls.bound_to(self)

    def value_of(self, index: int) -> Any:
        """The value of a call, each time a new object.

        So what a call does to its arguments is seen by no other call, wherever that runs.
        """
        table = self._table
        kind = table.kinds[index]
        if kind == HANDED_OFF:
            assert self._handed_off is not None
            return self._handed_off.load()
        if kind == INT:
            return table.values[index]
        if kind == FLOAT:
            return table.floats[index]
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind == PICKLED:
            return loads(read_store(self._stores, self._owners, table, index))
        node = self._nodes[index]
        if not kind:
            assert node.settled is not None, f"{node!r} has no value"
            return node.settled[0]
        if kind == IN_FILE:
            answer = self._read_input(index)
        else:
            answer = decode(memoryview(read_store(self._stores, self._owners, table, index)))
        if answer is None or answer.error is not None:
            problem = None if answer is None else answer.error
            raise ResultError(f"the value of {node!r} could not be read: {problem}") from problem
        return answer.value

    def _read_input(self, index: int) -> Answer | None:
        view = self._mapped.get(index)
        # A mapping for each use, so that none sees what another one changes; or a copy.
        if view is not None:
            return decode(memoryview(bytearray(view)))
        fd = self._inputs[index]
        size = os.fstat(fd).st_size
        if size < _LARGE:
            return read_answer(fd)
        view = map_private(fd, size)
        self._mappings[id(view.obj)] = view.obj
        if index in self._single:
            self._taken.append((fd, ref(view.obj)))
        return decode(view)

    def begin_call(self) -> None:
        """A call has what it needs."""
        self._handed_off = None
        if self._taken:
            self._give_up_taken()

    def _give_up_taken(self) -> None:
        """Free what the current call alone needed, and has copied, or is done with."""
        left = []
        for fd, mapping in self._taken:
            if mapping() is None:
                os.ftruncate(fd, 0)
            else:
                left.append((fd, mapping))
        self._taken = left

    def _receive(self) -> bytes:
        while True:
            message, attached, _, _ = self._socket.recvmsg(TOKEN.size, CMSG_SPACE(4))
            if not attached:
                return message
            start, index, _, single = TOKEN.unpack(message)
            assert start == FILE
            for _, _, content in attached:
                self._keep(index, int.from_bytes(content[:4], sys.byteorder))
            if single:
                self._single.add(index)

    def _keep(self, index: int, fd: int) -> None:
        os.set_inheritable(fd, False)
        before = self._inputs.pop(index, -1)
        if before >= 0:
            os.close(before)
        self._inputs[index] = fd
        if len(self._inputs) - len(self._mapped) > self._most:
            self._mapped[index] = map_private(fd, os.fstat(fd).st_size)
            self._inputs[index] = -1
            os.close(fd)

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        try:
            super()._run(context, start, stop, attempt, strict)
        finally:
            for fd in self._inputs.values():
                if fd >= 0:
                    os.close(fd)
            self._inputs.clear()
            self._mapped.clear()
            self._single.clear()
            self._taken.clear()
            self._handed_off = None

    def _has_done_enough(self, index: int, now: float, end: float, least: int) -> bool:
        # What is handed_off is for the next call, and for nobody else.
        hands_off = self._handed_off is not None and self._handed_off.index == index - 1
        return not hands_off and super()._has_done_enough(index, now, end, least)

    def _answer(self, index: int, returned: list[Any]) -> int:
        self._give_up_taken()
        return super()._answer(index, returned)

    def _answer_large(self, index: int, returned: list[Any]) -> int:
        if not self._may_hand_off(index):
            return super()._answer_large(index, returned)
        if type(returned[0]) in (bytes, str):
            self._handed_off = HandedOff(index, returned[0], None)
            return HANDED_OFF
        parts = take_apart(returned[0])
        if parts is None:
            return super()._answer_large(index, returned)
        returned.clear()
        if all(is_unshared(view, self._mappings) for view in parts.buffers):
            self._handed_off = HandedOff(index, None, parts)
            return HANDED_OFF
        return self._put_parts(index, parts)

    def _send_handed_off(self, index: int) -> int:
        handed_off, self._handed_off = self._handed_off, None
        assert handed_off is not None
        if handed_off.parts is None:
            return super()._answer_large(index, [handed_off.value])
        return self._put_parts(index, handed_off.parts)

    def _put_parts(self, index: int, parts: Parts) -> int:
        file = AnswerFile(self._system)
        try:
            write_parts(parts, monotonic(), file.open)
            return self._put(index, None, file)
        finally:
            file.close()

    def _may_hand_off(self, index: int) -> bool:
        return (
            index + 1 < self._stop
            and index in self._links
            and not self._slot.counts[WorkerControl.ENDS]
            and self._links.passed_once(index)
        )

    def _put(self, index: int, content: bytes | None, file: AnswerFile) -> int:
        kind = super()._put(index, content, file)
        if kind == IN_FILE:
            # For a call of the same chunk.
            self._keep(index, os.dup(file.fd))
        return kind

    def _write(self, index: int, content: bytes) -> None:
        self._owners[index] = self._number
        super()._write(index, content)
