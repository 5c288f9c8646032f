"""Calls inside of containers: finding them, and what a container becomes that holds some.

Looked into are lists, tuples (named too), sets, frozensets, dicts (keys and values),
dataclasses, and what inherits from these, nested to any depth. A container without calls
stays what it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any

from pcall._core.records import show
from pcall.plan.nodes import Gather, Node

if TYPE_CHECKING:
    from pcall.plan.plan import Plan

__all__ = ["Gatherer"]

_CONTAINERS = (list, tuple, set, frozenset, dict)

_Build = Callable[[list[Any]], Any]


class Gatherer:
    """Turns the containers that arguments of one plan are into gathers.

    The same container, unchanged, becomes the same gather: a thousand calls with one list of
    a thousand calls are two thousand edges, and not a million.

    Args:
        plan: the plan.
        few: a gather of more calls than this is a vertex of its own; of so many, to wait for
            them directly costs less.
    """

    def __init__(self, plan: Plan, few: float = 4) -> None:
        self._plan = plan
        self._few = few
        # By the identity of a container, which is kept so that no other takes its number: the
        # container, what was in it, and what it has become.
        self._known: dict[int, tuple[Any, Sequence[Any], Gather]] = {}
        self._inside: set[int] = set()  # containers that are being looked into
        self._entered_again: set[int] = set()  # and that were met again inside themselves

    def convert(self, value: Any) -> Any:
        """The value, or the gather that stands for it when it holds calls.

        Raises:
            ValueError: a call of another plan; a container that holds itself, and calls.
            TypeError: what can't be a key is one, or a container can't be built again.
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
            self._entered_again.add(id(value))
            return value
        self._inside.add(id(value))
        try:
            converted = list(map(self.convert, parts))
        finally:
            self._inside.discard(id(value))
            again = id(value) in self._entered_again
            self._entered_again.discard(id(value))
        if (
            known is not None
            and len(known[1]) == len(converted)
            and all(map(is_, known[1], converted))
        ):
            return known[2]
        if not any(isinstance(part, Node) for part in converted):
            return value
        if again:
            raise ValueError(f"a {type(value).__name__} holds itself, and calls: {show(value)}")
        gather = self._make(value, converted)
        self._known[id(value)] = value, gather.parts, gather
        return gather

    def _may_hold(self, parts: Sequence[Any]) -> bool:
        """False when none of these can be a call, or hold one: most often told in C."""
        return any(
            issubclass(kind, (Node, *_CONTAINERS)) or dataclasses.is_dataclass(kind)
            for kind in set(map(type, parts))
        )

    def _make(self, value: Any, parts: list[Any]) -> Gather:
        kind = type(value)
        build, keys, hashable = _how(value, parts)
        for key in keys:
            if isinstance(key, Node) and not key.hashable:
                raise TypeError(f"{key!r} can't be hashed, and is a key of a {kind.__name__}")
        gather = Gather(self._plan, kind, tuple(parts), build, keys, hashable)
        vertices = dict.fromkeys(
            vertex for part in parts if isinstance(part, Node) for vertex in part.vertices
        )
        if len(vertices) <= self._few:
            gather.vertices = tuple(vertices)
        else:
            gather.number = self._plan._add_gather(tuple(vertices))
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


def _how(value: Any, parts: list[Any]) -> tuple[_Build, Sequence[Any], bool]:
    """How a container is built again, which parts are its keys, and whether it is hashable."""
    kind = type(value)
    if kind in (list, set):
        return kind, parts if kind is set else (), False
    if kind is frozenset:
        return frozenset, parts, True
    if kind is dict:
        return _build_dict, parts[: len(value)], False
    if isinstance(value, tuple):
        hashable = all(not isinstance(part, Node) or part.hashable for part in parts)
        if kind is tuple:
            return tuple, (), hashable
        if hasattr(kind, "_make"):
            return kind._make, (), hashable
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        changed = [isinstance(part, Node) for part in parts]
        return _Refilled(value, names, changed), (), kind.__hash__ is not None
    elif isinstance(value, list):
        return _refill_list(value), (), False
    elif isinstance(value, dict):
        return _refill_by_update(value, _build_dict), parts[: len(value)], False
    elif isinstance(value, set):
        return _refill_by_update(value, list), parts, False
    raise TypeError(
        f"{show(value)} holds calls, and a {kind.__name__} can't be built again with their values"
    )


def _build_dict(values: list[Any]) -> dict[Any, Any]:
    half = len(values) // 2
    return dict(zip(values[:half], values[half:], strict=True))


class _Refilled:
    """Makes a copy of a dataclass's object, with other values where there were calls.

    Without its ``__init__``: what that computed was computed when the object was made.
    """

    def __init__(self, value: Any, names: list[str], changed: list[bool]) -> None:
        self._value, self._names, self._changed = value, names, changed

    def __call__(self, values: list[Any]) -> Any:
        made = copy.copy(self._value)
        for name, changed, value in zip(self._names, self._changed, values, strict=True):
            if changed:
                object.__setattr__(made, name, value)  # frozen ones, too
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
