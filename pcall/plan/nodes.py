"""What stands in a plan, and in the arguments of its calls, for values that are not there yet."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from pcall._core.records import name_of, show
from pcall._wire.exception_codec import safe_str

if TYPE_CHECKING:
    from pcall.plan.plan import Plan

__all__ = ["Gather", "Item", "Lit", "Node", "Place", "PlanCall", "plans", "resolve"]

#: The plans there are, by key: a call that was pickled is found again.
plans: weakref.WeakValueDictionary[str, Plan] = weakref.WeakValueDictionary()


class Place(NamedTuple):
    """Where in the source a call was planned.

    Attributes:
        filename: of the source.
        line: number of the line, from 1.
        function: name of the function that it is in.
    """

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'File "{self.filename}", line {self.line}, in {self.function}'


class Node:
    """A value that is not there yet. It may stand anywhere in the arguments of later calls.

    Attributes:
        plan: the plan that it belongs to.
        vertices: what it waits for: numbers of calls, and of gathers, which are negative.
        hashable: True when its value may be, as far as can be told now.
    """

    __slots__ = ("__weakref__", "hashable", "plan", "vertices")

    plan: Plan
    vertices: tuple[int, ...]
    hashable: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return Elsewhere, (repr(self),)


class PlanCall(Node):
    """A planned call. Its value is known once a run has made it.

    Attributes:
        index: its place in plan order, from 0.
        fn: the callable.
        args: positional arguments; containers that hold calls have become gathers.
        kwargs: keyword arguments, likewise.
        name: what it is called in messages and pictures; the function's name, unless set.
        scope: the names of the scopes that it was planned in, the outermost first.
        locality: for a cluster: a function or mapping of worker to number (0 indifferent, -1
            forbidden, 1 and up preferred). Without meaning on one machine.
        place: where it was planned.
        started: True once a run has started it.
        done: True once it is over, well or not, or was settled from outside.
    """

    __slots__ = (
        "_priority",
        "args",
        "done",
        "fn",
        "index",
        "kwargs",
        "locality",
        "name",
        "place",
        "scope",
        "settled",
        "started",
    )

    def __init__(
        self,
        plan: Plan,
        index: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scope: tuple[Hashable, ...],
        place: Place,
    ) -> None:
        self.plan = plan
        self.index = index
        self.vertices = (index,)
        self.hashable = True
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.name = name_of(fn)
        self.scope = scope
        self._priority: float = 0
        self.locality: Callable[[Any], float] | Mapping[Any, float] | None = None
        self.place = place
        self.started = self.done = False
        self.settled: tuple[Any, BaseException | None] | None = None  # from outside

    @property
    def priority(self) -> float:
        """Of calls that are ready, those with the higher one start first; default 0."""
        return self._priority

    @priority.setter
    def priority(self, value: float) -> None:
        if not isinstance(value, Real) or value != value:
            raise TypeError(f"priority must be a number, not {show(value)}")
        self._priority = value

    def __repr__(self) -> str:
        return f"<call {self.index}: {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self.plan.key, self.index, repr(self))


def _find(key: str, index: int, shown: str) -> PlanCall | Elsewhere:
    plan = plans.get(key)
    return Elsewhere(shown) if plan is None else plan.calls[index]


class Elsewhere:
    """Stands for what is part of a plan of another process, in errors that come from there."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class Item(Node):
    """One of several values that a call returns."""

    __slots__ = ("count", "number", "of")

    def __init__(self, of: Node, number: int, count: int) -> None:
        self.plan = of.plan
        self.vertices = of.vertices
        self.hashable = True
        self.of = of
        self.number = number
        self.count = count

    def __repr__(self) -> str:
        return f"<item {self.number} of {self.of!r}>"


class Lit(Node):
    """A value that is there, and is passed as it is: nothing is looked for in it."""

    __slots__ = ("value",)

    def __init__(self, plan: Plan, value: Any) -> None:
        self.plan = plan
        self.vertices = ()
        self.value = value
        try:
            hash(value)
            self.hashable = True
        except TypeError:
            self.hashable = False

    def __repr__(self) -> str:
        return f"<lit {show(self.value)}>"


class Gather(Node):
    """A container with calls in it.

    Attributes:
        kind: the container's type.
        parts: what is in it.
        build: makes the container of the values of the parts.
        keys: the parts that have to be hashable.
        number: that of its vertex; None when what uses it waits for its calls directly.
    """

    __slots__ = ("build", "keys", "kind", "number", "parts")

    def __init__(
        self,
        plan: Plan,
        kind: type,
        parts: Sequence[Any],
        build: Callable[[list[Any]], Any],
        keys: Sequence[Any],
        hashable: bool,
    ) -> None:
        self.plan = plan
        self.kind = kind
        self.parts = parts
        self.build = build
        self.keys = keys
        self.hashable = hashable
        self.vertices = ()
        self.number: int | None = None

    def __repr__(self) -> str:
        shown = [repr(part) if isinstance(part, Node) else show(part) for part in self.parts[:6]]
        more = ", ..." if len(self.parts) > 6 else ""
        return f"<{self.kind.__name__} of {', '.join(shown)}{more}>"


def resolve(node: Any, value_of: Callable[[int], Any]) -> Any:
    """The value of a node, or of anything else as it is.

    Args:
        node: the node.
        value_of: gives the value of a call that is done, by its index.

    Raises:
        TypeError: a call returned something unhashable, and is a key; or what has no items, and
            was unpacked.
        ValueError: a call returned another number of values than it was unpacked to.
    """
    if not isinstance(node, Node):
        return node
    if isinstance(node, PlanCall):
        return value_of(node.index)
    if isinstance(node, Gather):
        values = [resolve(part, value_of) for part in node.parts]
        try:
            return node.build(values)
        except TypeError as error:
            _blame_key(node, value_of, error)
            raise
    if isinstance(node, Item):
        whole = resolve(node.of, value_of)
        try:
            items = tuple(whole)
        except TypeError as error:
            raise TypeError(
                f"{node.of!r} returned {show(whole)}, and was unpacked to {node.count} values: "
                f"{safe_str(error)}"
            ) from error
        if len(items) != node.count:
            raise ValueError(
                f"{node.of!r} returned {len(items)} values; it was unpacked to {node.count}"
            )
        return items[node.number]
    assert isinstance(node, Lit)
    return node.value


def _blame_key(gather: Gather, value_of: Callable[[int], Any], error: TypeError) -> None:
    for key in gather.keys:
        try:
            hash(resolve(key, value_of))
        except TypeError:
            raise TypeError(
                f"the value of {key!r} is a key of a {gather.kind.__name__}, "
                f"and can't be one: {safe_str(error)}"
            ) from error
