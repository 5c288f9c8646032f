"""From a child that has ended, and what it answered, to the outcome of its call."""

from __future__ import annotations

import signal
import time

from pcall._core.call_failures import ChildDied, PcallTimeout
from pcall._core.records import Call, Outcome
from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._wire.decode import Answer, read_answer
from pcall._wire.exception_codec import safe_str
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["outcome_of", "take_answer"]


def take_answer(forked: ForkedProcess, again: bool) -> Answer | ResultError | None:
    """What the child answered, or why that can't be had; None when it has not.

    Args:
        again: True when an earlier try was interrupted. What interrupts the run when it is
            unpickled would do so for ever.
    """
    try:
        if again:
            raise InterruptedError("an earlier try was interrupted")
        return read_answer(forked.answer)
    except Exception as error:  # no memory to map it, perhaps
        if is_interrupt(error):
            raise
        problem = f"{type(error).__name__}: {safe_str(error)}"
        failure = ResultError(f"the answer could not be read: {problem}")
        failure.__cause__ = error
        return failure


def outcome_of(
    call: Call,
    forked: ForkedProcess,
    answer: Answer | ResultError | None,
    *,
    signalled: bool,
    overdue: float | None,
    attempt: int,
    began: float | None = None,
    figures: tuple[float | None, int | None] | None = None,
) -> Outcome:
    """The outcome of a call whose child has ended.

    Args:
        call: the call.
        forked: its child.
        answer: of :func:`take_answer`.
        signalled: True when the child was sent a signal by this library.
        overdue: the timeout, when it has run longer than that.
        attempt: the number of this attempt, from 1.
        began: when, on the monotonic clock, if not with the child.
        figures: processor time and peak memory of this call, if not those of the child.
    """
    exitcode = forked.returncode
    value = None
    finished = time.monotonic()
    error: BaseException | None
    if isinstance(answer, Answer):
        value, error, finished = answer.value, answer.error, answer.finished
        if exitcode is None:  # it lives on, or another wait took it; but the answer tells enough
            exitcode = _status(error)
    elif answer is not None:
        error = answer
    else:
        error = ChildDied(exitcode)
        if exitcode == -signal.SIGKILL and not signalled:
            error.add_note("pcall did not send that signal; the kernel does when memory runs out")
    if overdue is not None:
        how = error
        error = PcallTimeout(
            f"{call} (call {call.index}, pid {forked.pid}) ran longer than "
            f"the timeout of {overdue:g} s",
            timeout=overdue,
        )
        error.__cause__ = how
    began = forked.started if began is None else began
    cpu_time, max_rss = (forked.cpu_time, forked.max_rss) if figures is None else figures
    return Outcome(
        index=call.index,
        call=call,
        ok=error is None,
        value=value if error is None else None,
        error=error,
        pid=forked.pid,
        exitcode=exitcode,
        attempts=attempt,
        started=time.time() - (time.monotonic() - began),
        duration=finished - began,
        cpu_time=cpu_time,
        max_rss=max_rss,
        rss_growth=None if max_rss is None else max(0, max_rss - forked.rss),
    )


def _status(error: BaseException | None) -> int:
    """What a process exits with that ends so."""
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return (error.code or 0) & 0xFF
    return 1 if error else 0
