"""Chooses the observers of a run, by its options and the environment."""

from __future__ import annotations

import multiprocessing
import os

from pcall._core.observers import Choice, Observers

__all__ = ["observers_of"]


def observers_of(choice: Choice) -> Observers:
    """Make the observers of a new run.

    Args:
        choice: the option ``progress``. None: the environment variable ``PCALL_PROGRESS``
            decides, but not in a child, whose calls are part of its parent's run.

    Raises:
        ValueError: the value of the environment variable is invalid.
    """
    if isinstance(choice, tuple):
        return Observers(choice)
    names = ""
    if choice is None and multiprocessing.parent_process() is None:
        names = os.environ.get("PCALL_PROGRESS", "")
    if not names and not choice:
        return Observers()
    # Inside the function, since most runs show nothing, and the displays would add a tenth to the
    # import of what a run needs.
    from pcall.progress.choosing import automatic, named

    return Observers((automatic(),) if choice is True else named(names))
