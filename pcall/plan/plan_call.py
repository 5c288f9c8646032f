"""A planned call, and the result that it may have been given from outside."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from numbers import Real
from typing import Any, NamedTuple

from pcall._core.records import name_of, show
from pcall._types import T_co
from pcall._wire.weak_values import WeakValues
from pcall.plan.nodes import ForeignNode, Node, PlanBase, ValueOf
from pcall.plan.places import Lines, Place

__all__ = ["PlanCall", "Settled", "plans"]

# The plans of this process, by key.
plans: WeakValues[str, PlanBase] = WeakValues()


class Settled(NamedTuple):
    """The result of a call that was settled from outside.

    Attributes:
        value: the value; None if the call was marked as failed.
        error: the exception; None if the call was marked as done.
    """

    value: Any
    error: BaseException | None


class PlanCall(Node[T_co]):
    """A planned call. Its value is known once a run has made it.

    Attributes:
        plan: the plan that the call belongs to.
        index: its position in plan order, from 0.
        fn: the callable.
        args: positional arguments; containers that hold calls are replaced by gathers.
        kwargs: keyword arguments, likewise.
        name: the name of the call in messages and pictures; by default the function's name.
        scope: the names of the scopes that it was planned in, the outermost first.
        locality: on a cluster: a mapping of worker to number, or a function of the workers that
            returns such a mapping, or pairs (-1 forbids a worker, 0 is indifferent, 1 and more
            prefer it). It has no effect on one machine. Default None.
        place: the source line that planned it, and those that led there.
        started: True once a run has started it.
        done: True once it has returned or failed, or was settled from outside.
        settled: the result that :meth:`Plan.mark_done` or :meth:`Plan.mark_failed` gave it;
            otherwise None.
    """

    __slots__ = (
        "_lines",
        "_priority",
        "args",
        "done",
        "fn",
        "index",
        "kwargs",
        "locality",
        "name",
        "scope",
        "settled",
        "started",
    )

    def __init__(
        self,
        plan: PlanBase,
        index: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scope: tuple[Hashable, ...],
        lines: Lines,
    ) -> None:
        self.plan = plan
        self.index: int = index
        self.vertices: tuple[int, ...] = (index,)
        self.hashable = True
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.name: str = name_of(fn)
        self.scope: tuple[Hashable, ...] = scope
        self._priority: float = 0
        self.locality: Callable[[Any], Any] | Mapping[Any, float] | None = None
        self._lines = lines
        self.started: bool = False
        self.done: bool = False
        self.settled: Settled | None = None

    @property
    def place(self) -> Place:
        """The source line that planned the call, with up to four frames."""
        return Place.of(self._lines)

    @property
    def priority(self) -> float:
        """Calls with a higher priority start first among those that are ready. Default 0."""
        return self._priority

    @priority.setter
    def priority(self, value: float) -> None:
        if not isinstance(value, Real) or value != value:
            raise TypeError(f"priority must be a number, not {show(value)}")
        self._priority = value

    def __repr__(self) -> str:
        return f"<call {self.index}: {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # In the process that has the plan, the call itself is found again.
        return _find_call, (self.plan.key, self.index, repr(self))

    def _resolve(self, value_of: ValueOf) -> Any:
        return value_of(self.index)


class _ForeignCall(ForeignNode):
    """Replaces a call of another process's plan. Where the plan is, it is the call again."""

    def __init__(self, key: str, index: int, shown: str) -> None:
        super().__init__(shown)
        self._place = key, index, shown

    def __reduce__(self) -> tuple[Any, ...]:
        return _find_call, self._place


def _find_call(key: str, index: int, shown: str) -> PlanCall | ForeignNode:
    plan = plans.get(key)
    if plan is None:
        return _ForeignCall(key, index, shown)
    call: PlanCall = plan.calls[index]
    return call
