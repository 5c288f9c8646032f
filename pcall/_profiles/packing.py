"""Profiles as bytes, small enough to be kept for each call."""

from __future__ import annotations

import marshal
from typing import Any
from zlib import compress, decompress

from pcall._profiles.cpu_rows import CpuRows

__all__ = ["MemoryRows", "pack_cpu", "pack_memory", "unpack_cpu", "unpack_memory"]

#: By file and line: bytes, and number of blocks.
MemoryRows = dict[tuple[str, int], tuple[int, int]]


def pack_cpu(rows: CpuRows) -> bytes:
    """Pack the rows of a processor profile. Each function, and each file, is there once."""
    numbers: dict[Any, int] = {}

    def number_of(function: Any) -> int:
        return numbers.setdefault(function, len(numbers))

    plain = [
        (
            number_of(function), *row[:4],
            [(number_of(caller), *each) for caller, each in row[4].items()],
        )
        for function, row in rows.items()
    ]  # fmt: skip
    return _pack((list(numbers), plain))


def unpack_cpu(content: bytes) -> CpuRows:
    """The rows that :func:`pack_cpu` was given."""
    functions, plain = _unpack(content)
    return {
        functions[number]: (
            primitive, calls, own, total,
            {functions[caller]: tuple(each) for caller, *each in callers},
        )
        for number, primitive, calls, own, total, callers in plain
    }  # fmt: skip


def pack_memory(rows: MemoryRows) -> bytes:
    """Pack the rows of a memory profile."""
    return _pack([(*place, *sums) for place, sums in rows.items()])


def unpack_memory(content: bytes) -> MemoryRows:
    """The rows that :func:`pack_memory` was given."""
    return {(file, line): (size, count) for file, line, size, count in _unpack(content)}


# Bytes from which rows are compressed. A compressor takes a quarter of a megabyte of memory, which
# a fresh child would have to get first.
_LARGE = 4096
_PLAIN, _COMPRESSED = b"\0", b"\1"


def _pack(plain: Any) -> bytes:
    content = marshal.dumps(plain)
    return _PLAIN + content if len(content) < _LARGE else _COMPRESSED + compress(content, 1)


def _unpack(content: bytes) -> Any:
    rest = content[1:]
    return marshal.loads(rest if content[:1] == _PLAIN else decompress(rest))
