"""The answer of a child: a file that it writes and that the parent reads or maps.

Layout, in the byte order of the machine, which both sides share:

.. code-block:: text

    header | name of the value's type | pickle | buffers, each aligned | their places

The header counts for nothing unless the file is as long as it says. An answer of a page is
written at one stroke, a longer one makes the file longer as it is written, and of the longest
the header is written last. So a child that dies while it writes has not answered.

A plain value (a number, a text, None) has no header: it is a pair with the time of its end, as
:mod:`marshal` writes it, which has an end that can be seen, too.

Buffers that the pickle refers to (protocol 5: numpy arrays, and what is built on them) are
written from where they lie and mapped by the parent, with no copy between. The mapping is
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
from pcall._wire.exception_codec import load_exception, safe_str
from pcall._wire.mapping import map_private

__all__ = ["ERROR", "HEADER", "MAGIC", "VALUE", "Answer", "decode", "is_error", "read_answer"]

MAGIC = b"pcall/1\0"
# magic, kind, length of the type's name, buffers, length of the pickle, length of the
# file, monotonic time of the end.
HEADER = struct.Struct("8sB x H I Q Q d")
VALUE, ERROR = 0, 1
_FIRST = 400  # bytes that most answers are shorter than: no memory from malloc to read them
_SMALL = 64 << 10  # bytes of a file that is read; a larger one is mapped


class Answer(NamedTuple):
    """What a child answered.

    Attributes:
        value: what the call returned.
        error: what it raised, or None.
        finished: when it had the answer, on the monotonic clock.
    """

    value: Any
    error: BaseException | None
    finished: float


def read_answer(fd: int) -> Answer | None:
    """What the child answered; None when it has not, or not to the end."""
    head = os.pread(fd, _FIRST, 0)
    if len(head) == _FIRST:
        head = os.pread(fd, _SMALL, 0)
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


def _read_plain(fd: int, head: bytes) -> Answer | None:
    content = head if len(head) < _SMALL else map_private(fd, os.fstat(fd).st_size)
    try:
        finished, value = marshal.loads(content)
    except (EOFError, TypeError, ValueError):
        return None  # nothing, or not to the end
    return Answer(value, None, finished)


def is_error(head: bytes | memoryview) -> bool:
    """True when the answer that begins so tells what a call raised."""
    return bool(HEADER.unpack_from(head)[1] == ERROR)


def decode(view: memoryview) -> Answer:
    """The answer that these bytes begin with."""
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
            # Its frames will lead here, and keep alive what is found here.
            loaded = pickle.loads(view[start:stop])
            view = memoryview(b"")
            error = load_exception(loaded)
            del loaded
        else:
            value = pickle.loads(view[start:stop], buffers=buffers)
    except BaseException as problem:
        if is_interrupt(problem):
            raise  # what the stream itself raises was seen in the child
        name = bytes(view[HEADER.size : start]).decode()
        error = ResultError(
            f"the result, of type {name}, could not be unpickled: "
            f"{type(problem).__name__}: {safe_str(problem)}"
        )
        error.__cause__ = problem
    return Answer(value, error, finished)
