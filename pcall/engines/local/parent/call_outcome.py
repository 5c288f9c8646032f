"""Makes the outcome of a call from its child's end and answer."""

from __future__ import annotations

import signal
import time
from typing import NamedTuple

from pcall._core.call_failures import ChildDied, PcallTimeout
from pcall._core.captured import Captured, add_last_lines
from pcall._core.records import Call, Outcome
from pcall._errors import ResultError, TaskCancelled
from pcall._os.signals import is_interrupt
from pcall._wire.decode import Answer, read_answer
from pcall._wire.exception_codec import safe_str
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["Elsewhere", "outcome_of", "take_answer"]


def take_answer(forked: ForkedProcess, again: bool) -> Answer | ResultError | None:
    """Read the answer of a child.

    Args:
        forked: the child.
        again: True if an earlier try was interrupted. An answer that interrupts the run when it is
            unpickled would do so each time.

    Returns:
        The answer, or a ``ResultError`` if it can't be read; None if there is none.
    """
    try:
        if again:
            raise InterruptedError("an earlier try was interrupted")
        return read_answer(forked.answer)
    except Exception as error:  # for example, no memory to map it
        if is_interrupt(error):
            raise
        problem = f"{type(error).__name__}: {safe_str(error)}"
        failure = ResultError(f"the answer could not be read: {problem}")
        failure.__cause__ = error
        return failure


class Elsewhere(NamedTuple):
    """Where and when a call ran that another machine has reported.

    Attributes:
        worker: the name of the worker.
        started: in seconds since the epoch.
        duration: in seconds.
    """

    worker: str
    started: float
    duration: float


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
    captured: Captured | None = None,
    elsewhere: Elsewhere | None = None,
) -> Outcome:
    """The outcome of a call whose child has ended.

    Args:
        call: the call.
        forked: its child.
        answer: of :func:`take_answer`.
        signalled: True if this library has sent a signal to the child.
        overdue: the timeout in seconds, if the call has run longer than that.
        attempt: the number of this attempt, from 1.
        began: start of the call on the monotonic clock; None: it began with the child.
        captured: what the call has written; None: that was not captured.
        figures: of a reused child: processor time in seconds and peak memory in bytes of this call;
            None: the child had this call alone, and they are those of the child.
        elsewhere: of a call on another machine; None: it ran on this one.
    """
    # A reused child that has ended since it answered did so with a later call, or with none.
    exitcode = forked.returncode if answer is None or figures is None else None
    value = None
    finished = time.monotonic()
    error: BaseException | None
    if isinstance(answer, Answer):
        value, error, finished = answer.value, answer.error, answer.finished
        if exitcode is None:  # the child lives on, or was reaped elsewhere: use the answer
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
    if error is not None and captured is not None:
        add_last_lines(error, captured)
    began = forked.started if began is None else began
    cpu_time, max_rss = (forked.cpu_time, forked.max_rss) if figures is None else figures
    if elsewhere is None:
        worker, duration = None, finished - began
        started = time.time() - (time.monotonic() - began)
    else:
        worker, started, duration = elsewhere
    return Outcome(
        index=call.index,
        call=call,
        ok=error is None,
        value=value if error is None else None,
        error=error,
        pid=forked.pid,
        exitcode=exitcode,
        attempts=attempt,
        started=started,
        duration=duration,
        cpu_time=cpu_time,
        max_rss=max_rss,
        rss_growth=None if max_rss is None else max(0, max_rss - forked.rss),
        worker=worker,
        **({} if captured is None else captured._asdict()),
    )


def _status(error: BaseException | None) -> int:
    """The exit status of a process whose call ends with this error."""
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return (error.code or 0) & 0xFF
    if isinstance(error, TaskCancelled):
        return -signal.SIGTERM  # the child ends itself by the signal, once it has answered
    return 1 if error else 0
