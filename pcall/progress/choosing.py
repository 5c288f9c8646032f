"""Which displays a run has that was not given any: by the environment, and by where it runs.

There is one of each in a process. So runs that overlap are shown together, and what a child runs
while its parent's runs are shown is left out: it would be drawn across them.
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

__all__ = ["automatic", "named"]


def automatic() -> Observer:
    """What ``progress=True`` stands for: a notebook's output, a terminal, or plain lines."""
    # A child of a notebook's process has no cell to show anything in.
    if multiprocessing.parent_process() is None and _in_notebook():
        return _notebook()
    return _console()


_console = functools.cache(ConsoleProgress)
_notebook = functools.cache(NotebookProgress)
_log = functools.cache(LogProgress)
_page = functools.cache(HtmlProgress)


def named(names: str) -> tuple[Observer, ...]:
    """What the environment variable ``PCALL_PROGRESS`` stands for.

    Raises:
        ValueError: it has something else than it can, or a path that no page can be written to.
    """
    words = [word.strip() for word in names.split(",")]
    return tuple(_named(word) for word in words if word not in ("", "0"))


def _named(word: str) -> Observer:
    kind, _, path = word.partition(":")
    if kind == "html" and path:
        return _page(os.path.realpath(path))
    if word == "1":
        return automatic()
    if word == "console":
        return _console()
    if word == "log":
        return _log()
    raise ValueError(
        "the environment variable PCALL_PROGRESS takes 1, console, log and html:PATH, several "
        f"separated by commas, or 0 for none; not {word!r}"
    )


def _in_notebook() -> bool:
    # Where it was not imported nobody runs in it.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return getattr(shell, "kernel", None) is not None
