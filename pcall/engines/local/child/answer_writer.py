"""How a reused worker answers when a value does not fit into a row of the table."""

from __future__ import annotations

from _socket import socket as Socket
from os import close, pwrite
from time import monotonic, sleep
from typing import Any

from pcall._os.fd_passing import send_with_fd
from pcall._os.system import System
from pcall._tuning import FD_RETRY_INTERVAL
from pcall._wire.encode import (
    encode_error,
    encode_error_summary,
    encode_value,
    unsendable,
    with_header,
)
from pcall._wire.pickling import ShortPickler
from pcall._wire.result_table import ENCODED, IN_FILE, PICKLED, ResultTable, pack_place
from pcall.engines.invoke import run_if_coroutine
from pcall.engines.local.worker_control import NOTICE, WorkerControl

__all__ = ["AnswerFile", "AnswerWriter"]


class AnswerWriter:
    """Writes answers to the worker's common file, or sends each in a file of its own.

    All methods that answer return the *kind* of the answer. The caller writes it to the row last.

    Args:
        table: where the rows are.
        control: the worker's control block.
        socket: the worker's end of the socket pair.
        common_file: descriptor of the file for short answers.
        system: makes files for long ones.

    Attributes:
        full: True once an answer has found no room but the reserved one: the worker must exit.
    """

    def __init__(
        self,
        table: ResultTable,
        control: WorkerControl,
        socket: Socket,
        common_file: int,
        system: System,
    ) -> None:
        self._values = table.values
        self._control = control
        self._socket = socket
        self._common_file = common_file
        self._system = system
        self._files = 0  # that were sent
        self._pickler = ShortPickler()
        self.full: bool = False

    def answer(self, index: int, returned: list[Any]) -> int:
        """Answer with the value that a call returned.

        Args:
            index: the call.
            returned: the value alone, to which nothing else refers.

        Raises:
            ResultError: the value can't be pickled, or there is no room for it.
        """
        returned[0] = run_if_coroutine(returned[0])
        content = self._pickler.dumps(returned[0])
        if content is None:
            return self.answer_large(index, returned)
        try:
            if not self._pickler.risky:
                self.write(index, content)
                return PICKLED
            self.write(index, with_header(returned[0], content, monotonic()))
            return ENCODED
        except OSError as error:
            raise unsendable(returned[0], error) from error

    def answer_large(self, index: int, returned: list[Any]) -> int:
        """The same for a value that may be long, or have large buffers, or can't be pickled."""
        file = AnswerFile(self._system)
        try:
            return self.put(index, encode_value(returned[0], monotonic(), file.open), file)
        except OSError as error:
            raise unsendable(returned[0], error) from error
        finally:
            file.close()

    def answer_error(self, index: int, error: BaseException, finished: float) -> int:
        """Answer with the exception that a call raised, or at least with its type and text."""
        file = AnswerFile(self._system)
        try:
            return self.put(index, encode_error(error, finished, file.open), file)
        except OSError:  # no room on the disk, perhaps, or no descriptor for this process
            return self._put_summary(index, error, finished)
        finally:
            file.close()

    def send_handed_off(self, index: int) -> int:
        """Answer with a value that was handed off to the next call, after all."""
        raise NotImplementedError

    def put(self, index: int, content: bytes | None, file: AnswerFile) -> int:
        """Answer with encoded bytes; None: with the file, which has the answer."""
        if content is None:
            # Numbered by file and not by call: a call that is ended just after this gets another
            # answer.
            self._files += 1
            self._values[index] = self._files
            while not send_with_fd(self._socket, NOTICE.pack(self._files), file.fd):
                sleep(FD_RETRY_INTERVAL)  # until the parent has taken some descriptors
            return IN_FILE
        self.write(index, content)
        return ENCODED

    def write(self, index: int, content: bytes) -> None:
        """Append an answer to the common file, and its place to the row."""
        counts = self._control.counts
        place, length = counts[WorkerControl.WRITTEN], len(content)
        written = pwrite(self._common_file, content, place)
        while written < length:
            written += pwrite(self._common_file, content[written:], place + written)
        counts[WorkerControl.WRITTEN] = place + length
        self._values[index] = pack_place(place, length)

    def _put_summary(self, index: int, error: BaseException, finished: float) -> int:
        """Answer in the room that is reserved for one answer; another worker goes on then."""
        self.full = True
        content = encode_error_summary(error, finished)
        pwrite(self._common_file, content, 0)
        self._values[index] = pack_place(0, len(content))
        return ENCODED


class AnswerFile:
    """A file for one large answer, made when it is needed.

    Attributes:
        fd: its descriptor; -1 before :meth:`open`.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self.fd: int = -1

    def open(self) -> int:
        """Make the file, and return its descriptor."""
        self.fd = self._system.make_answer_file()
        return self.fd

    def close(self) -> None:
        """Close the file if it was made."""
        if self.fd >= 0:
            close(self.fd)
