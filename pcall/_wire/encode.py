"""The answer of a child, from the value to bytes.

:mod:`pcall._wire.decode` describes the layout. A fresh child answers with :func:`write_value` or
:func:`write_error` into its one file. A reused worker gets the bytes of a short answer from
:func:`encode_value` or :func:`encode_error`, which open a file for a long one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from marshal import dumps as dump_plain
from os import write
from time import monotonic
from typing import Any

from pcall._errors import RemoteError, ResultError, TaskCancelled
from pcall._os.system import ROOM
from pcall._tuning import SHORT_TEXT
from pcall._wire.answer_file import PickleSink, try_out, write_all, write_buffers
from pcall._wire.decode import ERROR, HEADER, MAGIC, VALUE
from pcall._wire.exception_codec import dump_exception, safe_str, type_name
from pcall._wire.pickling import RiskPickler, keep_large

__all__ = [
    "encode_error",
    "encode_error_summary",
    "encode_value",
    "encoded_type_name",
    "no_file",
    "unsendable",
    "unsendable_type",
    "with_header",
    "write_error",
    "write_value",
]

_pack = HEADER.pack
_PLAIN = {int, float, bool, str, type(None)}


def write_value(fd: int, value: Any) -> None:
    """Answer with the value that the call returned.

    Raises:
        ResultError: the value could not be pickled, would not load again, or the file
            could not hold it. The file then holds no valid answer.
    """
    finished = monotonic()
    try:
        if type(value) in _PLAIN and (type(value) is not str or len(value) < SHORT_TEXT):
            # Most answers take this path. It does as little as possible: the kernel copies
            # each page that a child touches, and a pickler would touch 100 more, of 320.
            write(fd, dump_plain((finished, value)))
        else:
            _write(fd, VALUE, value, finished)
    except TaskCancelled:
        raise
    except BaseException as error:
        _take_back(fd)
        raise unsendable(value, error) from error


def unsendable(value: Any, error: BaseException) -> ResultError:
    """The error of a call whose result was refused with this error."""
    return unsendable_type(type_name(type(value)), error)


def unsendable_type(name: str, error: BaseException) -> ResultError:
    """The same, given the name of the value's type."""
    doing = "could not be sent" if isinstance(error, OSError) else "could not be pickled"
    return ResultError(
        f"the result, of type {name}, {doing}: {type(error).__name__}: {safe_str(error)}"
    )


def write_error(fd: int, error: BaseException) -> None:
    """Answer with the exception that the call raised."""
    finished = monotonic()
    _take_back(fd)
    try:
        _write(fd, ERROR, dump_exception(error), finished)
    except Exception:  # out of memory or disk, perhaps: a short answer may still succeed
        _take_back(fd)
        _write(fd, ERROR, dump_exception(_summary(error)), finished)


def _summary(error: BaseException) -> RemoteError:
    return RemoteError(type_name(type(error)), safe_str(error)[:1000])


def with_header(value: Any, content: bytes, finished: float) -> bytes:
    """A short answer that names the value's type, for a pickle that may not load elsewhere."""
    return _short(VALUE, encoded_type_name(value), content, finished)


def encode_value(value: Any, finished: float, open_file: Callable[[], int]) -> bytes | None:
    """Encode the answer of a reused worker.

    Args:
        value: the value that the call returned.
        finished: when the call ended, on the monotonic clock.
        open_file: opens a file for an answer that is long or has large buffers.

    Returns:
        A short answer; None for an answer that was written to the file.

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
    """The same for an exception that the call raised."""
    try:
        return _encode(ERROR, dump_exception(error), finished, open_file)
    except Exception:
        return _encode(ERROR, dump_exception(_summary(error)), finished, open_file)


def encode_error_summary(error: BaseException, finished: float) -> bytes:
    """The type and text of an exception, in at most :data:`~pcall._os.system.ROOM` bytes."""
    content = _encode(ERROR, dump_exception(_summary(error)), finished, no_file)
    assert content is not None
    return content


def no_file() -> int:
    """An ``open_file`` for an answer that must be short.

    Raises:
        OSError: always.
    """
    raise OSError("no file for an error of a few words")


def encoded_type_name(value: Any) -> bytes:
    """The name of the value's type, as an answer has it: at most 1000 bytes."""
    return type_name(type(value)).encode(errors="replace")[:1000]


def _take_back(fd: int) -> None:
    """Invalidate what was written, and free its memory but for the first page."""
    os.pwrite(fd, bytes(HEADER.size), 0)
    if os.fstat(fd).st_size > ROOM:
        os.ftruncate(fd, ROOM)


def _write(fd: int, kind: int, value: Any, finished: float) -> None:
    content = _encode(kind, value, finished, lambda: fd)
    if content is not None:
        write_all(fd, content, 0)


def _encode(kind: int, value: Any, finished: float, open_file: Callable[[], int]) -> bytes | None:
    """The bytes of a short answer; None for a long one, which has gone to a file then."""
    name = encoded_type_name(value)
    start = HEADER.size + len(name)
    sink = PickleSink(open_file, start)
    buffers: list[memoryview] = []

    pickler = RiskPickler(sink, 5, buffer_callback=partial(keep_large, buffers))
    pickler.dump(value)
    if pickler.risky:
        try_out(sink, buffers)

    if not buffers and sink.fd is None:
        return _short(kind, name, b"".join(sink.pieces), finished)

    write_buffers(sink, kind, name, buffers, finished)
    return None


def _short(kind: int, name: bytes, content: bytes, finished: float) -> bytes:
    total = HEADER.size + len(name) + len(content)
    return _pack(MAGIC, kind, len(name), 0, len(content), total, finished) + name + content
