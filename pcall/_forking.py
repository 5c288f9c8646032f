"""What every fork of this library needs, whatever the new process is for."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

__all__ = ["disown", "fork_warns", "no_warning", "own", "own_descriptors"]

_WARNS_OF_THREADS = sys.version_info >= (3, 12)

# Descriptors of all runs of this process, which a new child has no business with.
_own_descriptors: set[int] = set()
_lock = threading.Lock()


def _renew() -> None:
    global _lock, _own_descriptors
    _lock = threading.Lock()
    _own_descriptors = set()


# Also for forks that are not ours: numbers of descriptors mean nothing to a process that
# may have closed them all.
os.register_at_fork(after_in_child=_renew)


def own(fd: int) -> None:
    """Keep this descriptor out of the children that are forked from now on."""
    _own_descriptors.add(fd)


def disown(fd: int) -> None:
    """Undo :func:`own`; before the descriptor is closed."""
    _own_descriptors.discard(fd)


def own_descriptors() -> set[int]:
    """Those of :func:`own`, for a child to close: in the child itself there are none."""
    return _own_descriptors


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
