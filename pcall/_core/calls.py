"""The calls of a run, kept as columns: a hundred thousand are no objects until asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, repeat, starmap
from operator import itemgetter
from types import FunctionType
from typing import Any

from pcall._core.records import Call, name_of, show

__all__ = ["Calls"]

Parts = tuple[Any, tuple[Any, ...], Mapping[str, Any]]


class Calls(Sequence[Call]):
    """Calls in call order. What is the same for all is kept once.

    Args:
        count: how many there are.
        target: the callable of all, unless ``targets`` are given.
        common: positional arguments of all, unless ``args`` are given.
        common_kwargs: keyword arguments of all, unless ``kwargs`` are given.
        targets: a callable for each call.
        args: positional arguments for each call.
        kwargs: keyword arguments for each call.
        names: of further keyword arguments.
        rows: for each call the values for these names.
    """

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
        ((target, args, kwargs),) = self.parts(index, index + 1)
        return Call(index, target, args, dict(kwargs))

    def scope(self, index: int) -> tuple[str, ...]:
        """What a call is counted under: the function's name."""
        target = self._target if self._targets is None else self._targets[index]
        return (name_of(target),)

    def scopes(self, start: int, stop: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """These calls in runs of one scope each: the scope, the first, the one behind the last."""
        if self._targets is None:
            if start < stop:
                yield self.scope(start), start, stop
            return
        for scope, indices in groupby(range(start, stop), self.scope):
            places = list(indices)
            yield scope, places[0], places[-1] + 1

    def decorate(self, decorator: Callable[[Any], Any]) -> None:
        """Put this around each target.

        Raises:
            TypeError: what the decorator returned can't be called.
        """
        if self._targets is None:
            self._target = _decorated(decorator, self._target)
        else:
            self._targets = [_decorated(decorator, target) for target in self._targets]

    def results(self, start: int, stop: int) -> Iterator[Any]:
        """Make these calls, one with each step of the iterator.

        What a call raises is raised by its step as it is, ``StopIteration`` too: so count the
        steps, a ``for`` loop would take it for the end. And so nothing here is a generator.
        """
        positional = self._positional(start, stop)
        if positional is not None:
            # In C between two calls: for trivial ones that is most of what they take.
            return starmap(self._target, positional)
        return starmap(_call, self.parts(start, stop))

    def _positional(self, start: int, stop: int) -> Iterable[tuple[Any, ...]] | None:
        """The positional arguments of each of these calls, where they have no others.

        Those that are named as a function names its first parameters are as good as positional.
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

    def parts(self, start: int, stop: int) -> Iterator[Parts]:
        """Target, positional and keyword arguments of each of these calls."""
        targets = repeat(self._target) if self._targets is None else self._targets[start:stop]
        args = repeat(self._common) if self._args is None else self._args[start:stop]
        kwargs: Any = repeat(self._common_kwargs, stop - start)
        if self._kwargs is not None:
            kwargs = self._kwargs[start:stop]
        if self._rows is not None:
            # In C as far as possible: this is most of what a trivial call takes.
            named = map(dict, map(zip, repeat(self._names), self._rows[start:stop]))
            common = self._kwargs is not None or self._common_kwargs
            kwargs = map(_merged, kwargs, named) if common else named
        return zip(targets, args, kwargs)  # noqa: B905 - some repeat for ever


def _first_parameters(target: Any, count: int) -> tuple[str, ...]:
    """The names of a function's first parameters; fewer where it takes not so many by name."""
    if type(target) is not FunctionType or target.__code__.co_posonlyargcount:
        return ()
    code = target.__code__
    return code.co_varnames[: min(count, code.co_argcount)]


def _decorated(decorator: Callable[[Any], Any], target: Any) -> Any:
    decorated = decorator(target)
    if not callable(decorated):
        raise TypeError(f"retry={show(decorator)} must return a callable, not {show(decorated)}")
    return decorated


def _call(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return target(*args, **kwargs)


def _merged(common: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    return {**common, **named}
