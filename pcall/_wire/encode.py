"""A child's answer, from the value to the file. Its layout is that of :mod:`pcall._wire.decode`."""

from __future__ import annotations

import copyreg
import io
import mmap
import os
import pickle
import struct
from collections.abc import Callable
from functools import partial
from marshal import dumps as dump_plain
from os import write
from pickle import loads
from time import monotonic
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

from pcall._errors import RemoteError, ResultError, TaskCancelled
from pcall._os.system import ROOM
from pcall._wire.decode import ERROR, HEADER, MAGIC, VALUE
from pcall._wire.exception_codec import dump_exception, safe_str, type_name

__all__ = [
    "Parts",
    "ShortPickler",
    "encode_error",
    "encode_little",
    "encode_value",
    "take_apart",
    "unsendable",
    "with_header",
    "write_error",
    "write_parts",
    "write_value",
]

_pack = HEADER.pack
_SPILL = 1 << 20  # bytes of pickle that are gathered in memory before they go to the file
_SHORT = 1 << 20  # bytes that a short answer has not
_SHORT_TEXT = 10_000  # characters
_OUT_OF_BAND = 16 << 10  # a smaller buffer costs less inside the pickle
_ALIGN = 64  # what numpy and SIMD code like best


def write_value(fd: int, value: Any) -> None:
    """Answer with what the call returned.

    Raises:
        ResultError: the value could not be pickled, would not load again, or the file
            could not hold it; nothing counts as answered then.
    """
    finished = monotonic()
    try:
        if type(value) in _PLAIN and (type(value) is not str or len(value) < _SHORT_TEXT):
            # The way of most answers, with the least that it takes: each page that a child
            # touches is copied first.
            write(fd, dump_plain((finished, value)))
        else:
            _write(fd, VALUE, value, finished)
    except TaskCancelled:
        raise
    except BaseException as error:
        _take_back(fd)
        raise unsendable(value, error) from error


def unsendable(value: Any, error: BaseException) -> ResultError:
    """What a call fails with whose result was refused so."""
    return _unsendable(type_name(type(value)), error)


def _unsendable(name: str, error: BaseException) -> ResultError:
    doing = "could not be sent" if isinstance(error, OSError) else "could not be pickled"
    return ResultError(
        f"the result, of type {name}, {doing}: {type(error).__name__}: {safe_str(error)}"
    )


def write_error(fd: int, error: BaseException) -> None:
    """Answer with what the call raised."""
    finished = monotonic()
    _take_back(fd)
    try:
        _write(fd, ERROR, dump_exception(error), finished)
    except Exception:  # out of memory or disk, perhaps: what needs little may still go
        _take_back(fd)
        _write(fd, ERROR, dump_exception(_little(error)), finished)


def _little(error: BaseException) -> RemoteError:
    return RemoteError(type_name(type(error)), safe_str(error)[:1000])


class ShortPickler:
    """Pickles values that are short and have no large buffers, one after another.

    Attributes:
        risky: True when loading the last one runs code of the user's, and may fail elsewhere.
    """

    def __init__(self) -> None:
        self.risky = False
        self._stream = io.BytesIO()
        self._pickler = _Pickler(self._stream, 5, buffer_callback=self._keep)
        self._large = False

    def dumps(self, value: Any) -> bytes | None:
        """The value's pickle; None for one that is a case for :func:`encode_value`.

        That is also to say what is wrong with one that can't be pickled.
        """
        if type(value) in _PLAIN_BYTES and len(value) >= _SHORT:
            return None
        stream, pickler = self._stream, self._pickler
        try:
            pickler.dump(value)
            content = stream.getvalue()
            self.risky = pickler.risky
            if self.risky:
                pickler.risky = False
                loads(content)
        except TaskCancelled:
            raise
        except BaseException:
            return None
        finally:
            pickler.clear_memo()
            stream.seek(0)
            stream.truncate()
        if self._large or len(content) >= _SHORT:
            self._large = False
            return None
        return content

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        self._large |= buffer.raw().nbytes >= _OUT_OF_BAND
        return not self._large


def with_header(value: Any, content: bytes, finished: float) -> bytes:
    """A short answer with the name of the value's type, for where it may not load."""
    return _short(VALUE, _name(value), content, finished)


def encode_value(value: Any, finished: float, open_file: Callable[[], int]) -> bytes | None:
    """The answer of a child that lives on.

    Args:
        value: what the call returned.
        finished: when, on the monotonic clock.
        open_file: opens a file for an answer that is long, or that has large buffers.

    Returns:
        A short answer; None when it was written to the file.

    Raises:
        ResultError: as :func:`write_value` does.
    """
    try:
        return _encode(VALUE, value, finished, open_file)
    except TaskCancelled:
        raise
    except BaseException as error:
        raise unsendable(value, error) from error


def encode_error(
    error: BaseException, finished: float, open_file: Callable[[], int]
) -> bytes | None:
    """The same for what a call raised."""
    try:
        return _encode(ERROR, dump_exception(error), finished, open_file)
    except Exception:
        return _encode(ERROR, dump_exception(_little(error)), finished, open_file)


