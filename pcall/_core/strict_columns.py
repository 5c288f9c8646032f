"""Columns of arguments under the option ``strict``: equal lengths, and no text for values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pcall._core.records import show

__all__ = ["refuse_text", "strict_rows"]

__tracebackhide__ = True  # pytest shows the frames of its user

_END = object()


def refuse_text(name: str, value: Any) -> None:
    """Refuse a str or bytes: its characters would be taken for values.

    Raises:
        ValueError: it is one; the text names the argument and its length.
    """
    if isinstance(value, str | bytes):
        kind = type(value).__name__
        raise ValueError(
            f"{name} is {show(value)}, a {kind} of length {len(value)}, whose items would be taken "
            f"for values; strict=True expects a list or another iterable of values"
        )


def strict_rows(
    columns: Mapping[str, Iterator[Any]], sources: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """Read columns together, as ``zip`` does, and see to it that all end at once.

    Args:
        columns: iterators by name.
        sources: by name, the objects that they read from.

    Raises:
        ValueError: they have different lengths; the text names the columns and their lengths. One
            that does not know its length is not read further than by one value.
    """
    count = 0
    while True:
        row = tuple(next(column, _END) for column in columns.values())
        ended = [value is _END for value in row]
        if all(ended):
            return
        if any(ended):
            lengths = [
                f"{name} has {_length(sources[name], count, end)}"
                for name, end in zip(columns, ended, strict=True)
            ]
            raise ValueError(f"strict=True, and the lengths differ: {', '.join(lengths)}")
        yield row
        count += 1


def _length(source: Iterable[Any], count: int, ended: bool) -> str:
    if ended:
        return str(count)
    try:
        return str(len(source))  # type: ignore[arg-type]
    except TypeError:
        return f"more than {count}"
