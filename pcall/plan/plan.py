"""Builds a plan: its calls, their dependencies, and the lines that planned each of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pcall._core.records import show
from pcall._errors import CycleError, FailedDependency
from pcall.plan.gathering import Gatherer
from pcall.plan.nodes import Item, Lit, Node, PlanBase
from pcall.plan.picture import Box, dot_text, svg_text
from pcall.plan.places import CallSites
from pcall.plan.plan_call import PlanCall, Settled, plans
from pcall.plan.signatures import Signatures

if TYPE_CHECKING:
    from pcall._profiles.run_profile import Profile

__all__ = ["Plan"]

__tracebackhide__ = True  # pytest shows the frames of its user

T = TypeVar("T")

_Told = Callable[[int, Settled | None], None]


class Plan(PlanBase):
    """Calls that depend on calls. Building a plan runs nothing; :func:`pcall.run` runs it.

    Args:
        stacklevel: how many frames above :meth:`call` the line is that counts as the place of a
            call. 1: the line that calls it. 2: the line that called the function with that line,
            where that function is a wrapper. And so on, as for ``warnings.warn``.

    Attributes:
        calls: the planned calls, in plan order.
        graph: the dependencies between them.
        key: identifies the plan in calls that were pickled.
        states: by call, the state at the end of the last run; empty before the first.
        profile: of the last run: a ``CpuProfile`` or ``MemoryProfile`` of :mod:`pcall.profiling`
            over all of its calls; None without the option ``profile``.
    """

    def __init__(self, stacklevel: int = 1) -> None:
        if isinstance(stacklevel, bool) or not isinstance(stacklevel, int):
            raise TypeError(f"stacklevel must be an int, not {show(stacklevel)}")
        if stacklevel < 1:
            raise ValueError(f"stacklevel must be 1 or more, not {stacklevel!r}")
        super().__init__()
        self._stacklevel = stacklevel
        self._told: list[weakref.WeakMethod[_Told]] = []
        self.calls: list[PlanCall[Any]] = []
        self.states = b""
        self.profile: Profile | None = None
        self._gatherer = Gatherer(self)
        self._signatures = Signatures()
        self._sites = CallSites()
        self._scopes = threading.local()
        self._lock = threading.RLock()
        plans[self.key] = self

    # ------------------------------------------------------------ building

    @overload
    def call(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> PlanCall[T]: ...

    @overload
    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PlanCall[T]: ...

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PlanCall[Any]:
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
        lines = self._sites.lines_above(self._stacklevel)
        self._signatures.check(fn, args, kwargs)
        with self._lock:
            convert = self._gatherer.convert
            args = tuple(map(convert, args))
            kwargs = {name: convert(value) for name, value in kwargs.items()}
            call = PlanCall(self, len(self.calls), fn, args, kwargs, self._scope, lines)
            vertices: dict[int, None] = {}
            for value in (*args, *kwargs.values()):
                if isinstance(value, Node):
                    vertices.update(dict.fromkeys(value.vertices))
            self.graph.add_call(tuple(vertices))
            self.calls.append(call)
        return call

    def lit(self, value: T) -> Lit[T]:
        """Wrap a value that is passed as it is: calls inside it are not looked for.

        For a large container this saves the search.
        """
        return Lit(self, value)

    def gather(self, structure: Any) -> Node[Any]:
        """Turn a container that holds calls into one value, which many calls may get.

        Raises:
            TypeError, ValueError: see :meth:`call`.
        """
        with self._lock:
            found = self._gatherer.convert(structure)
        return found if isinstance(found, Node) else Lit(self, found)

    def unpack(self, call: Node[Any], n: int) -> tuple[Item[Any], ...]:
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

    def add_dependency(self, first: Node[Any], then: PlanCall[Any]) -> None:
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

    def mark_done(self, call: PlanCall[T], value: T) -> None:
        """Settle a call: later runs do not make it, and use this value.

        A run that lasts goes on with the value, too, unless the call has ended in it: what waits
        for the call starts, and what runs for it is ended. Any thread and any observer may call
        this during a run.

        Raises:
            TypeError: ``call`` is not a call.
            ValueError: it belongs to another plan.
        """
        self._settle(call, Settled(value, None))

    def mark_failed(self, call: PlanCall[Any], error: BaseException) -> None:
        """Settle a call: later runs do not make it, and count it as failed with this error.

        During a run, see :meth:`mark_done`.

        A :class:`pcall.FailedDependency` says something else: that the value which was there is
        lost. Then a call that was settled is not settled any more, and later runs make it. A run
        that lasts makes the call again, if it has returned and anything still needs its value.

        Raises:
            TypeError: ``call`` is not a call, or ``error`` not an exception.
            ValueError: the call belongs to another plan.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, not {show(error)}")
        lost = isinstance(error, FailedDependency)
        self._settle(call, None if lost else Settled(None, error))

    def _settle(self, call: PlanCall, settled: Settled | None) -> None:
        if not isinstance(call, PlanCall):
            raise TypeError(f"call must be a call of this plan, not {show(call)}")
        self._check_own(call)
        call.settled, call.done = settled, settled is not None
        for reference in [*self._told]:
            told = reference()
            if told is not None:
                told(call.index, settled)

    def attach(self, told: _Told) -> None:
        """Have a run told of calls that are settled: their index, and the result; None: lost."""
        # A run that never starts is not detached.
        self._told[:] = [each for each in self._told if each() is not None]
        self._told.append(weakref.WeakMethod(told))

    def detach(self, told: _Told) -> None:
        """The run has ended."""
        self._told[:] = [each for each in self._told if each() not in (None, told)]

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
            Box(call.name, "{}:{}".format(*call.place), call.scope, state)
            for call, state in zip(self.calls, states, strict=True)
        ]
        text = dot_text(self.graph, boxes)
        return text if format == "dot" else svg_text(text)

    def check_cycles(self) -> None:
        """Check that no call waits for itself, directly or not.

        Raises:
            CycleError: one does; it names the calls on the cycle.
        """
        cycle = [self.calls[index] for index in self.graph.find_cycle()]
        if cycle:
            names = " waits for ".join(map(repr, [*cycle, cycle[0]]))
            raise CycleError(f"these calls wait for each other, so none can start: {names}", cycle)

    @property
    def _scope(self) -> tuple[Hashable, ...]:
        names: tuple[Hashable, ...] = getattr(self._scopes, "names", ())
        return names

    def _check_own(self, node: Node) -> None:
        if node.plan is not self:
            raise ValueError(f"{node!r} belongs to another plan")
