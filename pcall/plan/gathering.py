"""Finds calls inside containers, and replaces the containers that hold some.

The containers are lists, tuples (named tuples too), sets, frozensets, dicts (keys and values),
dataclasses, and subclasses of these, nested to any depth. A container without calls is left as
it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, NamedTuple

from pcall._core.records import show
from pcall.plan.nodes import Gather, Node, PlanBase

__all__ = ["Gatherer"]

__tracebackhide__ = True  # pytest shows the frames of its user

_CONTAINERS = (list, tuple, set, frozenset, dict)

_Build = Callable[[list[Any]], Any]


class _Known(NamedTuple):
    """A container that was replaced before.

    Attributes:
        container: kept alive, so that no other container gets its ``id()``.
        gather: its replacement.
    """

    container: Any
    gather: Gather


class _Recipe(NamedTuple):
    """How a container is built again from the values of its parts.

    Attributes:
        build: makes the container.
        keys: the parts that have to be hashable.
        hashable: False if the container is known to be unhashable.
    """

    build: _Build
    keys: Sequence[Any]
    hashable: bool


class Gatherer:
    """Replaces containers in the arguments of one plan by gathers.

    The same container, unchanged, becomes the same gather. So a thousand calls that get one list
    of a thousand calls are two thousand edges, and not a million.

    Args:
        plan: the plan.
        few: up to this many calls, the user of a gather waits for the calls directly, which
            is cheaper. A gather of more calls is a vertex of its own.
    """

    def __init__(self, plan: PlanBase, few: float = 4) -> None:
        self._plan = plan
        self._few = few
        self._known: dict[int, _Known] = {}  # by the id() of the container
        self._inside: set[int] = set()  # ids of containers whose contents are being converted
        self._recursive: set[int] = set()  # those of them that were met again inside themselves

    def convert(self, value: Any) -> Any:
        """Replace a value by a gather if it holds calls; otherwise return it as it is.

        Raises:
            ValueError: it holds a call of another plan, or it is a container that holds both
                itself and calls.
            TypeError: an unhashable node is a key, or the container can't be built again.
        """
        if isinstance(value, Node):
            return self._checked(value)
        if isinstance(value, _CONTAINERS):
            return self._container(value) if value else value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._container(value)
        return value

    def _checked(self, node: Node) -> Node:
        if node.plan is not self._plan:
            raise ValueError(f"{node!r} belongs to another plan")
        return node

    def _container(self, value: Any) -> Any:
        parts = _parts(value)
        known = self._known.get(id(value))
        if known is None and not self._may_hold(parts):
            return value
        if id(value) in self._inside:
            self._recursive.add(id(value))
            return value
        self._inside.add(id(value))
        try:
            converted = list(map(self.convert, parts))
        finally:
            self._inside.discard(id(value))
            recursive = id(value) in self._recursive
            self._recursive.discard(id(value))
        if (
            known is not None
            and len(known.gather.parts) == len(converted)
            and all(map(is_, known.gather.parts, converted))
        ):
            return known.gather
        if not any(isinstance(part, Node) for part in converted):
            return value
        if recursive:
            kind = type(value).__name__
            raise ValueError(f"a {kind} with calls in it must not hold itself: {show(value)}")
        gather = self._make(value, converted)
        self._known[id(value)] = _Known(value, gather)
        return gather

    def _may_hold(self, parts: Sequence[Any]) -> bool:
        """False if none of these can be a call or hold one. For most containers that is quick."""
        return any(
            issubclass(kind, (Node, *_CONTAINERS)) or dataclasses.is_dataclass(kind)
            for kind in set(map(type, parts))
        )

    def _make(self, value: Any, parts: list[Any]) -> Gather:
        kind = type(value)
        recipe = _recipe(value, parts)
        for key in recipe.keys:
            if isinstance(key, Node) and not key.hashable:
                raise TypeError(f"{key!r} can't be hashed, and is a key of a {kind.__name__}")
        gather = Gather(self._plan, kind, tuple(parts), recipe.build, recipe.keys, recipe.hashable)
        vertices = dict.fromkeys(
            vertex for part in parts if isinstance(part, Node) for vertex in part.vertices
        )
        if len(vertices) <= self._few:
            gather.vertices = tuple(vertices)
        else:
            gather.number = self._plan.graph.add_gather(tuple(vertices))
            gather.vertices = (gather.number,)
        return gather


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, set | frozenset):
        return list(value)
    return [getattr(value, field.name, None) for field in dataclasses.fields(value)]


def _recipe(value: Any, parts: list[Any]) -> _Recipe:
    """How to build this container again.

    Raises:
        TypeError: its type is not known well enough.
    """
    kind = type(value)
    if kind in (list, set):
        return _Recipe(kind, parts if kind is set else (), False)
    if kind is frozenset:
        return _Recipe(frozenset, parts, True)
    if kind is dict:
        return _Recipe(_build_dict, parts[: len(value)], False)
    if isinstance(value, tuple):
        hashable = all(not isinstance(part, Node) or part.hashable for part in parts)
        if kind is tuple:
            return _Recipe(tuple, (), hashable)
        if hasattr(kind, "_make"):
            return _Recipe(kind._make, (), hashable)
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        changed = [isinstance(part, Node) for part in parts]
        return _Recipe(_CopyWithValues(value, names, changed), (), kind.__hash__ is not None)
    elif isinstance(value, list):
        return _Recipe(_refill_list(value), (), False)
    elif isinstance(value, dict):
        return _Recipe(_refill_by_update(value, _build_dict), parts[: len(value)], False)
    elif isinstance(value, set):
        return _Recipe(_refill_by_update(value, list), parts, False)
    raise TypeError(
        f"{show(value)} holds calls, and a {kind.__name__} can't be built again with their values"
    )


def _build_dict(values: list[Any]) -> dict[Any, Any]:
    half = len(values) // 2
    return dict(zip(values[:half], values[half:], strict=True))


class _CopyWithValues:
    """Copies a dataclass instance, with values in the fields that held calls.

    ``__init__`` is not called again: fields that it computed are copied.
    """

    def __init__(self, value: Any, names: list[str], changed: list[bool]) -> None:
        self._value, self._names, self._changed = value, names, changed

    def __call__(self, values: list[Any]) -> Any:
        made = copy.copy(self._value)
        for name, changed, value in zip(self._names, self._changed, values, strict=True):
            if changed:
                object.__setattr__(made, name, value)  # also if it is frozen
        return made


def _refill_list(value: Any) -> _Build:
    def build(values: list[Any]) -> Any:
        made = copy.copy(value)
        made[:] = values
        return made

    return build


def _refill_by_update(value: Any, content: Callable[[list[Any]], Any]) -> _Build:
    def build(values: list[Any]) -> Any:
        made = copy.copy(value)
        made.clear()
        made.update(content(values))
        return made

    return build
