"""Forks without Python's warning about threads, which this library takes care of."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

__all__ = ["fork_warns", "no_warning"]

_WARNS_OF_THREADS = sys.version_info >= (3, 12)

# The only entry is the lock. A child gets another one, since another thread may hold this one at a
# fork, and the thread that forks does: the child releases its copy when it leaves the block.
_lock = [threading.Lock()]


def _renew_lock() -> None:
    _lock[:] = [threading.Lock()]


os.register_at_fork(after_in_child=_renew_lock)


def fork_warns() -> bool:
    """True if Python would warn of a fork because of threads, as 3.12 and later do."""
    return _WARNS_OF_THREADS and (threading.active_count() > 1 or _has_foreign_threads())


@contextlib.contextmanager
def no_warning() -> Iterator[None]:
    """Suppress, in this block, the warning that Python 3.12 and later give about threads.

    If warnings are errors, the exception would lose the process id of the child. The child takes
    care of the problems that the warning is about.
    """
    if not fork_warns():
        yield
        return
    # The filters belong to the whole process: one thread at a time.
    with _lock[0], warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _has_foreign_threads() -> bool:
    """True if there are threads that Python did not start: its warning counts these, too."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:
        return False
