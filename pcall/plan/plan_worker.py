"""A plan's worker: a reused worker whose calls need the values of other calls."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from types import FrameType

from pcall._os.fd_passing import receive_with_fd
from pcall._os.system import System
from pcall.engines.local.child.worker_main import Worker
from pcall.engines.local.child.worker_spec import WorkerSpec
from pcall.engines.local.seeding import Seeds
from pcall.engines.local.worker_control import FILE, TOKEN
from pcall.plan.chain_links import ChainLinks
from pcall.plan.plan_answers import PlanAnswerWriter
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_inputs import PlanInputs
from pcall.plan.value_store import Values

__all__ = ["PlanWorker"]


class PlanWorker(Worker):
    """A worker that reads inputs, and answers into its store.

    Args:
        calls: of the plan.
        values: where the values of calls lie.
        links: the calls whose values may stay in the worker for the next call.
        number: of the worker's store.
        spec: its calls and its shared memory, inherited by the fork.
        common_file: descriptor of the child's own answer file, which is not used.
        system: makes further files.
        seeds: what to seed random generators from; None: no generator is in use.
        handler: the handler of SIGTERM, which calls
            :meth:`~pcall.engines.local.child.worker_main.Worker.on_sigterm`.
    """

    def __init__(
        self,
        calls: PlanCalls,
        values: Values,
        links: ChainLinks,
        number: int,
        spec: WorkerSpec,
        common_file: int,
        system: System,
        seeds: Seeds | None,
        handler: Callable[[int, FrameType | None], None],
    ) -> None:
        store = values.stores[number]
        self._inputs = PlanInputs(calls.plan, spec.table, values)
        plain = (spec.table, spec.control, spec.socket, store, system)
        self._plan_writer = PlanAnswerWriter(values.owners, number, links, self._inputs, *plain)
        super().__init__(spec, store, system, seeds, handler, self._plan_writer)
        self._calls = calls.bound_to(self._inputs)

    def _receive(self) -> bytes:
        while True:
            message, fd = receive_with_fd(self._socket, TOKEN.size)
            if fd is None:
                return message
            start, index, _, single = TOKEN.unpack(message)
            assert start == FILE
            self._inputs.keep(index, fd, single)

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        self._plan_writer.stop = stop
        try:
            super()._run(context, start, stop, attempt, strict)
        finally:
            self._inputs.end_chunk()

    def _has_done_enough(self, index: int, now: float, end: float, least: int) -> bool:
        # A value that was handed off is for the next call, and no other process can read it.
        handed_off = self._inputs.handed_off
        hands_off = handed_off is not None and handed_off.index == index - 1
        return not hands_off and super()._has_done_enough(index, now, end, least)
