"""Calls that are added one by one while others run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pcall._core.calls import Calls

__all__ = ["GrowingCalls"]


class GrowingCalls(Calls):
    """Calls that are not all known when the run starts.

    A process that was forked before a call was added does not have that call.
    """

    def __init__(self) -> None:
        super().__init__(0, None, (), {}, targets=[], args=[], kwargs=[])

    def append(
        self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> int:
        """Add a call.

        Returns:
            Its index.
        """
        assert self._targets is not None
        assert self._args is not None
        assert self._kwargs is not None
        self._targets.append(target)
        self._args.append(args)
        self._kwargs.append(dict(kwargs))
        self._count += 1
        return self._count - 1
