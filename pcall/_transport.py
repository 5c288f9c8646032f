"""The answer of a child: a file that it writes and that the parent reads or maps.

Layout, in the byte order of the machine, which both sides share:

.. code-block:: text

    header | name of the value's type | pickle | buffers, each aligned | their places

The header counts for nothing unless the file is as long as it says. An answer of a page is
written at one stroke, a longer one makes the file longer as it is written, and of the longest
the header is written last. So a child that dies while it writes has not answered.

Buffers that the pickle refers to (protocol 5: numpy arrays, and what is built on them) are
written from where they lie and mapped by the parent, with no copy between. The mapping is
private: views are writable, and a child that inherits one can't change the parent's.
"""

from __future__ import annotations

import copyreg
import mmap
import os
import pickle
import struct
from dataclasses import dataclass
from os import write
from pickle import dumps
from time import monotonic
from types import BuiltinFunctionType, FunctionType
from typing import Any

from pcall._exception_pickling import dump_exception, load_exception, safe_str, type_name
from pcall._mapping import map_private
from pcall._system import ROOM
from pcall.exceptions import RemoteError, ResultError, TaskCancelled

__all__ = ["Answer", "read_answer", "write_error", "write_value"]

_MAGIC = b"pcall/1\0"
# magic, kind, length of the type's name, buffers, length of the pickle, length of the
# file, monotonic time of the end.
_HEADER = struct.Struct("8sB x H I Q Q d")
_pack = _HEADER.pack
_VALUE, _ERROR = 0, 1
_SPILL = 1 << 20  # bytes of pickle that are gathered in memory before they go to the file
_OUT_OF_BAND = 16 << 10  # a smaller buffer costs less inside the pickle
_SMALL = 64 << 10  # a smaller file is read, a larger one mapped
_ALIGN = 64  # what numpy and SIMD code like best


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child answered.

    Attributes:
        value: what the call returned.
        error: what it raised, or None.
        finished: when it had the answer, on the monotonic clock.
    """

    value: Any
    error: BaseException | None
    finished: float


# ------------------------------------------------------------------ in the child


def write_value(fd: int, value: Any) -> None:
    """Answer with what the call returned.

    Raises:
        ResultError: the value could not be pickled, would not load again, or the file
            could not hold it; nothing counts as answered then.
    """
    finished = monotonic()
    try:
        if type(value) in _PLAIN:
            # The way of most answers, with the least that it takes: each page that a child
            # touches is copied first.
            content = dumps(value, 5)
            size = _HEADER.size + len(content)
            write(fd, _pack(_MAGIC, _VALUE, 0, 0, len(content), size, finished) + content)
        else:
            _write(fd, _VALUE, value, finished)
    except TaskCancelled:
        raise
    except BaseException as error:
        _take_back(fd)
        doing = "could not be sent" if isinstance(error, OSError) else "could not be pickled"
        raise ResultError(
            f"the result, of type {type_name(type(value))}, {doing}: "
            f"{type(error).__name__}: {safe_str(error)}"
        ) from error


def write_error(fd: int, error: BaseException) -> None:
    """Answer with what the call raised."""
    finished = monotonic()
    _take_back(fd)
    try:
        _write(fd, _ERROR, dump_exception(error), finished)
    except Exception:  # out of memory or disk, perhaps: what needs little may still go
        _take_back(fd)
        little = RemoteError(type_name(type(error)), safe_str(error)[:1000])
        _write(fd, _ERROR, dump_exception(little), finished)


def _take_back(fd: int) -> None:
    """Make nothing of what was written; what it took is free again, but for a first page."""
    os.pwrite(fd, bytes(_HEADER.size), 0)
    if os.fstat(fd).st_size > ROOM:
        os.ftruncate(fd, ROOM)


def _write(fd: int, kind: int, value: Any, finished: float) -> None:
    name = type_name(type(value)).encode(errors="replace")[:1000]
    start = _HEADER.size + len(name)
    sink = _Sink(fd, start)
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out of the pickle; True leaves it in."""
        view = buffer.raw()
        if view.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(view)
        return False

    pickler = _Pickler(sink, 5, buffer_callback=keep)
    pickler.dump(value)
    if pickler.risky:
        _try_out(sink, buffers)

    if not buffers and not sink.spilled:
        content = b"".join(sink.pieces)
        total = start + len(content)
        header = _HEADER.pack(_MAGIC, kind, len(name), 0, len(content), total, finished)
        _write_all(fd, header + name + content, 0)
        return

    sink.spill()
    length = sink.end - start
    end = sink.end
    places = []
    for view in buffers:
        end += -end % _ALIGN
        _write_all(fd, view, end)
        places += [end, view.nbytes]
        end += view.nbytes
    table = struct.pack(f"{len(places)}Q", *places)
    total = end + len(table)
    header = _HEADER.pack(_MAGIC, kind, len(name), len(buffers), length, total, finished)
    _write_all(fd, table, end)
    _write_all(fd, header + name, 0)


