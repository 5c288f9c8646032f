"""How a plan's worker answers: into a store, or by handing a value off to the next call."""

from __future__ import annotations

from time import monotonic
from typing import Any

from pcall._os.private_fds import duplicate
from pcall._wire.result_table import HANDED_OFF, IN_FILE
from pcall._wire.value_parts import ValueParts, take_apart, write_parts
from pcall.engines.local.child.answer_writer import AnswerFile, AnswerWriter
from pcall.engines.local.worker_control import WorkerControl
from pcall.plan.chain_links import ChainLinks
from pcall.plan.handoff import HandedOff, is_unshared
from pcall.plan.plan_inputs import PlanInputs

__all__ = ["PlanAnswerWriter"]


class PlanAnswerWriter(AnswerWriter):
    """Writes the answers of a plan's worker.

    Args:
        owners: by call, the number of the store that has its value.
        number: of the worker's store.
        links: the calls whose values may stay in the worker for the next call.
        inputs: the worker's inputs, which a value that stays becomes one of.
        plain: the arguments of :class:`~pcall.engines.local.child.answer_writer.AnswerWriter`.

    Attributes:
        stop: the call behind the last of the current chunk.
    """

    def __init__(
        self,
        owners: memoryview,
        number: int,
        links: ChainLinks,
        inputs: PlanInputs,
        *plain: Any,
    ) -> None:
        super().__init__(*plain)
        self._owners = owners
        self._number = number
        self._links = links
        self._inputs = inputs
        self.stop = 0

    def answer(self, index: int, returned: list[Any]) -> int:
        self._inputs.free_taken()
        return super().answer(index, returned)

    def answer_large(self, index: int, returned: list[Any]) -> int:
        if not self._may_hand_off(index):
            return super().answer_large(index, returned)
        if type(returned[0]) in (bytes, str):
            self._inputs.handed_off = HandedOff(index, returned[0], None)
            return HANDED_OFF
        parts = take_apart(returned[0])
        if parts is None:
            return super().answer_large(index, returned)
        returned.clear()
        if all(is_unshared(view, self._inputs.mappings) for view in parts.buffers):
            self._inputs.handed_off = HandedOff(index, None, parts)
            return HANDED_OFF
        return self._put_parts(index, parts)

    def send_handed_off(self, index: int) -> int:
        handed_off, self._inputs.handed_off = self._inputs.handed_off, None
        assert handed_off is not None
        if handed_off.parts is None:
            return super().answer_large(index, [handed_off.value])
        return self._put_parts(index, handed_off.parts)

    def put(self, index: int, content: bytes | None, file: AnswerFile) -> int:
        kind = super().put(index, content, file)
        if kind == IN_FILE:
            # A later call of the same chunk may need the value.
            self._inputs.keep(index, duplicate(file.fd))
        return kind

    def write(self, index: int, content: bytes) -> None:
        self._owners[index] = self._number
        super().write(index, content)

    def _put_parts(self, index: int, parts: ValueParts) -> int:
        file = AnswerFile(self._system)
        try:
            write_parts(parts, monotonic(), file.open)
            return self.put(index, None, file)
        finally:
            file.close()

    def _may_hand_off(self, index: int) -> bool:
        return (
            index + 1 < self.stop
            and index in self._links
            and not self._control.counts[WorkerControl.PREEMPT]
            and self._links.passed_once(index)
        )
