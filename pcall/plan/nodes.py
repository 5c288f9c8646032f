"""Nodes: placeholders for values that a plan has not computed yet.

A node may stand anywhere in the arguments of calls. :func:`resolve` replaces it by its value.
The most common node, :class:`~pcall.plan.plan.PlanCall`, is defined together with the plan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic

from pcall._core.records import show
from pcall._types import T_co
from pcall._wire.exception_codec import safe_str
from pcall.plan.graph import Graph

__all__ = [
    "ForeignNode",
    "Gather",
    "Item",
    "Lit",
    "Node",
    "PlanBase",
    "ValueOf",
    "resolve",
]

__tracebackhide__ = True  # pytest shows the frames of its user

# Returns the value of a finished call, by its index.
ValueOf = Callable[[int], Any]


class PlanBase:
    """The part of a plan that its nodes use.

    Attributes:
        graph: the dependencies between its calls.
        calls: the planned calls, in plan order.
        key: identifies the plan in calls that were pickled.
    """

    calls: list[Any]

    def __init__(self) -> None:
        self.graph: Graph = Graph()
        self.key: str = os.urandom(8).hex()


class Node(Generic[T_co]):
    """A value that is not there yet. It may stand anywhere in the arguments of later calls.

    Attributes:
        plan: the plan that the node belongs to.
        vertices: the vertices of the plan's graph that the value depends on.
        hashable: False if the value is known to be unhashable.
    """

    __slots__ = ("__weakref__", "hashable", "plan", "vertices")

    plan: PlanBase
    vertices: tuple[int, ...]
    hashable: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return ForeignNode, (repr(self),)

    def _resolve(self, value_of: ValueOf) -> Any:
        raise NotImplementedError


class ForeignNode:
    """Replaces a node of another process's plan, in an exception that was pickled there.

    Args:
        shown: the ``repr()`` of the node.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class Item(Node[T_co]):
    """One of several values that a call returns.

    Attributes:
        of: the node whose value is unpacked.
        number: the position of the item, from 0.
        count: how many items the value must have.
    """

    __slots__ = ("count", "number", "of")

    def __init__(self, of: Node, number: int, count: int) -> None:
        self.plan: PlanBase = of.plan
        self.vertices: tuple[int, ...] = of.vertices
        self.hashable = True
        self.of: Node[Any] = of
        self.number: int = number
        self.count: int = count

    def __repr__(self) -> str:
        return f"<item {self.number} of {self.of!r}>"

    def _resolve(self, value_of: ValueOf) -> Any:
        whole = self.of._resolve(value_of)
        try:
            items = tuple(whole)
        except TypeError as error:
            raise TypeError(
                f"{self.of!r} returned {show(whole)}, and was unpacked to {self.count} values: "
                f"{safe_str(error)}"
            ) from error
        if len(items) != self.count:
            raise ValueError(
                f"{self.of!r} returned {len(items)} values; it was unpacked to {self.count}"
            )
        return items[self.number]


class Lit(Node[T_co]):
    """A literal value. It is passed as it is; calls inside it are not looked for.

    Attributes:
        value: the value.
    """

    __slots__ = ("value",)

    def __init__(self, plan: PlanBase, value: Any) -> None:
        self.plan = plan
        self.vertices: tuple[int, ...] = ()
        self.value: Any = value
        try:
            hash(value)
            self.hashable: bool = True
        except TypeError:
            self.hashable = False

    def __repr__(self) -> str:
        return f"<lit {show(self.value)}>"

    def _resolve(self, value_of: ValueOf) -> Any:
        return self.value


class Gather(Node):
    """A container with calls in it.

    Attributes:
        kind: the type of the container.
        parts: its contents.
        build: makes a container from the values of the parts.
        keys: the parts that have to be hashable.
        number: the gather's vertex in the graph; None if its users wait for its calls directly.
    """

    __slots__ = ("build", "keys", "kind", "number", "parts")

    def __init__(
        self,
        plan: PlanBase,
        kind: type,
        parts: Sequence[Any],
        build: Callable[[list[Any]], Any],
        keys: Sequence[Any],
        hashable: bool,
    ) -> None:
        self.plan = plan
        self.kind: type = kind
        self.parts: Sequence[Any] = parts
        self.build: Callable[[list[Any]], Any] = build
        self.keys: Sequence[Any] = keys
        self.hashable = hashable
        self.vertices: tuple[int, ...] = ()
        self.number: int | None = None

    def __repr__(self) -> str:
        shown = [repr(part) if isinstance(part, Node) else show(part) for part in self.parts[:6]]
        more = ", ..." if len(self.parts) > 6 else ""
        return f"<{self.kind.__name__} of {', '.join(shown)}{more}>"

    def _resolve(self, value_of: ValueOf) -> Any:
        values = [resolve(part, value_of) for part in self.parts]
        try:
            return self.build(values)
        except Exception as error:
            self._blame_key(value_of, error)
            raise

    def _blame_key(self, value_of: ValueOf, error: Exception) -> None:
        for key in self.keys:
            try:
                hash(resolve(key, value_of))
            except TypeError:
                raise TypeError(
                    f"the value of {key!r} is a key of a {self.kind.__name__}, "
                    f"and can't be one: {safe_str(error)}"
                ) from error


def resolve(value: Any, value_of: ValueOf) -> Any:
    """The value of a node; any other object is returned as it is.

    Args:
        value: a node, or any other object.
        value_of: returns the value of a finished call, by its index.

    Raises:
        TypeError: a call returned an unhashable value that is used as a key, or a value without
            items that is unpacked.
        ValueError: a call returned another number of values than it is unpacked to.
    """
    return value._resolve(value_of) if isinstance(value, Node) else value
