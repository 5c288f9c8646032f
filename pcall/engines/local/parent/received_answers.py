"""The answers of one worker that are not in the table: files that it sent, its common file."""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT
from _socket import socket as Socket
from collections.abc import Callable
from errno import EMFILE

from pcall._os.fd_passing import receive_with_fd
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._tuning import PENDING_FILES, READ_AHEAD
from pcall._wire.decode import Answer, read_answer
from pcall._wire.result_table import LENGTH_BITS, LENGTH_MASK, ResultTable
from pcall.engines.local.worker_control import ANSWERED, NOTICE, WorkerControl

__all__ = ["ReceivedAnswers"]

# In place of a descriptor that this process could not receive.
_NOT_RECEIVED = -1


class ReceivedAnswers:
    """Receives a worker's notices, and reads its answers.

    It is an :class:`~pcall._wire.row_reader.AnswerSource`.

    Args:
        table: where the worker answers.
        control: the worker's control block.
        socket: the parent's end of the socket pair.
        common_file: returns the descriptor of the file with the worker's short answers; called
            once the worker has answered.
    """

    def __init__(
        self,
        table: ResultTable,
        control: WorkerControl,
        socket: Socket,
        common_file: Callable[[], int],
    ) -> None:
        self._places = table.values
        self._counts = control.counts
        self._socket = socket
        self._common_file = common_file
        self._files: dict[int, int] = {}  # by number: descriptors of files that were sent
        self._read = memoryview(b"")  # a part of the common file, which begins at
        self._read_at = 0
        # By call: answers that were read from files, until they are recorded. A signal handler that
        # uses the run while a later one is unpickled needs them, too.
        self._unrecorded: dict[int, Answer] = {}

    def hear(self) -> bool:
        """Take the worker's notices, up to a number of files; further ones wait in the socket.

        Returns:
            True when there was one.
        """
        heard = False
        while len(self._files) < PENDING_FILES:
            with DeferSignals():
                try:
                    message, fd = receive_with_fd(self._socket, NOTICE.size, MSG_DONTWAIT)
                except BlockingIOError:
                    break
                if not message:
                    break
                heard = True
                (number,) = NOTICE.unpack(message)
                if fd is not None:
                    register_private_fd(fd)
                    self._files[number] = fd
                elif number != ANSWERED:
                    self._files[number] = _NOT_RECEIVED  # this process has too many open
        return heard

    def short_answer(self, index: int) -> memoryview:
        """The bytes of a short answer."""
        # As unpack_place() does, without its call: this runs for each short answer.
        number = self._places[index]
        place, length = number >> LENGTH_BITS, number & LENGTH_MASK
        start = place - self._read_at
        if start < 0 or start + length > len(self._read):
            # Read ahead, but not beyond what is in use: the worker may still write behind that.
            whole = min(READ_AHEAD, self._counts[WorkerControl.WRITTEN] - place)
            self._read = memoryview(os.pread(self._common_file(), max(length, whole), place))
            self._read_at, start = place, 0
        return self._read[start : start + length]

    def file_answer(self, index: int) -> Answer:
        """Read the answer in a file that was sent, and close the file.

        Raises:
            OSError: the file can't be received, or the answer is incomplete.
        """
        known = self._unrecorded.get(index)
        if known is not None:
            return known
        fd = self.file_of(index)
        try:
            answer = read_answer(fd)
        except BaseException:
            self.close_file(index)
            raise
        with DeferSignals():
            if answer is not None:
                self._unrecorded[index] = answer
            self.close_file(index)
        if answer is None:
            raise OSError("it did not come to its end")
        return answer

    def recorded(self) -> None:
        """All answers that were read have been recorded."""
        self._unrecorded.clear()

    def file_of(self, index: int) -> int:
        """Receive the file with the answer of a call, and keep it until it is closed or taken.

        Raises:
            OSError: this process had too many descriptors open to receive it.
        """
        number = self._places[index]
        with DeferSignals():
            while number not in self._files and self.hear():
                for other in [other for other in self._files if other < number]:
                    self._close(other)  # of a call that was ended just after it was sent
            if self._files[number] == _NOT_RECEIVED:
                del self._files[number]
                raise OSError(EMFILE, "there was no descriptor to be had for it")
            return self._files[number]

    def close_file(self, index: int) -> None:
        """Close the file with the answer of a call."""
        self._close(self._places[index])

    def take_file(self, index: int) -> int:
        """The file with the answer of a call, which is the caller's to close from now on.

        It stays registered as private.
        """
        return self._files.pop(self._places[index])

    def close(self) -> None:
        """Close all files."""
        for number in list(self._files):
            self._close(number)
        self._read = memoryview(b"")

    def _close(self, number: int) -> None:
        with DeferSignals():
            fd = self._files.pop(number, _NOT_RECEIVED)
            if fd != _NOT_RECEIVED:
                unregister_private_fd(fd)
                os.close(fd)
