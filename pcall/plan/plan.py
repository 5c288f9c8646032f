"""Builds a plan: its calls, their dependencies, and the source line that planned each of them."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple

from pcall._core.records import name_of, show
from pcall.plan.gathering import Gatherer
from pcall.plan.nodes import ForeignNode, Item, Lit, Node, Place, PlanBase, ValueOf
from pcall.plan.picture import Box, dot_text, svg_text
from pcall.plan.signatures import Signatures

__all__ = ["Plan", "PlanCall", "Settled"]
__tracebackhide__ = True  # pytest shows the frames of its user


class Settled(NamedTuple):
    """The result of a call that was settled from outside.

    Attributes:
        value: the value; None if the call was marked as failed.
        error: the exception; None if the call was marked as done.
    """

    value: Any
    error: BaseException | None


class PlanCall(Node):
    """A planned call. Its value is known once a run has made it.

    Attributes:
        plan: the plan that the call belongs to.
        index: its position in plan order, from 0.
        fn: the callable.
        args: positional arguments; containers that hold calls are replaced by gathers.
        kwargs: keyword arguments, likewise.
        name: the name of the call in messages and pictures; by default the function's name.
        scope: the names of the scopes that it was planned in, the outermost first.
        locality: reserved for runs on a cluster: a mapping of worker to number, or a function
            that returns the number of a worker (-1 forbids it, 0 is indifferent, 1 and more
            prefer it). It has no effect on one machine: nothing reads it. Default None.
        place: the source line that planned it.
        started: True once a run has started it.
        done: True once it has returned or failed, or was settled from outside.
        settled: the result that :meth:`Plan.mark_done` or :meth:`Plan.mark_failed` gave it;
            otherwise None.
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

    plan: Plan

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
        self.settled: Settled | None = None

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


