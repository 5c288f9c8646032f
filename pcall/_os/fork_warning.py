"""Forks without Python's warning about threads, which this library takes care of.

CPython 3.12 and later attribute the warning to the module that calls ``os.fork``. So one filter for
the modules of this library that do so hides theirs, and nobody else's. It is never taken away: to
restore the filters of the process after a fork, as ``warnings.catch_warnings`` does, would undo
the changes that other threads have made meanwhile, or make theirs permanent.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Any

__all__ = ["fork_warns", "ignore_fork_warning"]

_WARNS_OF_THREADS = sys.version_info >= (3, 12)
# The modules that fork.
_MODULES = r"pcall\.(engines\.local\.parent\.(fork|orphan_guard)|_os\.process_groups)\Z"


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
    if not (filters and _is_ours(filters[0])):
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=_MODULES)


def _is_ours(entry: Any) -> bool:
    return getattr(entry[3], "pattern", None) == _MODULES


def _has_foreign_threads() -> bool:
    """True if there are threads that Python did not start: its warning counts these, too."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:
        return False
