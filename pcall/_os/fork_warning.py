"""Forking without Python's warning about threads, which this library takes care of."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

__all__ = ["fork_warns", "no_warning"]

_WARNS_OF_THREADS = sys.version_info >= (3, 12)

_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def fork_warns() -> bool:
    """True where Python warns of a fork, since there are threads: 3.12 and later do."""
    return _WARNS_OF_THREADS and (threading.active_count() > 1 or _has_foreign_threads())


@contextlib.contextmanager
def no_warning() -> Iterator[None]:
    """Fork without the warning that Python 3.12 and later give when there are threads.

    Where warnings are errors, the number of the child may be lost in the exception. What
    it warns of is taken care of in the child.
    """
    if not fork_warns():
        yield
        return
    # The filters are the whole process's, so one thread at a time.
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _has_foreign_threads() -> bool:
    """True when there are threads that Python did not start; it counts them, too."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:
        return False
