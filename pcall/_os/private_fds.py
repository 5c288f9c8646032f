"""This library's own descriptors, which a new child closes."""

from __future__ import annotations

import os
from resource import RLIMIT_NOFILE, getrlimit

from pcall._tuning import SHARE_OF_DESCRIPTORS

__all__ = ["is_scarce", "private_fds", "register_private_fd", "unregister_private_fd"]

_private_fds: set[int] = set()


def _forget() -> None:
    _private_fds.clear()


# Also after forks by other code: the numbers mean nothing in a process that may have closed all of
# these descriptors.
os.register_at_fork(after_in_child=_forget)


def register_private_fd(fd: int) -> None:
    """Keep this descriptor out of the children that are forked from now on."""
    _private_fds.add(fd)


def unregister_private_fd(fd: int) -> None:
    """Undo :func:`register_private_fd`. Call it before closing the descriptor."""
    _private_fds.discard(fd)


def private_fds() -> set[int]:
    """The registered descriptors, for a child to close. After the fork, the child has none."""
    return _private_fds


def is_scarce(fd: int) -> bool:
    """True for a new descriptor that leaves this process few more.

    The system gives out the lowest number that is free, so a number tells how many are in use,
    whoever opened them.
    """
    return fd >= getrlimit(RLIMIT_NOFILE)[0] * SHARE_OF_DESCRIPTORS >= 0
