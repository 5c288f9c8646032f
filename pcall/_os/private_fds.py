"""Descriptors of this library, which a new child has no business with."""

from __future__ import annotations

import os

__all__ = ["private_fds", "register_private_fd", "unregister_private_fd"]

_private_fds: set[int] = set()


def _forget() -> None:
    _private_fds.clear()


# Also for forks that are not ours: numbers of descriptors mean nothing to a process that
# may have closed them all.
os.register_at_fork(after_in_child=_forget)


def register_private_fd(fd: int) -> None:
    """Keep this descriptor out of the children that are forked from now on."""
    _private_fds.add(fd)


def unregister_private_fd(fd: int) -> None:
    """Undo :func:`register_private_fd`; call it before the descriptor is closed."""
    _private_fds.discard(fd)


def private_fds() -> set[int]:
    """The registered descriptors, for a child to close. In the child itself there are none."""
    return _private_fds
