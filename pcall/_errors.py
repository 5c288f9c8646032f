"""Exceptions that refer to no outcome. They stand below everything else in the library.

:mod:`pcall.exceptions` is the public module for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "DependenciesFailed",
    "NotStarted",
    "PcallError",
    "RemoteError",
    "ResultError",
    "TaskCancelled",
]


class PcallError(Exception):
    """Base of what pcall raises about a run."""

    __module__ = "pcall.exceptions"


class NotStarted(PcallError):
    """A call never ran: the run stopped while it was queued."""

    __module__ = "pcall.exceptions"


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

    __module__ = "pcall.exceptions"

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

    __module__ = "pcall.exceptions"


class RemoteError(PcallError):
    """Stands for an exception of a child that could not be rebuilt in the parent.

    Attributes:
        type_name: the qualified name of the original's class.
        text: the original's ``str()``.
        traceback: the original's formatted traceback.
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
    """Raised in the main thread of a child by SIGTERM, so that ``finally`` blocks run.

    A ``BaseException``, as ``asyncio.CancelledError`` is, so that ``except Exception``
    does not swallow it.
    """

    __module__ = "pcall.exceptions"
