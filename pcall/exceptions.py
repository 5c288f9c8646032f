"""Everything that pcall raises about a run.

.. code-block:: text

    Exception
     └── PcallError                     something went wrong with a run
          ├── ChildProcessException     a call failed; raised *from* what it raised
          │    ├── ChildDied            a child ended without answering
          │    └── CallError            a call of a plan failed
          ├── PcallTimeout              a call ran too long (a builtin TimeoutError, too)
          ├── NotStarted                a call was still queued when the run stopped
          ├── DependenciesFailed        raised by a call: what it was given is of no use
          ├── ResultError               a result could not be pickled or unpickled
          └── RemoteError               stands for an exception that could not be rebuilt
    BaseException
     └── TaskCancelled                  raised in a child by SIGTERM

An exception keeps its fields and can itself be pickled, so that a run inside a
child brings them home through any number of levels.
"""

from __future__ import annotations

import signal as _signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcall._records import Call, Outcome

__all__ = [
    "CallError",
    "ChildDied",
    "ChildProcessException",
    "DependenciesFailed",
    "NotStarted",
    "PcallError",
    "PcallTimeout",
    "RemoteError",
    "ResultError",
    "TaskCancelled",
]


class PcallError(Exception):
    """Base of what pcall raises about a run."""


class ChildProcessException(PcallError):
    """A call failed.

    It is raised *from* the exception that the call raised in its child, so that
    ``__cause__`` is that exception: same type, same attributes, the child's frames.
    Its text is the original's; a note says which call failed and how many others did.

    Attributes:
        failures: the outcomes of the calls that failed, in call order.
        outcomes: the outcome of every call, in call order.
    """

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


class NotStarted(PcallError):
    """A call never ran: the run stopped while it was queued."""


class DependenciesFailed(PcallError):
    """To be raised by a call of a plan: the values of these calls are of no use.

    They are made again, and then the call that raised it; so often at most as ``pcall.run``
    says.

    Args:
        dependencies: by name (of an argument, say) the calls, which the failing one needs,
            directly or not.

    Raises:
        TypeError: it is no mapping, or one whose values are no lists of calls.
    """

    def __init__(self, dependencies: Mapping[str, Iterable[Any]]) -> None:
        try:
            self.dependencies = {name: list(calls) for name, calls in dependencies.items()}
        except (AttributeError, TypeError):
            raise TypeError(
                f"dependencies must map names to lists of calls, not be {dependencies!r}"
            ) from None
        super().__init__(self.dependencies)

    def __str__(self) -> str:
        named = (f"{name}: {calls}" for name, calls in self.dependencies.items())
        return f"of no use: {'; '.join(named)}"


class ResultError(PcallError):
    """A result could not be pickled in the child, or not unpickled in the parent.

    The text names the type of the value; the cause is what pickling raised.
    """


class RemoteError(PcallError):
    """Stands for an exception of a child that could not be rebuilt in the parent.

    Attributes:
        type_name: the qualified name of the original's class.
        text: the original's ``str()``.
        traceback: the original's formatted traceback.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class TaskCancelled(BaseException):
    """Raised in the main thread of a child by SIGTERM, so that ``finally`` blocks run.

    A ``BaseException``, as ``asyncio.CancelledError`` is, so that ``except Exception``
    does not swallow it.
    """


def _as_signal(number: int) -> int:
    try:
        return _signal.Signals(number)
    except ValueError:  # a real-time signal has no name
        return number


def _notes(error: BaseException) -> dict[str, Any]:
    notes = getattr(error, "__notes__", None)
    return {"__notes__": notes} if notes else {}
