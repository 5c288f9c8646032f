"""The exceptions of executors, which code that was written for the standard library catches."""

from __future__ import annotations

import logging
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from pcall._core.options import Options
from pcall._os.signals import SIGTERM
from pcall.exceptions import ChildDied, NotStarted, PcallError, ResultError, TaskCancelled

__all__ = ["InitializerFailed", "for_executor", "public_error", "show_error"]


_log = logging.getLogger("concurrent.futures")


class WorkerDied(ChildDied, BrokenProcessPool):
    """A ``ChildDied`` that ``except BrokenProcessPool`` catches as well."""

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments, state = super().__reduce__()
        return partial(_make, "WorkerDied"), arguments, state


class UnsendableResult(ResultError, BrokenProcessPool):
    """A ``ResultError`` that ``except BrokenProcessPool`` catches as well."""

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(_make, "UnsendableResult"), self.args, dict(vars(self))


class NeverStarted(NotStarted, BrokenProcessPool):
    """A ``NotStarted`` that ``except BrokenProcessPool`` catches as well."""

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(_make, "NeverStarted"), self.args, dict(vars(self))


# To their users they are what they stand for.
for _class in (WorkerDied, UnsendableResult, NeverStarted):
    _class.__name__ = _class.__qualname__ = _class.__base__.__name__  # type: ignore[union-attr]
    _class.__module__ = "pcall.exceptions"


def _make(name: str, *arguments: Any) -> BaseException:
    """Load a pickle of one of these, which are not to be found under the names that they show."""
    error: BaseException = globals()[name](*arguments)
    return error


def public_error(error: BaseException | None) -> BaseException | None:
    """The exception that a future gets, for that of an outcome."""
    public: BaseException
    if isinstance(error, TaskCancelled):
        public = WorkerDied(-SIGTERM)
        public.__cause__ = error
    elif type(error) is ChildDied and not error.failures:  # else of a run within the call
        public = WorkerDied(error.exitcode)
        public.__cause__ = error.__cause__
    elif type(error) in (ResultError, NotStarted):
        assert error is not None
        public = (UnsendableResult if type(error) is ResultError else NeverStarted)(*error.args)
        public.__cause__ = error.__cause__
    else:
        return error
    for note in getattr(error, "__notes__", ()):
        public.add_note(note)
    return public


class InitializerFailed(PcallError, BrokenProcessPool):
    """The initializer of a worker failed. The cause is its exception."""


def show_error(error: BaseException) -> str:
    """The class of an exception, and its text if it has one."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def for_executor(options: Options, **changes: Any) -> Options:
    """These options with changes, and with an initializer whose failure is told as one."""
    if options.initializer is not None:
        changes["initializer"] = _Initialize(options.initializer, tuple(options.initargs))
        changes["initargs"] = ()
    return options.but(changes)


class _Initialize:
    """Calls an initializer, in a child, and tells its failure from that of a call.

    Args:
        initializer: the function.
        initargs: its arguments.
    """

    def __init__(self, initializer: Any, initargs: tuple[Any, ...]) -> None:
        self._initializer, self._initargs = initializer, initargs

    def __call__(self) -> None:
        try:
            self._initializer(*self._initargs)
        except Exception as error:
            # The standard library's executor says so, too.
            _log.critical("Exception in initializer:", exc_info=True)
            raise InitializerFailed(f"the initializer failed: {show_error(error)}") from error
