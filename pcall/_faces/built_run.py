"""What holds for a run from its construction on: what of it is fixed, and that it is to be run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pcall._faces.entry import Targets
from pcall._run import Run

__all__ = ["BuiltRun"]

__tracebackhide__ = True  # pytest shows the frames of its user

_BUILT_WITH = {"targets", "cargs", "iargs", "ckwargs", "ikwargs", "varkwargs"}
_FIXED = _BUILT_WITH | {"results", "outcomes", "childs", "pids", "livings", "done"}


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
    _owner: int  # the process that built it
    _started = True  # until it is built: nothing is to be said of one whose arguments are wrong

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            raise AttributeError(f"{name} of a Pcall can't be set; build a new one to run again")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIXED:
            raise AttributeError(f"{name} of a Pcall can't be deleted")
        super().__delattr__(name)

    def __del__(self) -> None:
        # Nobody drops a run at the end of the interpreter, nor the copy in a child.
        dropped = not self._started and os.getpid() == self._owner and not sys.is_finalizing()
        if dropped and (count := len(self._run.state.calls)):
            calls = "call" if count == 1 else "calls"
            warnings.warn(
                f"{count} {calls} of {self._run.state.calls[0].name}() "
                f"{'was' if count == 1 else 'were'} never made: a Pcall is run by its start(), "
                f"in a with block, or when it is awaited; Pcall.pcall(...) does all at once",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
