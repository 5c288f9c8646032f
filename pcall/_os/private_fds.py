"""This library's own descriptors, which a new child closes, and the numbers that they may have.

The system gives a new descriptor the lowest number that is free. Where stdin, stdout or stderr is
closed, that is the number of a standard stream: whatever is printed would go to the new file, and
a child, which puts /dev/null in the place of its stdin, would lose it. So none of the descriptors
that this library keeps has such a number.
"""

from __future__ import annotations

import os
from _socket import socket as Socket
from fcntl import F_DUPFD_CLOEXEC, fcntl
from resource import RLIMIT_NOFILE, getrlimit

from pcall._tuning import SHARE_OF_DESCRIPTORS

__all__ = [
    "above_streams",
    "closed_streams",
    "duplicate",
    "is_scarce",
    "private_fds",
    "register_private_fd",
    "socket_above_streams",
    "unregister_private_fd",
]

_FIRST = 3  # the lowest number that is not a standard stream's

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


def above_streams(fd: int) -> int:
    """The descriptor itself, or its replacement with a number above those of standard streams.

    Args:
        fd: a new descriptor. It is closed if it is replaced, and if that fails.

    Raises:
        OSError: this process has too many descriptors open.
    """
    if fd >= _FIRST:
        return fd
    try:
        return duplicate(fd)
    finally:
        os.close(fd)


def duplicate(fd: int) -> int:
    """Another descriptor of the same file, above those of standard streams, closed by exec."""
    return fcntl(fd, F_DUPFD_CLOEXEC, _FIRST)


def closed_streams() -> list[int]:
    """The numbers of the standard streams that are closed."""
    found = []
    for fd in range(_FIRST):
        try:
            os.fstat(fd)
        except OSError:
            found.append(fd)
    return found


def socket_above_streams(socket: Socket) -> Socket:
    """The socket itself, or one like it in its place: see :func:`above_streams`."""
    if socket.fileno() >= _FIRST:
        return socket
    return Socket(socket.family, socket.type, socket.proto, above_streams(socket.detach()))
