"""Calls that are added one by one while others run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from itertools import starmap
from typing import Any, NamedTuple

from pcall._core.calls import CallParts, Calls, make_call
from pcall._core.records import Call, name_of

__all__ = ["GrowingCalls"]


class _Entry(NamedTuple):
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    context: Context | None
    pickled: bytes | None


class GrowingCalls(Calls):
    """Calls that are not all known when the run starts.

    A process that was forked before a call was added does not have that call.

    Args:
        first: the number of the first call.
        kept: False: a call can be forgotten once it is over.
        shared: an object that pickles of calls refer to, and that processes inherit, or None.
    """

    def __init__(self, first: int = 0, kept: bool = True, shared: Any = None) -> None:
        super().__init__(first, None, (), {})
        self._entries: dict[int, _Entry] = {}
        self.kept = kept
        self.shared = shared

    def append(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: Context | None = None,
        pickled: bytes | None = None,
    ) -> int:
        """Add a call.

        Args:
            target: the callable.
            args: positional arguments.
            kwargs: keyword arguments.
            context: the context variables that it sees; None: those of the run.
            pickled: the three as a pickle, for workers that were forked before; None: only a
                process that is forked from now on can run the call.

        Returns:
            Its index.
        """
        index = self._count
        self._entries[index] = _Entry(target, args, kwargs, context, pickled)
        self._count += 1
        return index

    def forget(self, index: int) -> None:
        """Drop a call that is over."""
        self._entries.pop(index, None)

    def pickled(self, index: int) -> bytes | None:
        """The pickle of a call; None if it has none."""
        entry = self._entries.get(index)
        return None if entry is None else entry.pickled

    def context(self, index: int) -> Context | None:
        return self._entries[index].context

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        target, args, kwargs, _, _ = self._entries[index]
        return Call(index, target, args, dict(kwargs))

    def scope(self, index: int) -> tuple[str, ...]:
        return (name_of(self._entries[index].target),)

    def scopes(self, start: int, stop: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
        for index in range(start, stop):
            yield self.scope(index), index, index + 1

    def results(self, start: int, stop: int) -> Iterator[Any]:
        return starmap(make_call, self.parts(start, stop))

    def parts(self, start: int, stop: int) -> Iterator[CallParts]:
        return map(self._parts, range(start, stop))

    def _parts(self, index: int) -> CallParts:
        return self._entries[index][:3]
