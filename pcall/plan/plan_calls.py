"""Adapts the calls of a plan to the interface that a run uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, Protocol

from pcall._core.calls import Calls
from pcall._core.records import Call, show
from pcall.plan.nodes import Lit, Node, resolve
from pcall.plan.plan import Plan
from pcall.plan.plan_call import PlanCall

__all__ = ["PlanCalls", "ValueSource"]

__tracebackhide__ = True  # pytest shows the frames of its user


class ValueSource(Protocol):
    """Has the values of finished calls, where further calls are made."""

    def value_of(self, index: int) -> Any:
        """The value of a finished call."""

    def begin_call(self) -> None:
        """The next call has all its arguments, and is made now."""


class PlanCalls(Calls):
    """The calls of a plan.

    Args:
        plan: the plan.
        decorator: decorates each function; None: functions are called as they are.
        values: the values of finished calls; None: these calls can't be made, see
            :meth:`bound_to`.

    Attributes:
        plan: the plan.
    """

    def __init__(
        self,
        plan: Plan,
        decorator: Callable[[Any], Any] | None = None,
        values: ValueSource | None = None,
    ) -> None:
        super().__init__(len(plan.calls), None, (), {})
        self.plan = plan
        self._nodes = plan.calls
        self._decorator = decorator
        self._values = values
        self._decorated_functions: dict[int, Any] = {}

    def bound_to(self, values: ValueSource) -> PlanCalls:
        """The same calls, with a source for the values in their arguments."""
        return PlanCalls(self.plan, self._decorator, values)

    def function_of(self, node: PlanCall) -> Any:
        """The function of a call, decorated once for all calls of it."""
        if self._decorator is None:
            return node.fn
        known = self._decorated_functions.get(id(node.fn))
        if known is None:
            known = self._decorated_functions[id(node.fn)] = self._decorated(node)
        return known

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        node = self._nodes[index]
        return Call(node.index, node.fn, node.args, dict(node.kwargs))

    def name(self, index: int) -> str:
        return self._nodes[index].name

    def scope(self, index: int) -> tuple[str, ...]:
        node = self._nodes[index]
        return tuple(map(str, node.scope)) or (node.name,)

    def scopes(self, start: int, stop: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
        for scope, indices in groupby(range(start, stop), self.scope):
            places = list(indices)
            yield scope, places[0], places[-1] + 1

    def results(self, start: int, stop: int) -> Iterator[Any]:
        # A map object, unlike a generator, does not refer to the arguments of the last call.
        return map(self._make, self._nodes[start:stop])

    def _make(self, node: PlanCall) -> Any:
        assert self._values is not None, "these calls are bound to no values"
        value_of = self._values.value_of
        fn = node.fn if self._decorator is None else self._decorated(node)
        args = [resolve(value, value_of) for value in node.args]
        kwargs = {name: resolve(value, value_of) for name, value in node.kwargs.items()}
        self._values.begin_call()
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
