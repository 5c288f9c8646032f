"""Trivial calls, a fresh process for each, under a parent of 500 MB."""

from __future__ import annotations

from collections.abc import Iterator

from fork import rows
from measure import Row, main, swell

SIZE = 500_000_000


def measure(quick: bool) -> Iterator[Row]:
    """Fewer calls than under a small parent: each one takes ten times as long."""
    swell(SIZE)
    sizes = (3, 100) if quick else (3, 100, 1000)
    yield from rows(sizes, 100 if quick else 600, 1.10, ", parent of 500 MB")


if __name__ == "__main__":
    main(measure)
