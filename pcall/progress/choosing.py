"""Which observers a run has: from the option ``progress``, or the environment."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pcall._records import Observer
from pcall.progress.console import ConsoleProgress
from pcall.progress.html import HtmlProgress
from pcall.progress.log import LogProgress
from pcall.progress.notebook import NotebookProgress

__all__ = ["VARIABLE", "Choice", "check_progress", "choose_observers"]

VARIABLE = "PCALL_PROGRESS"

Choice = bool | tuple[Observer, ...] | None

_EXPECTED = (
    "True, False, None, an observer (ConsoleProgress(), HtmlProgress(path), NotebookProgress(), "
    "LogProgress(), or an object with the methods begin, observe and end), or several of those"
)


def check_progress(value: Any) -> Choice:
    """The value of the option: a flag, None, or the observers as a tuple.

    Raises:
        TypeError: it is none of these.
    """
    if value is None or isinstance(value, bool):
        return value
    if _is_observer(value):
        return (value,)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | type):
        observers = tuple(value)
        for position, observer in enumerate(observers):
            if not _is_observer(observer):
                raise TypeError(
                    f"progress, item {position}, must be an observer, not {_shown(observer)}"
                )
        return observers
    raise TypeError(f"progress must be {_EXPECTED}, not {_shown(value)}")


def choose_observers(choice: Choice) -> tuple[Observer, ...]:
    """The observers of a run that starts now.

    Args:
        choice: of :func:`check_progress`. None: what the environment variable
            ``PCALL_PROGRESS`` says, save in a child, whose calls are part of its parent's.

    Raises:
        ValueError: the environment variable says something else than it can.
    """
    if choice is None:
        if multiprocessing.parent_process() is not None:
            return ()
        return tuple(_named(name) for name in _names(os.environ.get(VARIABLE, "")))
    if choice is True:
        return (_automatic(),)
    return choice or ()


def _is_observer(value: Any) -> bool:
    methods = (getattr(value, name, None) for name in ("begin", "observe", "end"))
    return not isinstance(value, type) and all(map(callable, methods))


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: give an instance, {value.__name__}(...)"
    return f"{value!r}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    return [name for name in names if name not in ("", "0")]


def _named(name: str) -> Observer:
    kind, colon, path = name.partition(":")
    if kind == "html" and path:
        return HtmlProgress(path)
    if not colon:
        if name == "1":
            return _automatic()
        if name == "console":
            return ConsoleProgress()
        if name == "log":
            return LogProgress()
    raise ValueError(
        f"the environment variable {VARIABLE} has {name!r}; it takes 1, console, log and "
        "html:PATH, several separated by commas, or 0 for none"
    )


def _automatic() -> Observer:
    if multiprocessing.parent_process() is None and _in_notebook():
        return NotebookProgress()
    return ConsoleProgress()


def _in_notebook() -> bool:
    # Where it was not imported nobody runs in it.
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return getattr(shell, "kernel", None) is not None
