"""Exceptions that a run raises about its calls. They hold the outcomes.

Users import them from :mod:`pcall.exceptions`.
"""

from __future__ import annotations

import signal as _signal
from typing import Any

from pcall._core.records import Call, Outcome
from pcall._errors import PcallError

__all__ = ["CallError", "ChildDied", "ChildProcessException", "PcallTimeout"]


class ChildProcessException(PcallError):
    """A call failed.

    It is raised *from* the exception that the call raised in its child: ``__cause__`` is that
    exception, with the same type and attributes, and the frames of the child. The text is that
    of the original, or the name of its class if it has none. Notes name the call,
    and count the other failures.

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

    It is raised *from* the error of the first call that failed, in plan order: the exception
    that the call raised, or a ``ChildDied``, or a ``PcallTimeout``.

    Attributes:
        failures: the outcomes of the calls that failed, in plan order.
        outcomes: the outcomes of all calls that the run needed, in plan order. The ``value`` of
            a call that returned is None if it was dropped because no call needed it any more.
        call: the call that failed first.
        place: the source line that planned it: ``filename``, ``line``, ``function``.
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
    """A child ended before it returned a result: a signal, ``os._exit``, the OOM killer, ``exec``.

    Attributes:
        exitcode: as in ``multiprocessing``: the exit status of the child, or the negative number
            of the signal that killed it; None if another wait took the status first.
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
    """A call ran longer than the timeout, and its child was ended.

    Attributes:
        timeout: the limit, in seconds.
        running: the outcomes of the calls that were still running at that time.
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
        # One argument only: OSError, a base class, takes two for errno and strerror.
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
