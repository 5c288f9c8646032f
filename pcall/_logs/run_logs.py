"""The logs of a run in its parent: set up the children's handlers, collect what they log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pcall._core.call_failures import ChildDied, PcallTimeout
from pcall._core.records import Outcome
from pcall._logs.call_sections import CallSections
from pcall._logs.child_logs import ChildLogs, LogFile, RecordForwarder, Whoami
from pcall._logs.framework_logs import FrameworkLogs
from pcall._logs.handler_plan import LogPlan, has_default_handle, plan_logs
from pcall._logs.printed import Printed
from pcall._logs.record_delivery import RecordDelivery
from pcall._os.system import System

__all__ = ["RunLogs", "ending_of", "make_run_logs"]


_NO_HANDLERS = LogPlan((), (), ())


def make_run_logs(
    system: System,
    outcome: Callable[[int], Outcome],
    whoami: Whoami,
    *,
    tasklog: bool = True,
    printed: Sequence[Printed] = (),
    ordered: bool = True,
) -> RunLogs | None:
    """Make the logs of a run; None if nothing needs any.

    Args:
        system: the operating system's services.
        outcome: returns the outcome of a call that ended well.
        whoami: identifies a child and its call, see :data:`~pcall._logs.child_logs.Whoami`.
        tasklog: False: leave the log handlers alone.
        printed: the objects of this process that children have to send something to.
        ordered: False: what a call has logged is delivered when it ends, not in call order.
    """
    plan = plan_logs(whoami) if tasklog else None
    if plan is None and not printed:
        return None
    return RunLogs(plan or _NO_HANDLERS, system, outcome, whoami, printed, ordered)


class RunLogs:
    """Merges file sections and forwards records for the calls of one run.

    The run may grow: calls that did not exist at its start are logged like any other.

    Args:
        plan: the handlers.
        system: the operating system's services.
        outcome: returns the outcome of a call that ended well.
        whoami: identifies a child and its call, see :data:`~pcall._logs.child_logs.Whoami`.
        printed: the objects of this process that children have to send something to.
        ordered: see :func:`make_run_logs`.

    Attributes:
        child: the logging set-up for the children.
        consolidates: True when handlers consolidate by themselves: then each fork needs a
            :meth:`forking` block of its own.
    """

    def __init__(
        self,
        plan: LogPlan,
        system: System,
        outcome: Callable[[int], Outcome | None],
        whoami: Whoami,
        printed: Sequence[Printed] = (),
        ordered: bool = True,
    ) -> None:
        self._plan = plan
        self._outcome, self._ordered = outcome, ordered
        self._delivery = delivery = RecordDelivery(plan.forwarded, system, printed, ordered)
        self._sections = CallSections(plan.files, outcome)
        self._frameworks = FrameworkLogs(plan.consolidating)
        forwarders = [
            RecordForwarder(handler, number, delivery.fd, has_default_handle(handler), whoami)
            for number, handler in enumerate(plan.forwarded)
        ]
        changed: list[LogFile | RecordForwarder] = [*plan.files, *forwarders]
        # In a frame, the numbers of these objects follow those of the handlers.
        replaced = (
            each.replace(delivery.fd, number, whoami)
            for number, each in enumerate(printed, len(forwarders))
        )
        self.child = ChildLogs(
            delivery.fd,
            (*((each.fields.update, each.changes) for each in changed), *replaced),
            plan.files,
            tuple(file.path for file in plan.files),
        )
        self.consolidates = bool(plan.consolidating)

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Fork in this block, so that handlers which consolidate by themselves take part."""
        for file in self._plan.files:
            file.keep_stream()
        with self._frameworks.forking():
            yield

    def forked(self, pid: int) -> None:
        """Note a child that was forked."""
        self._frameworks.forked(pid)

    # ------------------------------------------------------------ while calls end

    def ended(self, outcome: Outcome, died: bool, later: bool, retried: bool = False) -> None:
        """Note that a call has ended.

        Args:
            outcome: of the call. Its ``log`` is set here.
            died: True when its child died or it ran out of time.
            later: True when another call ran before it in the same child.
            retried: True when it will be tried again.
        """
        if not retried:
            self._delivery.ended(outcome.index)
        ending = ending_of(outcome, died)
        self._sections.ended(outcome, ending, later)
        if ending is not None and outcome.pid is not None:
            self._frameworks.ended(outcome.pid, ending)

    def ended_well(self, calls: range, pid: int, first: int) -> None:
        """Note that consecutive calls have ended well, which one child ran one after another.

        Args:
            calls: indices of the calls.
            pid: process id of their child.
            first: index of the first call of this child.
        """
        self._delivery.ended_well(calls)
        if self._ordered:
            self._sections.ended_well(calls, pid, first)
        else:
            for index in calls:
                outcome = self._outcome(index)
                assert outcome is not None
                self._sections.ended(outcome, None, index != first)

    def deliver(self, final: bool) -> None:
        """Pass records to the parent's handlers, in call order, unless another thread is at it.

        The records of a call are delivered once it and all calls before it have ended. If the
        order does not matter, they and the section of a call are delivered once it has ended.

        Args:
            final: True when the run is over: deliver the records of all calls.
        """
        self._delivery.deliver(final)
        if not self._ordered:
            self._sections.merge()

    # ------------------------------------------------------------ when the run is over

    def merge(self) -> None:
        """Deliver the last records, and merge the children's files into the main logs.

        Files are merged in call order. One that can't be merged stays in its place, and is
        reported.
        """
        self._delivery.finish()
        self._sections.merge()
        self._frameworks.merge()


def ending_of(outcome: Outcome, died: bool) -> str | None:
    """A line about how a child ended; None if it exited by itself."""
    code, error = outcome.exitcode, outcome.error
    if not died and (code is None or code >= 0):
        return None
    how = str(ChildDied(code)).removesuffix(" before returning")
    if isinstance(error, PcallTimeout) and died:
        how = f"{error}; {how}" if code is not None and code < 0 else str(error)
    return f"call {outcome.index}, {outcome.call}, process {outcome.pid}: {how}"
