"""``map`` of an executor: submits calls, and yields their results in call order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from pcall._core.seconds import check_seconds

__all__ = ["lazy_map"]

__tracebackhide__ = True  # pytest shows the frames of its user


def lazy_map(
    submit: Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], list[Any]],
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """See :meth:`pcall.Executor.map`."""
    if isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1:
        raise ValueError(f"chunksize must be an int of 1 or more, not {chunksize!r}")
    if buffersize is not None:
        if isinstance(buffersize, bool) or not isinstance(buffersize, int):
            raise TypeError(f"buffersize must be an int or None, not {buffersize!r}")
        if buffersize < 1:
            raise ValueError(f"buffersize must be None or > 0, not {buffersize!r}")
    end = None if timeout is None else time.monotonic() + check_seconds("timeout", timeout)
    items = zip(*iterables, strict=False)
    futures = deque(submit(fn, items if buffersize is None else islice(items, buffersize)))
    return _results(submit, fn, items, futures, end)


def _results(
    submit: Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], list[Any]],
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    futures: deque[Any],
    end: float | None,
) -> Iterator[Any]:
    try:
        while futures:
            futures += submit(fn, islice(items, 1))
            # No variable here refers to a result while it is in use.
            yield _wait(futures, end)
    finally:
        _drop(futures)


def _wait(futures: deque[Any], end: float | None) -> Any:
    """The result of the first call, which is taken out."""
    try:
        return futures[0].result(None if end is None else end - time.monotonic())
    except TimeoutError:
        if not futures[0].done():
            for future in futures:
                future.cancel()
        raise
    finally:
        if futures[0].done():
            futures.popleft()


def _drop(futures: Iterable[Any]) -> None:
    """Cancel the calls that have not started."""
    for future in futures:
        future.cancel_if_pending()
