"""Exceptions that hold no outcomes. Every other module may import this one.

Users import them from :mod:`pcall.exceptions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pickle import PicklingError
from typing import Any

__all__ = [
    "ClusterError",
    "CycleError",
    "DependenciesFailed",
    "FailedDependency",
    "NoWorkers",
    "NotStarted",
    "PcallError",
    "RemoteError",
    "ResultError",
    "TaskCancelled",
    "WorkerLost",
]


class PcallError(Exception):
    """Base class of the exceptions that pcall raises about a run."""

    __module__ = "pcall.exceptions"


class NotStarted(PcallError):
    """A call never started: the run stopped while the call was queued."""

    __module__ = "pcall.exceptions"


class DependenciesFailed(PcallError):
    """A call of a plan raises this when it got values that it can't use.

    The calls that it names are executed again, then the calls between them and this one, and then
    this one. That happens at most three times for each call.

    Args:
        dependencies: the calls to execute again, by any name (of an argument, for example). The
            call that raises this must depend on each of them, directly or not.

    Attributes:
        dependencies: the same, with lists of calls.

    Raises:
        TypeError: ``dependencies`` is not a mapping of names to iterables of calls.
    """

    __module__ = "pcall.exceptions"

    def __init__(self, dependencies: Mapping[Any, Iterable[Any]]) -> None:
        try:
            self.dependencies: dict[Any, list[Any]] = {
                name: list(calls) for name, calls in dependencies.items()
            }
        except (AttributeError, TypeError):
            raise TypeError(
                f"dependencies must map names to lists of calls, not be {dependencies!r}"
            ) from None
        super().__init__(self.dependencies)

    def __str__(self) -> str:
        named = (f"{name}: {calls}" for name, calls in self.dependencies.items())
        return f"these values can't be used: {'; '.join(named)}"


class FailedDependency(PcallError):
    """The value that a call of a plan returned is lost: to be given to ``Plan.mark_failed``.

    The call is made again if anything still needs its value.
    """

    __module__ = "pcall.exceptions"

    def __init__(self, text: str = "the value is lost") -> None:
        super().__init__(text)


class CycleError(PcallError, ValueError):
    """Calls of a plan wait for each other, so that none of them can start. Nothing was run.

    Attributes:
        calls: the calls on the cycle, each of which waits for the next one, and the last for the
            first.
    """

    __module__ = "pcall.exceptions"

    def __init__(self, text: str = "", calls: Iterable[Any] = ()) -> None:
        super().__init__(text)
        self.calls: tuple[Any, ...] = tuple(calls)

    def __reduce__(self) -> tuple[Any, ...]:
        notes = getattr(self, "__notes__", None)
        return type(self), (str(self), self.calls), {"__notes__": notes} if notes else {}


class ResultError(PcallError, PicklingError):
    """A result could not be pickled in the child, or not unpickled in the parent.

    It is a :class:`pickle.PicklingError` as well. The text names the type of the value. The cause
    is the exception that pickling raised.
    """

    __module__ = "pcall.exceptions"


class ClusterError(PcallError):
    """A cluster can't run calls of this process, or its scheduler is gone."""

    __module__ = "pcall.exceptions"


class NoWorkers(ClusterError):
    """A cluster has no worker that may run a call."""

    __module__ = "pcall.exceptions"


class WorkerLost(PcallError):
    """Workers of a cluster died under a call, one after another.

    Attributes:
        workers: their names.
    """

    __module__ = "pcall.exceptions"

    def __init__(self, text: str = "", workers: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.workers: tuple[str, ...] = tuple(workers)

    def __reduce__(self) -> tuple[Any, ...]:
        notes = getattr(self, "__notes__", None)
        return type(self), (str(self), self.workers), {"__notes__": notes} if notes else {}


class RemoteError(PcallError):
    """Replaces an exception of a child that could not be rebuilt in the parent.

    Attributes:
        type_name: the qualified name of the original exception's class.
        text: the ``str()`` of the original.
        traceback: the formatted traceback of the original; empty if there is none.
    """

    __module__ = "pcall.exceptions"

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class TaskCancelled(BaseException):
    """Raised by SIGTERM in the main thread of a child, so that ``finally`` blocks run.

    It is a ``BaseException``, like ``asyncio.CancelledError``, so that ``except Exception`` does
    not catch it.
    """

    __module__ = "pcall.exceptions"
