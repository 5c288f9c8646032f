"""The child's side of a plan: where the values are that its calls need."""

from __future__ import annotations

import os
import sys
from _socket import CMSG_SPACE
from contextvars import Context
from pickle import loads
from typing import Any

from pcall._mapping import map_private
from pcall._table import CONSTANTS, FILE, FLOAT, IN_FILE, INT, PICKLED, TOKEN
from pcall._transport import Answer, decode, read_answer
from pcall._worker import AnswerFile, Worker
from pcall.exceptions import ResultError
from pcall.plan.calls import PlanCalls
from pcall.plan.values import Values, read_store

__all__ = ["PlanWorker"]

# Descriptors of large values that are open at a time.
_OPEN = 32


class PlanWorker(Worker):
    """A worker whose calls need the values of others, and which answers into a store.

    Args:
        calls: of the plan.
        values: where they are.
        number: of the child's store.
        told: what every worker is.
    """

    def __init__(self, calls: PlanCalls, values: Values, number: int, *told: Any) -> None:
        lane, _, *rest = told
        super().__init__(lane, values.stores[number], *rest)
        self._number = number
        self._stores, self._owners = values.stores, values.owners
        self._nodes = calls.plan.calls
        # Of large values, for the stretch that needs them: by call, the descriptors.
        self._inputs: dict[int, int] = {}
        self._mapped: dict[int, memoryview] = {}  # those that would be too many descriptors
        calls.value_of = self.value_of

    def value_of(self, index: int) -> Any:
        """The value of a call, each time a new object.

        So what a call does to its arguments is seen by no other call, wherever that runs.
        """
        table = self._table
        kind = table.kinds[index]
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
        return (
            read_answer(self._inputs[index])
            if view is None
            else decode(memoryview(bytearray(view)))
        )

    def _receive(self) -> bytes:
        while True:
            message, attached, _, _ = self._socket.recvmsg(TOKEN.size, CMSG_SPACE(4))
            if not attached:
                return message
            start, index, _, _ = TOKEN.unpack(message)
            assert start == FILE
            for _, _, content in attached:
                self._keep(index, int.from_bytes(content[:4], sys.byteorder))

    def _keep(self, index: int, fd: int) -> None:
        os.set_inheritable(fd, False)
        before = self._inputs.pop(index, -1)
        if before >= 0:
            os.close(before)
        self._inputs[index] = fd
        if len(self._inputs) - len(self._mapped) > _OPEN:
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

    def _put(self, index: int, content: bytes | None, file: AnswerFile) -> int:
        kind = super()._put(index, content, file)
        if kind == IN_FILE:
            # For a call of the same stretch.
            self._keep(index, os.dup(file.fd))
        return kind

    def _write(self, index: int, content: bytes) -> None:
        self._owners[index] = self._number
        super()._write(index, content)