def _write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        # One call writes at most 2 GiB - 4 KiB on Linux.
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


class _Sink:
    """What the pickler writes to: short streams stay here, long ones go to the file."""

    def __init__(self, fd: int, start: int) -> None:
        self.fd = fd
        self.end = self.start = start
        self.pieces: list[bytes] = []
        self.size = 0
        self.spilled = False

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        if length >= _SPILL:
            # A large bytes object: from where it lies, without a copy of it.
            self.spill()
            _write_all(self.fd, data, self.end)
            self.end += length
            return length
        self.pieces.append(bytes(data))
        self.size += length
        if self.size >= _SPILL:
            self.spill()
        return length

    def spill(self) -> None:
        content = b"".join(self.pieces)
        _write_all(self.fd, content, self.end)
        self.end += len(content)
        self.pieces.clear()
        self.size = 0
        self.spilled = True


def _try_out(sink: _Sink, buffers: list[memoryview]) -> None:
    """Load the pickle here, where what that does (raise, exit, hang) costs this child alone."""
    if not sink.spilled:
        pickle.loads(b"".join(sink.pieces), buffers=buffers)
        return
    sink.spill()
    with (
        mmap.mmap(sink.fd, sink.end, mmap.MAP_PRIVATE) as content,
        memoryview(content) as view,
        view[sink.start :] as stream,
    ):
        pickle.loads(stream, buffers=buffers)


class _Pickler(pickle.Pickler):
    """A pickler that notes whether loading its stream would run code of the user's."""

    risky = False

    def reducer_override(self, obj: Any) -> Any:
        if not self.risky:
            kind = type(obj)
            inert = _inert.get(kind)
            if inert is None:
                inert = _inert[kind] = _is_inert(kind)
            self.risky = not inert
        return NotImplemented


_PLAIN = {int, float, bool, str, type(None)}
_inert: dict[type, bool] = {}
_TRUSTED = {"numpy", "pandas", "pyarrow", "scipy", "builtins", "_io", "array", "collections"}
_TRUSTED |= {"datetime", "decimal", "fractions", "pathlib", "uuid", "ipaddress", "zoneinfo"}


def _is_inert(kind: type) -> bool:
    """True when loading such an object runs no code but the interpreter's or a known library's."""
    if kind.__module__.partition(".")[0] in _TRUSTED or issubclass(kind, type):
        return True
    if kind in (FunctionType, BuiltinFunctionType):
        return True  # by reference
    return (
        kind not in copyreg.dispatch_table
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__new__ is object.__new__
        and not hasattr(kind, "__setstate__")
    )


# ------------------------------------------------------------------ in the parent


def read_answer(fd: int) -> Answer | None:
    """What the child answered; None when it has not, or not to the end."""
    head = os.pread(fd, _SMALL, 0)
    if len(head) < _HEADER.size:
        return None
    magic, kind, name_length, count, length, total, finished = _HEADER.unpack_from(head)
    if magic != _MAGIC:
        return None
    start = _HEADER.size + name_length
    stop = start + length
    view: memoryview
    if total <= len(head) and not count:
        view = memoryview(head)
    else:
        if os.fstat(fd).st_size < total:
            return None
        view = map_private(fd, total)
    places = struct.unpack_from(f"{2 * count}Q", view, total - 16 * count)
    buffers = [
        view[place : place + size] for place, size in zip(places[::2], places[1::2], strict=True)
    ]
    value: Any = None
    error: BaseException | None = None
    try:
        if kind == _ERROR:
            # Its frames will lead here, and keep alive what is found here.
            loaded = pickle.loads(view[start:stop])
            view = memoryview(b"")
            error = load_exception(loaded)
            del loaded
        else:
            value = pickle.loads(view[start:stop], buffers=buffers)
    except (KeyboardInterrupt, TaskCancelled):
        raise  # meant for this process: what the stream itself raises was seen in the child
    except BaseException as problem:
        name = bytes(view[_HEADER.size : start]).decode()
        error = ResultError(
            f"the result, of type {name}, could not be unpickled: "
            f"{type(problem).__name__}: {safe_str(problem)}"
        )
        error.__cause__ = problem
    return Answer(value, error, finished)
