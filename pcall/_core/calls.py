"""The calls of a run, stored as columns.

A run may have 100 000 calls, so :class:`~pcall._core.records.Call` objects are made on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from itertools import groupby, repeat, starmap
from operator import itemgetter
from types import FunctionType
from typing import Any

from pcall._core.records import Call, name_of, show

__all__ = ["CallParts", "Calls", "decorated", "make_call"]

__tracebackhide__ = True  # pytest shows the frames of its user

# Target, positional and keyword arguments of a call. A plain tuple, since it is made for each
# trivial call, and unpacked in C.
CallParts = tuple[Any, tuple[Any, ...], Mapping[str, Any]]


class Calls(Sequence[Call]):
    """Calls in call order. A value that all calls share is stored once.

    Args:
        count: the number of calls.
        target: the callable of all calls, unless ``targets`` is given.
        common: the positional arguments of all calls, unless ``args`` is given.
        common_kwargs: the keyword arguments of all calls, unless ``kwargs`` is given.
        targets: for each call, its callable.
        args: for each call, its positional arguments.
        kwargs: for each call, its keyword arguments.
        names: the names of further keyword arguments.
        rows: for each call, the values of ``names``.
    """

    kept = True  # False: a call can be forgotten once it is over

    def __init__(
        self,
        count: int,
        target: Any,
        common: tuple[Any, ...],
        common_kwargs: Mapping[str, Any],
        *,
        targets: list[Any] | None = None,
        args: list[tuple[Any, ...]] | None = None,
        kwargs: list[dict[str, Any]] | None = None,
        names: tuple[str, ...] = (),
        rows: list[tuple[Any, ...]] | None = None,
    ) -> None:
        self._count = count
        self._target, self._targets = target, targets
        self._common, self._args = common, args
        self._common_kwargs, self._kwargs = common_kwargs, kwargs
        self._names, self._rows = names, rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        target, args, kwargs = next(self.parts(index, index + 1))
        return Call(index, target, args, dict(kwargs))

    @property
    def targets(self) -> Sequence[Any]:
        """The callables: one for all calls, or one for each."""
        return (self._target,) if self._targets is None else self._targets

    def name(self, index: int) -> str:
        """The name of a call's function."""
        return name_of(self._target if self._targets is None else self._targets[index])

    def scope(self, index: int) -> tuple[str, ...]:
        """The names that progress counts a call under: the name of its function."""
        target = self._target if self._targets is None else self._targets[index]
        return (name_of(target),)

    def context(self, index: int) -> Context | None:
        """The context variables of a call; None: those of the run."""
        return None

    def scopes(self, start: int, stop: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """Split a range of calls by scope.

        Yields:
            Scope, start and stop of each part whose calls have the same scope.
        """
        if self._targets is None:
            if start < stop:
                yield self.scope(start), start, stop
            return
        for scope, indices in groupby(range(start, stop), self.scope):
            places = list(indices)
            yield scope, places[0], places[-1] + 1

    def decorate(self, decorator: Callable[[Any], Any]) -> None:
        """Apply a decorator to each target.

        Raises:
            TypeError: the decorator returned an object that is not callable.
        """
        if self._targets is None:
            self._target = decorated(decorator, self._target)
        else:
            self._targets = [decorated(decorator, target) for target in self._targets]

    def results(self, start: int, stop: int) -> Iterator[Any]:
        """An iterator that makes the next call at each step, and returns its value.

        An exception of the call leaves ``next()`` as it is, also a ``StopIteration``. A ``for``
        loop would take that for the end, so the caller has to count the steps. For the same
        reason the iterator is not a generator, which would replace it by a ``RuntimeError``.
        """
        positional = self._positional(start, stop)
        if positional is not None:
            # Stay in C between two calls: else trivial ones take 1.7 times as long.
            return starmap(self._target, positional)
        return starmap(make_call, self.parts(start, stop))

    def _positional(self, start: int, stop: int) -> Iterable[tuple[Any, ...]] | None:
        """The arguments of these calls, if all of them can be passed by position; else None.

        Keyword arguments can if their names are those of the function's first parameters.
        """
        if self._targets is not None or self._common_kwargs or self._kwargs:
            return None
        if self._rows is None:
            return None if self._args is None else self._args[start:stop]
        first = _first_parameters(self._target, len(self._names))
        if self._args is not None or self._common or set(first) != set(self._names):
            return None
        rows = self._rows[start:stop]
        return (
            rows if first == self._names else map(itemgetter(*map(self._names.index, first)), rows)
        )

    def parts(self, start: int, stop: int) -> Iterator[CallParts]:
        """The target, positional and keyword arguments of each of these calls."""
        targets = repeat(self._target) if self._targets is None else self._targets[start:stop]
        args = repeat(self._common) if self._args is None else self._args[start:stop]
        kwargs: Any = repeat(self._common_kwargs, stop - start)
        if self._kwargs is not None:
            kwargs = self._kwargs[start:stop]
        if self._rows is not None:
            # Stay in C as far as possible: this is most of the time of a trivial call.
            named = map(dict, map(zip, repeat(self._names), self._rows[start:stop]))
            common = self._kwargs is not None or self._common_kwargs
            kwargs = map(_merged, kwargs, named) if common else named
        return zip(targets, args, kwargs)  # noqa: B905 - some of them are endless


def _first_parameters(target: Any, count: int) -> tuple[str, ...]:
    """The names of a function's first ``count`` parameters; fewer if it has fewer."""
    if type(target) is not FunctionType or target.__code__.co_posonlyargcount:
        return ()
    code = target.__code__
    return code.co_varnames[: min(count, code.co_argcount)]


def decorated(decorator: Callable[[Any], Any], target: Any) -> Any:
    """Apply a decorator to a target.

    Raises:
        TypeError: the decorator returned an object that is not callable.
    """
    made = decorator(target)
    if not callable(made):
        raise TypeError(f"retry={show(decorator)} must return a callable, not {show(made)}")
    return made


def make_call(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a target, and return its value."""
    return target(*args, **kwargs)


def _merged(common: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    return {**common, **named}
