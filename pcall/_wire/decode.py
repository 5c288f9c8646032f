"""The answer of a child in its own file: its layout, and reading it in the parent.

Layout, in the byte order of the machine, which both sides share:

.. code-block:: text

    header | name of the value's type | pickle | buffers, each aligned | their places

The header is valid only if the file is as long as it says. A short answer is written by one
system call. A longer one makes the file longer as it is written, and the header of the longest
is written last. So a child that dies while it writes has not answered.

A plain value (a number, a short text, None) has no header: it is a pair with the time of its
end, as :mod:`marshal` writes it. Marshal's format shows where a value ends, too.

Buffers that the pickle refers to (protocol 5: numpy arrays, and objects built on them) are
written from where they lie, and the parent maps them, with no copy between. The mapping is
private: views are writable, and a child that inherits one can't change the parent's.
"""

from __future__ import annotations

import marshal
import os
import pickle
import struct
from typing import Any, NamedTuple

from pcall._errors import ResultError
from pcall._os.signals import is_interrupt
from pcall._tuning import FIRST_READ, SMALL_FILE
from pcall._wire.exception_codec import load_exception, safe_str
from pcall._wire.mapping import map_private

__all__ = [
    "ERROR",
    "HEADER",
    "MAGIC",
    "VALUE",
    "Answer",
    "decode",
    "has_answer",
    "is_error",
    "read_answer",
]

MAGIC = b"pcall/1\0"
# Magic, kind, length of the type's name, number of buffers, length of the pickle, length of the
# file, end of the call on the monotonic clock.
HEADER = struct.Struct("8sB x H I Q Q d")
VALUE, ERROR = 0, 1


class Answer(NamedTuple):
    """The answer of a call.

    Attributes:
        value: the value that the call returned; None when it raised.
        error: the exception that it raised, or that reading the value raised; or None.
        finished: when the call ended, on the monotonic clock.
    """

    value: Any
    error: BaseException | None
    finished: float


def read_answer(fd: int) -> Answer | None:
    """Read an answer from its file; None when there is none, or when it is incomplete."""
    head = os.pread(fd, FIRST_READ, 0)
    if len(head) == FIRST_READ:
        head = os.pread(fd, SMALL_FILE, 0)
    if not head.startswith(MAGIC):
        return _read_plain(fd, head)
    if len(head) < HEADER.size:
        return None
    _, _, _, count, _, total, _ = HEADER.unpack_from(head)
    if total <= len(head) and not count:
        return decode(memoryview(head))
    if os.fstat(fd).st_size < total:
        return None
    return decode(map_private(fd, total))


def has_answer(fd: int) -> bool:
    """True when there is a complete answer in this file. None of it is unpickled."""
    head = os.pread(fd, FIRST_READ, 0)
    if head.startswith(MAGIC):
        return len(head) >= HEADER.size and os.fstat(fd).st_size >= HEADER.unpack_from(head)[5]
    if len(head) == FIRST_READ:
        head = os.pread(fd, SMALL_FILE, 0)
    return head != b"" and _read_plain(fd, head) is not None


def _read_plain(fd: int, head: bytes) -> Answer | None:
    content = head if len(head) < SMALL_FILE else map_private(fd, os.fstat(fd).st_size)
    try:
        finished, value = marshal.loads(content)
    except (EOFError, TypeError, ValueError):
        return None  # empty or incomplete
    return Answer(value, None, finished)


def is_error(head: bytes | memoryview) -> bool:
    """True when the answer with this beginning is an exception that a call raised."""
    return bool(HEADER.unpack_from(head)[1] == ERROR)


def decode(view: memoryview) -> Answer:
    """Decode the answer that these bytes begin with."""
    _, kind, name_length, count, length, total, finished = HEADER.unpack_from(view)
    start = HEADER.size + name_length
    stop = start + length
    places = struct.unpack_from(f"{2 * count}Q", view, total - 16 * count)
    buffers = [
        view[place : place + size] for place, size in zip(places[::2], places[1::2], strict=True)
    ]
    value: Any = None
    error: BaseException | None = None
    try:
        if kind == ERROR:
            # The exception's frames will refer to this frame, and keep its variables alive.
            loaded = pickle.loads(view[start:stop])
            view = memoryview(b"")
            error = load_exception(loaded)
            del loaded
        else:
            value = pickle.loads(view[start:stop], buffers=buffers)
    except BaseException as problem:
        if is_interrupt(problem):
            raise  # an error of the pickle itself was seen in the child
        name = bytes(view[HEADER.size : start]).decode()
        error = ResultError(
            f"the result, of type {name}, could not be unpickled: "
            f"{type(problem).__name__}: {safe_str(problem)}"
        )
        error.__cause__ = problem
    return Answer(value, error, finished)
