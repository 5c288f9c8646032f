"""Adapts the calls of a plan to the interface that a run uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.calls import Calls
from pcall._core.records import Call, show
from pcall.plan.nodes import Lit, Node, resolve
from pcall.plan.plan import Plan, PlanCall

__all__ = ["PlanCalls"]


class PlanCalls(Calls):
    """The calls of a plan.

    Args:
        plan: the plan.
        decorator: what is to be put around each function, or None.

    Attributes:
        value_of: gives the value of a call that is done; set by whoever makes the calls.
        is_needed: tells whether a call is part of the run.
        begins: told that a call has all its arguments, and is made now.
    """

    value_of: Callable[[int], Any]

    def __init__(self, plan: Plan, decorator: Callable[[Any], Any] | None = None) -> None:
        super().__init__(len(plan.calls), None, (), {})
        self.plan = plan
        self._nodes = plan.calls
        self._decorator = decorator
        self.is_needed: Callable[[int], Any] = bool
        self.begins: Callable[[], object] = _nothing

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        node = self._nodes[index]
        return Call(node.index, node.fn, node.args, dict(node.kwargs))

    def scope(self, index: int) -> tuple[str, ...]:
        node = self._nodes[index]
        return tuple(map(str, node.scope)) or (node.name,)

    def scopes(self, start: int, stop: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
        first = start
        for index in range(start, stop + 1):
            whole = index < stop and self.is_needed(index)
            if index > first and not (whole and self.scope(index) == self.scope(first)):
                yield self.scope(first), first, index
                first = index
            if not whole:
                first = index + 1

    def results(self, start: int, stop: int) -> Iterator[Any]:
        # A map object, unlike a generator, does not refer to the arguments of the last call.
        return map(self._make, self._nodes[start:stop])

    def _make(self, node: PlanCall) -> Any:
        value_of = self.value_of
        fn = node.fn if self._decorator is None else self._decorated(node)
        args = [resolve(value, value_of) for value in node.args]
        kwargs = {name: resolve(value, value_of) for name, value in node.kwargs.items()}
        self.begins()
        try:
            return fn(*args, **kwargs)
        except Exception as error:
            _note_given(error, node, [*args, *kwargs.values()])
            raise

    def _decorated(self, node: PlanCall) -> Any:
        assert self._decorator is not None
        fn = self._decorator(node.fn)
        if not callable(fn):
            raise TypeError(f"retry={show(self._decorator)} must return a callable, not {show(fn)}")
        return fn


def _nothing() -> None:
    pass


_GIVEN = "given to call "


def _note_given(error: Exception, node: PlanCall, values: list[Any]) -> None:
    """Add a note with the values that the call got, since messages show arguments as planned."""
    planned = [*node.args, *node.kwargs.values()]
    given = [
        f"{place!r} = {show(value)}"
        for place, value in zip(planned, values, strict=True)
        if isinstance(place, Node) and not isinstance(place, Lit)
    ]
    if not given:
        return
    # A user's exception class may refuse notes.
    with suppress(Exception):
        # An exception object that is raised repeatedly has the notes of earlier calls.
        before = [note for note in getattr(error, "__notes__", ()) if not note.startswith(_GIVEN)]
        error.__notes__ = [*before, f"{_GIVEN}{node.index}: {', '.join(given)}"]
