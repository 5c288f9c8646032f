"""Calls of a worker whose initializer has failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

from pcall._core.calls import Calls

__all__ = ["FailingCalls"]


class FailingCalls(Calls):
    """Calls that look like others, and fail with one error.

    Args:
        calls: the others.
        error: of the initializer.
    """

    def __init__(self, calls: Calls, error: BaseException) -> None:
        super().__init__(len(calls), None, (), {})
        self._calls, self._error = calls, error

    def __getitem__(self, index: Any) -> Any:
        return self._calls[index]

    def results(self, start: int, stop: int) -> Iterator[Any]:
        return map(self._fail, repeat(None, stop - start))

    def _fail(self, _: None) -> None:
        raise self._error
