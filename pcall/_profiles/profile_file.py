"""The file by which a child sends profiles home. The parent makes it, and the child inherits it.

A profile is written before the answer of its call, and what is written survives any death of the
child. While a call lasts, snapshots of its profile are written to the place where the final one
will stand; so the file holds one call more than the parent has read. Each entry says whose it is,
its number, its length and its checksum: one that a death cut short is not taken for one.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

__all__ = ["ProfileReader", "ProfileWriter"]

_HEAD = struct.Struct("<qIIBII")
_FINAL, _SNAPSHOT = 2, 1
# Bytes of snapshots of one call that stand in the file one after another before the next one
# overwrites the first.
_SNAPSHOT_ROOM = 1 << 18
# Bytes that were read before their memory is given back.
_UNFREED = 1 << 16


class _Entry(NamedTuple):
    call: int
    attempt: int
    number: int
    kind: int
    content: bytes
    end: int


class ProfileWriter:
    """Writes the profiles of the calls of one child.

    Args:
        fd: of the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begin = self._place = os.lseek(fd, 0, os.SEEK_END)
        self._number = 0
        self._file = self._identity()

    def _identity(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def write(self, index: int, attempt: int, content: bytes, final: bool) -> None:
        """Write a profile.

        Args:
            index: of the call.
            attempt: the number of its attempt.
            content: the profile.
            final: False for a snapshot of a call that has not ended.

        Raises:
            OSError: the target has closed the file, or has another one by its number.
        """
        if self._identity() != self._file:
            raise OSError(errno.EBADF, "the file for profiles was closed")
        if final or self._place - self._begin > _SNAPSHOT_ROOM:
            self._place = self._begin
        self._number += 1
        kind = _FINAL if final else _SNAPSHOT
        head = _HEAD.pack(index, attempt, self._number, kind, len(content), crc32(content))
        self._place += os.pwrite(self._fd, head + content, self._place)
        if final:
            os.ftruncate(self._fd, self._place)
            self._begin = self._place


class ProfileReader:
    """Reads the profiles of one child.

    Args:
        fd: of the file.
        free: frees a part of a file: descriptor, begin, length.
    """

    def __init__(self, fd: int, free: Callable[[int, int, int], None]) -> None:
        self._fd = fd
        self._free = free
        self._place = self._freed = 0

    def take(self, index: int) -> bytes | None:
        """The profile of the next call; its last snapshot, if the child died in it; or None.

        Args:
            index: of the call.
        """
        entry = self._read(self._place)
        if entry is None or entry.call != index:
            return None
        if entry.kind == _FINAL:
            self._place = entry.end
            if self._place - self._freed > _UNFREED:
                self._free(self._fd, self._freed, self._place - self._freed)
                self._freed = self._place
            return entry.content
        last = entry
        while entry is not None and entry.call == index:
            if entry.number > last.number:
                last = entry
            entry = self._read(entry.end)
        return last.content

    def _read(self, place: int) -> _Entry | None:
        head = os.pread(self._fd, _HEAD.size, place)
        if len(head) < _HEAD.size:
            return None
        index, attempt, number, kind, length, checksum = _HEAD.unpack(head)
        begin = place + _HEAD.size
        if kind not in (_FINAL, _SNAPSHOT) or length > os.fstat(self._fd).st_size - begin:
            return None
        content = os.pread(self._fd, length, begin)
        if len(content) < length or crc32(content) != checksum:
            return None
        return _Entry(index, attempt, number, kind, content, begin + length)
