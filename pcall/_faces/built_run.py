"""What holds for a run from its construction on: what of it is fixed, and that it is to be run."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from pcall._core.calls import Calls
from pcall._faces.entry import Targets
from pcall._run import Run

__all__ = ["BuiltRun"]

__tracebackhide__ = True  # pytest shows the frames of its user

_BUILT_WITH = {"targets", "cargs", "iargs", "ckwargs", "ikwargs", "varkwargs"}
_FIXED = _BUILT_WITH | {"results", "outcomes", "childs", "pids", "livings", "done", "profile"}


class BuiltRun:
    """A run whose arguments can't be changed, and that warns when it is dropped before its start.

    Attributes:
        targets, cargs, iargs, ckwargs, ikwargs, varkwargs: what it was built with.
    """

    targets: Targets
    cargs: Iterable[Any]
    iargs: Iterable[Iterable[Any]] | None
    ckwargs: Mapping[str, Any]
    ikwargs: Iterable[Mapping[str, Any]] | None
    varkwargs: Mapping[str, Iterable[Any]]

    _run: Run

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            raise AttributeError(f"{name} of a Pcall can't be set; build a new one to run again")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIXED:
            raise AttributeError(f"{name} of a Pcall can't be deleted")
        super().__delattr__(name)

    def _warn_if_dropped(self) -> weakref.finalize[Any, Any] | None:
        """Warn when this is dropped, until the returned finalizer is detached.

        A method ``__del__`` would be called for runs that have been made, too, and what a signal
        handler raises in it is lost.
        """
        if not len(self._run.state.calls):
            return None
        finalizer = weakref.finalize(self, _warn, self._run.state.calls, os.getpid())
        finalizer.atexit = False  # nobody drops a run at the end of the interpreter
        return finalizer


def _warn(calls: Calls, owner: int) -> None:
    if os.getpid() != owner or sys.is_finalizing():
        return  # the copy in a child was dropped
    count = len(calls)
    warnings.warn(
        f"{count} {'call' if count == 1 else 'calls'} of {calls[0].name}() "
        f"{'was' if count == 1 else 'were'} never made: a Pcall is run by its start(), "
        f"in a with block, or when it is awaited; Pcall.pcall(...) does all at once",
        ResourceWarning,
        stacklevel=3,
    )
