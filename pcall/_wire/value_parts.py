"""A value as its pickle and its large buffers, before anything of it is written.

A plan's worker takes a value apart to hand it to the next call without a copy, and writes the
parts when another worker needs the value after all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from pcall._errors import TaskCancelled
from pcall._wire.answer_file import PickleSink, write_buffers
from pcall._wire.decode import HEADER, VALUE
from pcall._wire.encode import encoded_type_name, no_file, unsendable_type
from pcall._wire.pickling import RiskPickler, keep_large

__all__ = ["ValueParts", "take_apart", "write_parts"]


class ValueParts(NamedTuple):
    """A value taken apart.

    Attributes:
        name: of its type.
        stream: its pickle.
        buffers: large buffers that the pickle refers to, where they lie.
    """

    name: bytes
    stream: bytes
    buffers: list[memoryview]


def take_apart(value: Any) -> ValueParts | None:
    """Take apart a value that has large buffers and a short pickle, whose loading is safe.

    Returns:
        None for any other value, and for one that can't be pickled.
    """
    buffers: list[memoryview] = []
    sink = PickleSink(no_file, 0)
    pickler = RiskPickler(sink, 5, buffer_callback=partial(keep_large, buffers))
    try:
        pickler.dump(value)
    except TaskCancelled:
        raise
    except BaseException:
        return None
    if pickler.risky or not buffers:
        return None
    return ValueParts(encoded_type_name(value), b"".join(sink.pieces), buffers)


def write_parts(parts: ValueParts, finished: float, open_file: Callable[[], int]) -> None:
    """Answer with a value that was taken apart.

    The file is the same as :func:`~pcall._wire.encode.encode_value` writes.

    Raises:
        ResultError: the file could not hold the value.
    """
    sink = PickleSink(open_file, HEADER.size + len(parts.name))
    try:
        sink.write(parts.stream)
        write_buffers(sink, VALUE, parts.name, parts.buffers, finished)
    except OSError as error:
        raise unsendable_type(parts.name.decode(errors="replace"), error) from error
