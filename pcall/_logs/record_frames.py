"""Log records as frames in one file that all children of a run append to.

Each frame is written by one system call to a file opened for appending, so frames of several
processes never mix, and the frames of a process survive its death. A process that is killed within
that call leaves a partial frame behind. The reader then searches for the next magic number, and
verifies by the checksum that a frame starts there.

.. code-block:: text

    magic | call | handler | length | checksum | the record, pickled
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import struct
from binascii import crc32
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from pcall._tuning import FRAME_SEARCH_SIZE
from pcall._wire.exception_codec import Unpicklable, dump_exception, load_exception, portable

__all__ = ["Frame", "FrameReader", "pack_record", "unpack_record", "write_frame"]

_MAGIC = b"\x93pLr"
_HEADER = struct.Struct("=4sIHII")

_PLAIN = {int, float, bool, str, bytes, type(None)}


def _checksum(call: int, handler: int, payload: bytes) -> int:
    return crc32(payload, crc32(_HEADER.pack(_MAGIC, call, handler, len(payload), 0)))


# ------------------------------------------------------------------ in the child: writing


def write_frame(fd: int, call: int, handler: int, payload: bytes) -> None:
    """Append a record.

    Args:
        fd: descriptor of the file, opened for appending.
        call: index of the call that logged the record.
        handler: number of the handler to forward it to.
        payload: of :func:`pack_record`.

    Raises:
        OSError: the frame could not be written, or only a part of it.
    """
    checksum = _checksum(call, handler, payload)
    data = _HEADER.pack(_MAGIC, call, handler, len(payload), checksum) + payload
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, "no room for the log record")


def pack_record(record: logging.LogRecord) -> bytes:
    """Pickle a record with its class and all its fields.

    If an argument can't be pickled, or would be formatted differently after unpickling, the
    message is merged here and sent as text. A class that can't be pickled is replaced by
    ``logging.LogRecord``.
    """
    fields = dict(vars(record))
    kind = type(record)
    if kind is not logging.LogRecord and isinstance(portable(kind), Unpicklable):
        kind = logging.LogRecord
    error: bytes | None = None
    info: Any = fields.get("exc_info")
    if isinstance(info, tuple) and isinstance(info[1], BaseException):
        fields["exc_info"] = None
        error = _dump_info(info[1], info[2])
    if not _is_plain(record):
        _make_portable(record, kind, fields)
    for name, value in fields.items():
        if type(value) not in _PLAIN and name not in ("msg", "args"):
            fields[name] = portable(value)
    return pickle.dumps((kind, fields, error), protocol=5)


def _dump_info(error: BaseException, tb: TracebackType | None) -> bytes:
    before = error.__traceback__
    slot: Any = vars(BaseException)["__traceback__"]  # a frozen dataclass refuses setattr()
    slot.__set__(error, tb)
    try:
        return dump_exception(error)
    finally:
        slot.__set__(error, before)


def _is_plain(record: logging.LogRecord) -> bool:
    args = record.args
    if type(record) is not logging.LogRecord:
        return False  # its class may format messages in another way
    if type(record.msg) is not str or type(args) not in (tuple, type(None)):
        return False
    return all(type(arg) in _PLAIN for arg in args or ())


def _make_portable(
    record: logging.LogRecord, kind: type[logging.LogRecord], fields: dict[str, Any]
) -> None:
    message, args = record.msg, record.args
    try:
        text = record.getMessage()
    except Exception:
        # Formatting it in the parent raises the same error.
        fields["msg"], fields["args"] = portable(message), _portable_args(args)
        return
    try:
        message, args = pickle.loads(pickle.dumps((message, args), protocol=5))
        if _rebuild(kind, {**vars(record), "msg": message, "args": args}).getMessage() == text:
            return
    except Exception:
        pass  # it can't be pickled or unpickled
    fields["msg"], fields["args"] = text, None


def _rebuild(kind: type[logging.LogRecord], fields: dict[str, Any]) -> logging.LogRecord:
    """A record of this class with these fields.

    Neither the class nor the factory that the user has installed is called: the record has been
    through both, and ``logging.makeLogRecord()`` calls the factory with None in place of the
    logger's name, which not every factory accepts.
    """
    record: logging.LogRecord = object.__new__(kind)
    vars(record).update(fields)
    return record


def _portable_args(args: Any) -> Any:
    if isinstance(args, tuple):
        return tuple(portable(arg) for arg in args)
    if isinstance(args, dict):
        return {portable(name): portable(value) for name, value in args.items()}
    return portable(args)


# ------------------------------------------------------------------ in the parent: reading


def unpack_record(payload: bytes) -> logging.LogRecord:
    """Restore the record that :func:`pack_record` has pickled."""
    kind, fields, error = pickle.loads(payload)
    record = _rebuild(kind, fields)
    if error is not None:
        raised = load_exception(error)
        record.exc_info = (type(raised), raised, raised.__traceback__)
    return record


class Frame(NamedTuple):
    """The position of a record in the file.

    Attributes:
        call: index of the call that logged it.
        handler: number of the handler to forward it to.
        offset: of its pickle in the file, in bytes.
        length: of its pickle, in bytes.
    """

    call: int
    handler: int
    offset: int
    length: int


class FrameReader:
    """Reads frames while other processes append more.

    Args:
        fd: descriptor of the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0

    def new_frames(self, final: bool) -> Iterator[Frame]:
        """The frames that were appended since the last call.

        Args:
            final: True once no process writes any more. Until then a partial frame at the end of
                the file may be one that is being written.
        """
        while True:
            size = os.fstat(self._fd).st_size
            if size - self._position < _HEADER.size:
                return
            start = self._position
            header = os.pread(self._fd, _HEADER.size, start)
            magic, call, handler, length, checksum = _HEADER.unpack(header)
            offset = start + _HEADER.size
            if magic == _MAGIC:
                if offset + length > size and not final:
                    return
                if offset + length <= size:
                    payload = os.pread(self._fd, length, offset)
                    if _checksum(call, handler, payload) == checksum:
                        self._position = offset + length
                        yield Frame(call, handler, offset, length)
                        continue
            self._position = self._next_magic(start + 1, size)

    def _next_magic(self, start: int, size: int) -> int:
        while start < size:
            data = os.pread(self._fd, FRAME_SEARCH_SIZE, start)
            found = data.find(_MAGIC)
            if found >= 0:
                return start + found
            if start + len(data) >= size:
                break
            start += len(data) - len(_MAGIC) + 1
        # The last bytes may be the beginning of a magic number.
        return max(start, size - len(_MAGIC) + 1)

    def payload(self, frame: Frame) -> bytes:
        """The pickle of a record."""
        return os.pread(self._fd, frame.length, frame.offset)