def encode_little(error: BaseException, finished: float) -> bytes:
    """What of it fits into :data:`~pcall._os.system.ROOM` bytes in any case."""
    content = _encode(ERROR, dump_exception(_little(error)), finished, _no_file)
    assert content is not None
    return content


def _no_file() -> int:
    raise OSError("no file for an error of a few words")


def _take_back(fd: int) -> None:
    """Make nothing of what was written; what it took is free again, but for a first page."""
    os.pwrite(fd, bytes(HEADER.size), 0)
    if os.fstat(fd).st_size > ROOM:
        os.ftruncate(fd, ROOM)


def _write(fd: int, kind: int, value: Any, finished: float) -> None:
    content = _encode(kind, value, finished, lambda: fd)
    if content is not None:
        _write_all(fd, content, 0)


def _encode(kind: int, value: Any, finished: float, open_file: Callable[[], int]) -> bytes | None:
    """The bytes of a short answer; None for a long one, which has gone to a file then."""
    name = _name(value)
    start = HEADER.size + len(name)
    sink = _Sink(open_file, start)
    buffers: list[memoryview] = []

    pickler = _Pickler(sink, 5, buffer_callback=partial(_keep_large, buffers))
    pickler.dump(value)
    if pickler.risky:
        _try_out(sink, buffers)

    if not buffers and sink.fd is None:
        return _short(kind, name, b"".join(sink.pieces), finished)

    _write_buffers(sink, kind, name, buffers, finished)
    return None


def _keep_large(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Take a large buffer out of the pickle; True leaves it in."""
    view = buffer.raw()
    if view.nbytes < _OUT_OF_BAND:
        return True
    buffers.append(view)
    return False


def _write_buffers(
    sink: _Sink, kind: int, name: bytes, buffers: list[memoryview], finished: float
) -> None:
    """Write all that comes behind the pickle, and at last the header, which makes it count."""
    fd, end = sink.spill(), sink.end
    length = end - sink.start
    places = []
    for view in buffers:
        end += -end % _ALIGN
        _write_all(fd, view, end)
        places += [end, view.nbytes]
        end += view.nbytes
    table = struct.pack(f"{len(places)}Q", *places)
    total = end + len(table)
    header = HEADER.pack(MAGIC, kind, len(name), len(buffers), length, total, finished)
    _write_all(fd, table, end)
    _write_all(fd, header + name, 0)


class Parts(NamedTuple):
    """A value taken apart.

    Attributes:
        name: of its type.
        stream: its pickle.
        buffers: large ones, which the pickle refers to, where they lie.
    """

    name: bytes
    stream: bytes
    buffers: list[memoryview]


def take_apart(value: Any) -> Parts | None:
    """The parts of a value with large buffers and a short pickle, whose loading is safe.

    Returns:
        None for any other, and for one that can't be pickled.
    """
    buffers: list[memoryview] = []
    sink = _Sink(_no_file, 0)
    pickler = _Pickler(sink, 5, buffer_callback=partial(_keep_large, buffers))
    try:
        pickler.dump(value)
    except TaskCancelled:
        raise
    except BaseException:
        return None
    if pickler.risky or not buffers:
        return None
    return Parts(_name(value), b"".join(sink.pieces), buffers)


def write_parts(parts: Parts, finished: float, open_file: Callable[[], int]) -> None:
    """Answer with a value that was taken apart: as :func:`encode_value` writes it to the file.

    Raises:
        ResultError: the file could not hold it.
    """
    name, stream, buffers = parts
    sink = _Sink(open_file, HEADER.size + len(name))
    try:
        sink.write(stream)
        _write_buffers(sink, VALUE, name, buffers, finished)
    except OSError as error:
        raise _unsendable(name.decode(errors="replace"), error) from error


def _name(value: Any) -> bytes:
    return type_name(type(value)).encode(errors="replace")[:1000]


def _short(kind: int, name: bytes, content: bytes, finished: float) -> bytes:
    total = HEADER.size + len(name) + len(content)
    return _pack(MAGIC, kind, len(name), 0, len(content), total, finished) + name + content


def _write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        # One call writes at most 2 GiB - 4 KiB on Linux.
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


class _Sink:
    """What the pickler writes to: short streams stay here, long ones go to the file.

    Attributes:
        fd: the file, once something has gone to it.
    """

    def __init__(self, open_file: Callable[[], int], start: int) -> None:
        self._open_file = open_file
        self.fd: int | None = None
        self.end = self.start = start
        self.pieces: list[bytes] = []
        self.size = 0

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        if length >= _SPILL:
            # A large bytes object: from where it lies, without a copy of it.
            _write_all(self.spill(), data, self.end)
            self.end += length
            return length
        self.pieces.append(bytes(data))
        self.size += length
        if self.size >= _SPILL:
            self.spill()
        return length

    def spill(self) -> int:
        if self.fd is None:
            self.fd = self._open_file()
        content = b"".join(self.pieces)
        _write_all(self.fd, content, self.end)
        self.end += len(content)
        self.pieces.clear()
        self.size = 0
        return self.fd


def _try_out(sink: _Sink, buffers: list[memoryview]) -> None:
    """Load the pickle here, where what that does (raise, exit, hang) costs this child alone."""
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
_PLAIN_BYTES = {bytes, bytearray, str}
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
