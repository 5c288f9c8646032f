"""Writing an answer to its file: the pickle, large buffers from where they lie, the header last.

:mod:`pcall._wire.decode` describes the layout.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

from pcall._tuning import BUFFER_ALIGNMENT
from pcall._wire.decode import HEADER, MAGIC
from pcall._wire.result_table import LONG_ANSWER

__all__ = ["PickleSink", "read_all", "try_out", "write_all", "write_buffers"]


class PickleSink:
    """The file object that a pickler writes to. Short streams stay in memory, long ones spill.

    Args:
        open_file: opens the answer's file; called at most once.
        start: where in the file the pickle begins.

    Attributes:
        fd: the file, once something has gone to it.
        start: as given.
        end: the position behind the last byte that has gone to the file.
        pieces: the bytes that are still in memory.
        size: how many bytes these are.
    """

    def __init__(self, open_file: Callable[[], int], start: int) -> None:
        self._open_file = open_file
        self.fd: int | None = None
        self.end = self.start = start
        self.pieces: list[bytes] = []
        self.size = 0

    def write(self, data: Any) -> int:
        """Take the next part of the stream; the pickler calls it."""
        length = memoryview(data).nbytes
        if length >= LONG_ANSWER:
            # A large bytes object is written from where it lies, without a copy.
            write_all(self.spill(), data, self.end)
            self.end += length
            return length
        self.pieces.append(bytes(data))
        self.size += length
        if self.size >= LONG_ANSWER:
            self.spill()
        return length

    def spill(self) -> int:
        """Write to the file what is in memory, and return the file's descriptor."""
        if self.fd is None:
            self.fd = self._open_file()
        content = b"".join(self.pieces)
        write_all(self.fd, content, self.end)
        self.end += len(content)
        self.pieces.clear()
        self.size = 0
        return self.fd


def read_all(fd: int, length: int, offset: int) -> bytearray:
    """Read so many bytes from this position.

    Raises:
        EOFError: there are fewer.
    """
    content = bytearray(length)
    view = memoryview(content)
    while len(view):
        # One call reads at most 2 GiB - 4 KiB on Linux.
        count = os.preadv(fd, [view], offset)
        if not count:
            raise EOFError(f"{len(view)} bytes are missing")
        view = view[count:]
        offset += count
    return content


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of these bytes at this position."""
    view = memoryview(data).cast("B")
    while len(view):
        # One call writes at most 2 GiB - 4 KiB on Linux.
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def write_buffers(
    sink: PickleSink, kind: int, name: bytes, buffers: list[memoryview], finished: float
) -> None:
    """Write everything behind the pickle, and then the header, which makes the answer valid.

    Args:
        sink: has the pickle.
        kind: ``VALUE`` or ``ERROR``.
        name: of the value's type.
        buffers: large buffers that the pickle refers to.
        finished: when the call ended, on the monotonic clock.
    """
    fd, end = sink.spill(), sink.end
    length = end - sink.start
    places = []
    for view in buffers:
        end += -end % BUFFER_ALIGNMENT
        write_all(fd, view, end)
        places += [end, view.nbytes]
        end += view.nbytes
    table = struct.pack(f"{len(places)}Q", *places)
    total = end + len(table)
    header = HEADER.pack(MAGIC, kind, len(name), len(buffers), length, total, finished)
    write_all(fd, table, end)
    write_all(fd, header + name, 0)


def try_out(sink: PickleSink, buffers: list[memoryview]) -> None:
    """Load the pickle in the child: if that raises, exits or hangs, it costs this child alone."""
    if sink.fd is None:
        pickle.loads(b"".join(sink.pieces), buffers=buffers)
        return
    sink.spill()
    with (
        mmap.mmap(sink.fd, sink.end, mmap.MAP_PRIVATE) as content,
        memoryview(content) as view,
        view[sink.start :] as stream,
    ):
        pickle.loads(stream, buffers=buffers)
