"""Messages over a socket pair on one machine: pickles, and files that are attached to them.

A short message is sent as it is. A long one goes into a file in memory, whose descriptor is sent:
the receiver maps it, so that nothing is copied through the socket. No send waits: what the
socket's buffer can't hold is queued.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pcall._os.current import get_system
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._wire.mapping import map_private

__all__ = ["Channel", "ChannelClosed", "Mapped", "file_with"]

# Bytes up to which a message goes through the socket itself.
_INLINE = 32_000
# Descriptors that are attached to one message at most; the kernel takes 253.
_MOST_FILES = 200
_SHORT, _LONG = b"\0", b"\1"
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ChannelClosed(Exception):
    """The other end has closed the channel, or has died."""


class Mapped:
    """An attached file: mapped when its content is asked for.

    Args:
        fd: its descriptor, which this object owns.
        size: its length in bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd: int = fd
        self.size = size
        register_private_fd(fd)

    def content(self) -> memoryview:
        """Its bytes, mapped; the descriptor may be closed afterwards."""
        return map_private(self.fd, self.size)

    def close(self) -> None:
        """Close the descriptor."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            unregister_private_fd(fd)
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Channel:
    """One end of a socket pair of the kind ``SOCK_SEQPACKET``.

    Args:
        sock: the socket. It becomes non-blocking.
        wants_write: called with True when sends have to wait, with False when none does any more.
    """

    def __init__(
        self, sock: socket.socket, wants_write: Callable[[bool], None] = lambda waits: None
    ) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._wants_write = wants_write

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._sock.fileno()

    @property
    def is_full(self) -> bool:
        """True while messages wait until the socket takes them."""
        return bool(self._queue)

    def send(self, message: Any, files: Sequence[int] = ()) -> None:
        """Send a message, now or later.

        Args:
            message: anything that can be pickled.
            files: descriptors to attach. They are closed once they have been sent.

        Raises:
            ChannelClosed: the other end is gone.
        """
        assert len(files) < _MOST_FILES
        content, attached = _SHORT + pickle.dumps(message, 5), [*files]
        if len(content) > _INLINE:
            attached.append(file_with(content))
            content = _LONG
        self._queue.append((content, attached))
        if len(self._queue) == 1:
            self.flush()
            if self._queue:
                self._wants_write(True)

    def flush(self) -> None:
        """Send the queued messages that the socket takes.

        Raises:
            ChannelClosed: the other end is gone.
        """
        waited = bool(self._queue)
        while self._queue:
            content, attached = self._queue[0]
            try:
                if attached:
                    rights = [
                        (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", attached).tobytes())
                    ]
                    self._sock.sendmsg([content], rights)
                else:
                    self._sock.send(content)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == 109:  # ETOOMANYREFS: too many descriptors are under way
                    return
                raise ChannelClosed from error
            self._queue.popleft()
            for fd in attached:
                os.close(fd)
        if waited:
            self._wants_write(False)

    def receive(self) -> Iterator[tuple[Any, list[int]]]:
        """The messages that have arrived, each with the descriptors that came with it.

        Raises:
            ChannelClosed: the other end is gone.
        """
        room = socket.CMSG_SPACE(4 * (_MOST_FILES + 1))
        while True:
            try:
                content, rights, _, _ = self._sock.recvmsg(_INLINE + 8, room, _CLOEXEC)
            except BlockingIOError:
                return
            except OSError as error:
                raise ChannelClosed from error
            if not content:
                raise ChannelClosed
            fds = array.array("i")
            for _, _, data in rights:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            files = [*fds]
            if content[:1] == _LONG:
                fd = files.pop()
                try:
                    message = pickle.loads(map_private(fd, os.fstat(fd).st_size)[1:])
                finally:
                    os.close(fd)
            else:
                message = pickle.loads(memoryview(content)[1:])
            yield message, files

    def close(self) -> None:
        """Close the socket, and drop what waits."""
        self._sock.close()
        while self._queue:
            for fd in self._queue.popleft()[1]:
                os.close(fd)


def file_with(content: bytes | memoryview) -> int:
    """A file in memory with this content: its descriptor."""
    fd = get_system().make_answer_file()
    os.ftruncate(fd, 0)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return fd
