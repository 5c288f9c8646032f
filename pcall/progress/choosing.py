"""Chooses the displays of a run by the environment, and by where the run takes place.

A process has one display of each kind. So overlapping runs are shown together. Runs in a child are
not shown while those of its parent are: they would be drawn over them.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys

from pcall._core.records import Observer
from pcall.progress.console import ConsoleProgress
from pcall.progress.html import HtmlProgress
from pcall.progress.log_lines import LogProgress
from pcall.progress.notebook import NotebookProgress
from pcall.progress.timeline import TimelineProgress

__all__ = ["automatic", "named"]


def automatic() -> Observer:
    """The display for ``progress=True``: a notebook's output, a terminal, or plain lines."""
    # A child of a notebook's process has no cell for output.
    if multiprocessing.parent_process() is None and _in_notebook():
        return _notebook()
    return _console()


_console = functools.cache(ConsoleProgress)
_notebook = functools.cache(NotebookProgress)
_log = functools.cache(LogProgress)
_page = functools.cache(HtmlProgress)
_timeline = functools.cache(TimelineProgress)


def named(names: str) -> tuple[Observer, ...]:
    """The displays for the environment variable ``PCALL_PROGRESS``.

    Args:
        names: the value of the variable.

    Raises:
        ValueError: the value is invalid, or no page can be written to a path in it.
    """
    words = [word.strip() for word in names.split(",")]
    return tuple(_named(word) for word in words if word not in ("", "0"))


def _named(word: str) -> Observer:
    kind, _, path = word.partition(":")
    if kind == "html" and path:
        return _page(os.path.realpath(path))
    if kind == "timeline" and path:
        return _timeline(os.path.realpath(path))
    if word == "1":
        return automatic()
    if word == "console":
        return _console()
    if word == "log":
        return _log()
    raise ValueError(
        "the environment variable PCALL_PROGRESS takes 1, console, log, html:PATH and "
        "timeline:PATH, several separated by commas, or 0 for none; not "
        f"{word!r}"
    )


def _in_notebook() -> bool:
    # If IPython has not been imported, this process does not run in it.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return getattr(shell, "kernel", None) is not None
