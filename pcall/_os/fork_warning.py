"""Forks without Python's warning about threads, which this library takes care of.

CPython 3.12 and later attribute the warning to the module that calls ``os.fork``. So one filter for
the modules of this library that do so hides theirs, and nobody else's. It is never taken away: to
restore the filters of the process after a fork, as ``warnings.catch_warnings`` does, would undo
the changes that other threads have made meanwhile, or make theirs permanent.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import warnings
from typing import Any

__all__ = ["fork_warns", "ignore_fork_warning"]

_WARNS_OF_THREADS = sys.version_info >= (3, 12)
# The modules that fork.
_MODULES = r"pcall\.(engines\.local\.parent\.(fork|orphan_guard)|_os\.process_groups)\Z"
_numbers = itertools.count()


def fork_warns() -> bool:
    """True if Python would warn of a fork because of threads, as 3.12 and later do."""
    return _WARNS_OF_THREADS and (threading.active_count() > 1 or _has_foreign_threads())


def ignore_fork_warning() -> None:
    """Before a fork that would warn: ignore the warning, whatever the filters are by now.

    If warnings are errors, an exception might lose the process id of the child. The child takes
    care of the problems that the warning is about.
    """
    filters: Any = warnings.filters
    # A filter that was added since comes first, and would be asked first.
    if filters and _is_ours(filters[0]):
        return
    # filterwarnings() takes an equal filter away before it adds one, and another thread may fork
    # between the two. So each filter has a number, in a comment of its pattern, and the older ones
    # are taken away once this one is there. Those before it are newer, of other threads.
    number = f"(?#{next(_numbers)})"
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=_MODULES + number)
    ours = [entry for entry in list(filters) if _is_ours(entry)]
    for entry in ours[_position(ours, number) + 1 :]:
        try:
            filters.remove(entry)
        except ValueError:
            pass  # another thread was first


def _is_ours(entry: Any) -> bool:
    pattern = getattr(entry[3], "pattern", None)
    return isinstance(pattern, str) and pattern.startswith(_MODULES)


def _position(entries: list[Any], number: str) -> int:
    """The place of the filter with this number; behind all if it is gone already."""
    for position, entry in enumerate(entries):
        if entry[3].pattern.endswith(number):
            return position
    return len(entries)


def _has_foreign_threads() -> bool:
    """True if there are threads that Python did not start: its warning counts these, too."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:
        return False
