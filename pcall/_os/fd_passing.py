"""Sending a descriptor along with a message over a Unix socket (``SCM_RIGHTS``)."""

from __future__ import annotations

import _socket
import sys
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from errno import EAGAIN, ETOOMANYREFS
from os import set_inheritable

from pcall._os.private_fds import above_streams

__all__ = ["receive_with_fd", "send_with_fd"]

# macOS lacks it. There a received descriptor stays open in a program that another thread starts
# before set_inheritable() returns.
_CLOSE_ON_EXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
_ROOM_FOR_ONE = CMSG_SPACE(4)


def send_with_fd(sock: Socket, message: bytes, fd: int, flags: int = 0) -> bool:
    """Send a message with a duplicate of a descriptor.

    Args:
        sock: a Unix stream socket.
        message: at least one byte.
        fd: the descriptor. It may be closed once it has been sent.
        flags: of ``sendmsg()``, such as ``MSG_DONTWAIT``.

    Returns:
        False when nothing was sent and the caller should try again: the kernel has too many
        descriptors under way, or the socket's buffer is full and the call may not wait.
    """
    attached = [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
    try:
        sock.sendmsg([message], attached, flags)
    except OSError as error:
        if error.errno not in (EAGAIN, ETOOMANYREFS):
            raise
        return False
    return True


def receive_with_fd(sock: Socket, size: int, flags: int = 0) -> tuple[bytes, int | None]:
    """Receive a message, and the descriptor that came with it.

    ``socket.recv_fds()`` is not used: on Python 3.11 it ignores the flags.

    Args:
        sock: the socket.
        size: bytes of the message.
        flags: of ``recvmsg()``, such as ``MSG_DONTWAIT``.

    Returns:
        The message, and a descriptor that exec closes. None in its place: none was sent, or this
        process has too many open to receive it.
    """
    message, attached, _, _ = sock.recvmsg(size, _ROOM_FOR_ONE, flags | _CLOSE_ON_EXEC)
    if not attached:
        return message, None
    ((_, _, content),) = attached
    fd = int.from_bytes(content[:4], sys.byteorder)
    if not _CLOSE_ON_EXEC:
        set_inheritable(fd, False)
    try:
        return message, above_streams(fd)
    except OSError:
        return message, None
