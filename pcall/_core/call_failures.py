"""Exceptions that a run raises about its calls, with the outcomes of these.

:mod:`pcall.exceptions` is the public module for them.
"""

from __future__ import annotations

import signal as _signal
from typing import Any

from pcall._core.records import Call, Outcome
from pcall._errors import PcallError

__all__ = ["CallError", "ChildDied", "ChildProcessException", "PcallTimeout"]


class ChildProcessException(PcallError):
    """A call failed.

    It is raised *from* the exception that the call raised in its child, so that
    ``__cause__`` is that exception: same type, same attributes, the child's frames.
    Its text is the original's; a note says which call failed and how many others did.

    Attributes:
        failures: the outcomes of the calls that failed, in call order.
        outcomes: the outcome of every call, in call order.
    """

    __module__ = "pcall.exceptions"

    def __init__(
        self,
        text: str = "",
        failures: tuple[Outcome, ...] = (),
        outcomes: tuple[Outcome | None, ...] = (),
    ) -> None:
        super().__init__(text)
        self.failures = failures
        self.outcomes = outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.failures, self.outcomes), _notes(self)


class CallError(ChildProcessException):
    """A call of a plan failed.

    It is raised *from* what became of the first call that failed, in plan order: the exception
    that the call raised, or ``ChildDied``, or ``PcallTimeout``.

    Attributes:
        failures: the outcomes of the calls that failed, in plan order.
        outcomes: the outcomes of all calls that the run needed, in plan order. Of those that
            ended well, ``value`` is None where nothing needed it any more.
        call: the call.
        place: where it was planned: ``filename``, ``line``, ``function``.
        skipped: the calls that did not start because of failures.
    """

    __module__ = "pcall.exceptions"

    def __init__(
        self,
        text: str = "",
        failures: tuple[Outcome, ...] = (),
        outcomes: tuple[Outcome | None, ...] = (),
        call: Call | None = None,
        place: tuple[str, int, str] | None = None,
        skipped: tuple[Call, ...] = (),
    ) -> None:
        super().__init__(text, failures, outcomes)
        self.call = call
        self.place = place
        self.skipped = skipped

    def __reduce__(self) -> tuple[Any, ...]:
        state = (str(self), self.failures, self.outcomes, self.call, self.place, self.skipped)
        return type(self), state, _notes(self)


class ChildDied(ChildProcessException):
    """A child ended before it answered: a signal, ``os._exit``, the OOM killer, ``exec``.

    Attributes:
        exitcode: as ``multiprocessing`` has it: the status that the child exited with,
            or the negative number of the signal that killed it; None when somebody
            else took the status first.
        signal: the signal that killed it, or None.
    """

    __module__ = "pcall.exceptions"

    def __init__(
        self,
        exitcode: int | None = None,
        failures: tuple[Outcome, ...] = (),
        outcomes: tuple[Outcome | None, ...] = (),
    ) -> None:
        self.exitcode = exitcode
        self.signal: int | None = None
        if exitcode is None:
            text = "ended before returning; its exit status was taken by another wait"
        elif exitcode < 0:
            self.signal = _as_signal(-exitcode)
            name = getattr(self.signal, "name", f"signal {-exitcode}")
            text = f"killed by {name} before returning"
        else:
            text = f"exited with status {exitcode} before returning"
        super().__init__(text, failures, outcomes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.exitcode, self.failures, self.outcomes), _notes(self)


class PcallTimeout(PcallError, TimeoutError):
    """A call ran longer than the timeout, and was ended.

    Attributes:
        timeout: the limit, in seconds.
        running: the outcomes of the calls that were still running then.
        failures: the outcomes of all calls that failed, in call order.
        outcomes: the outcome of every call, in call order.
    """

    __module__ = "pcall.exceptions"

    def __init__(
        self,
        text: str = "",
        timeout: float | None = None,
        running: tuple[Outcome, ...] = (),
        failures: tuple[Outcome, ...] = (),
        outcomes: tuple[Outcome | None, ...] = (),
    ) -> None:
        # One argument only: with two, OSError takes them for errno and strerror.
        super().__init__(text)
        self.timeout = timeout
        self.running = running
        self.failures = failures
        self.outcomes = outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (str(self), self.timeout, self.running, self.failures, self.outcomes)
        return type(self), fields, _notes(self)


def _as_signal(number: int) -> int:
    try:
        return _signal.Signals(number)
    except ValueError:  # a real-time signal has no name
        return number


def _notes(error: BaseException) -> dict[str, Any]:
    notes = getattr(error, "__notes__", None)
    return {"__notes__": notes} if notes else {}