class Plan(PlanBase):
    """Calls that depend on calls. Building a plan runs nothing; :func:`pcall.run` runs it.

    Attributes:
        calls: the planned calls, in plan order.
        graph: the dependencies between them.
        key: identifies the plan in calls that were pickled.
        states: by call, the state at the end of the last run; empty before the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.key = os.urandom(8).hex()
        self.calls: list[PlanCall] = []
        self.states = b""
        self._gatherer = Gatherer(self)
        self._signatures = Signatures()
        self._scopes = threading.local()
        self._lock = threading.RLock()
        _plans[self.key] = self

    # ------------------------------------------------------------ building

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PlanCall:
        """Plan a call.

        Calls, and containers that hold calls, may stand anywhere in the arguments. The function
        gets their values.

        Args:
            fn: the callable.
            *args: its positional arguments.
            **kwargs: its keyword arguments, with any names.

        Returns:
            The call. It may stand in the arguments of later calls.

        Raises:
            TypeError: ``fn`` is not callable, or not with these arguments; or an unhashable node
                is used as a key.
            ValueError: the arguments contain a call of another plan.
        """
        frame = sys._getframe(1)
        place = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        self._signatures.check(fn, args, kwargs)
        with self._lock:
            convert = self._gatherer.convert
            args = tuple(map(convert, args))
            kwargs = {name: convert(value) for name, value in kwargs.items()}
            call = PlanCall(self, len(self.calls), fn, args, kwargs, self._scope, place)
            vertices: dict[int, None] = {}
            for value in (*args, *kwargs.values()):
                if isinstance(value, Node):
                    vertices.update(dict.fromkeys(value.vertices))
            self.graph.add_call(tuple(vertices))
            self.calls.append(call)
        return call

    def lit(self, value: Any) -> Lit:
        """Wrap a value that is passed as it is: calls inside it are not looked for.

        For a large container this saves the search.
        """
        return Lit(self, value)

    def gather(self, structure: Any) -> Node:
        """Turn a container that holds calls into one value, which many calls may get.

        Raises:
            TypeError, ValueError: see :meth:`call`.
        """
        with self._lock:
            found = self._gatherer.convert(structure)
        return found if isinstance(found, Node) else Lit(self, found)

    def unpack(self, call: Node, n: int) -> tuple[Item, ...]:
        """Split the value of a call into its ``n`` items.

        If the call returns another number of items, the calls that use them fail with a
        ``ValueError``.

        Args:
            call: the call.
            n: the number of items.

        Raises:
            TypeError: ``call`` is not a call, or ``n`` not an int.
            ValueError: ``n`` is negative, or the call belongs to another plan.
        """
        if not isinstance(call, Node):
            raise TypeError(f"call must be a call of this plan, not {show(call)}")
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"n must be 0 or more, not {n!r}")
        self._check_own(call)
        return tuple(Item(call, number, n) for number in range(n))

    def add_dependency(self, first: Node, then: PlanCall) -> None:
        """Make a call wait for another one without getting its value.

        Args:
            first: the call that has to finish first.
            then: the call that waits.

        Raises:
            TypeError: ``first`` is not a node of a plan, or ``then`` not a call.
            ValueError: one of them belongs to another plan, or both are the same.
        """
        if not isinstance(first, Node):
            raise TypeError(f"first must be a call of this plan, not {show(first)}")
        if not isinstance(then, PlanCall):
            raise TypeError(f"then must be a call of this plan, not {show(then)}")
        self._check_own(first)
        self._check_own(then)
        if first is then:
            raise ValueError(f"{then!r} can't wait for itself")
        with self._lock:
            self.graph.add_needs(then.index, first.vertices)

    @contextmanager
    def scope(self, *names: Hashable) -> Iterator[None]:
        """Count the calls that this thread plans in the block under these names.

        Scopes may be nested.

        Raises:
            TypeError: a name is not hashable.
        """
        for name in names:
            try:
                hash(name)
            except TypeError:
                raise TypeError(f"a scope's name must be hashable, not {show(name)}") from None
        before = self._scope
        self._scopes.names = (*before, *names)
        try:
            yield
        finally:
            self._scopes.names = before

    # ------------------------------------------------------------ settling from outside

    def mark_done(self, call: PlanCall, value: Any) -> None:
        """Settle a call: later runs do not make it, and use this value.

        Raises:
            TypeError: ``call`` is not a call.
            ValueError: it belongs to another plan.
        """
        self._settle(call, Settled(value, None))

    def mark_failed(self, call: PlanCall, error: BaseException) -> None:
        """Settle a call: later runs do not make it, and count it as failed with this error.

        Raises:
            TypeError: ``call`` is not a call, or ``error`` not an exception.
            ValueError: the call belongs to another plan.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, not {show(error)}")
        self._settle(call, Settled(None, error))

    def _settle(self, call: PlanCall, settled: Settled) -> None:
        if not isinstance(call, PlanCall):
            raise TypeError(f"call must be a call of this plan, not {show(call)}")
        self._check_own(call)
        call.settled, call.done = settled, True

    # ------------------------------------------------------------ inspecting

    def __len__(self) -> int:
        return len(self.calls)

    def __repr__(self) -> str:
        return f"<Plan of {len(self.calls)} calls>"

    def render(self, format: str = "dot") -> str:
        """Draw the plan. After a run, the colour of a call shows its outcome.

        Calls that are done are green, failed ones red, skipped ones grey. A dot is a container
        with several calls, and a frame around calls is a scope.

        Args:
            format: ``"dot"`` for Graphviz text, ``"svg"`` for SVG made by the program ``dot``.

        Raises:
            ValueError: another format.
            RuntimeError: ``dot`` is not installed, or failed.
        """
        if format not in ("dot", "svg"):
            raise ValueError(f"format must be 'dot' or 'svg', not {show(format)}")
        states = self.states.ljust(len(self.calls), b"\0")
        boxes = [
            Box(call.name, f"{call.place.filename}:{call.place.line}", call.scope, state)
            for call, state in zip(self.calls, states, strict=True)
        ]
        text = dot_text(self.graph, boxes)
        return text if format == "dot" else svg_text(text)

    def check_cycles(self) -> None:
        """Check that no call waits for itself, directly or not.

        Raises:
            ValueError: one does; the text names the calls on the cycle.
        """
        cycle = self.graph.find_cycle()
        if cycle:
            names = [repr(self.calls[index]) for index in cycle]
            raise ValueError(
                "these calls wait for each other, so none can start: "
                + " waits for ".join([*names, names[0]])
            )

    @property
    def _scope(self) -> tuple[Hashable, ...]:
        names: tuple[Hashable, ...] = getattr(self._scopes, "names", ())
        return names

    def _check_own(self, node: Node) -> None:
        if node.plan is not self:
            raise ValueError(f"{node!r} belongs to another plan")


# The plans of this process, by key.
_plans: weakref.WeakValueDictionary[str, Plan] = weakref.WeakValueDictionary()


def _find_call(key: str, index: int, shown: str) -> PlanCall | ForeignNode:
    plan = _plans.get(key)
    return ForeignNode(shown) if plan is None else plan.calls[index]
