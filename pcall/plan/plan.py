"""Building a plan: calls, what they wait for, and where each was planned.

A plan is a graph whose vertices are calls and *gathers*: containers that hold several calls. A
call waits for the calls and gathers in its arguments. Both kinds have numbers: calls from 0
upwards, in plan order, gathers from -1 downwards.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from pcall._core.records import name_of, show
from pcall.plan.gathering import Gatherer
from pcall.plan.nodes import Item, Lit, Node, Place, PlanCall, plans
from pcall.plan.picture import dot_text, svg_text

__all__ = ["Plan"]


class Plan:
    """Calls that depend on calls. Building it runs nothing; :func:`pcall.run` does.

    Attributes:
        calls: the planned calls, in plan order.
        key: names this plan where one of its calls was pickled.
    """

    def __init__(self) -> None:
        self.key = os.urandom(8).hex()
        self.calls: list[PlanCall] = []
        # By call: the vertices that it waits for, and those that wait for it.
        self.needs: list[tuple[int, ...]] = []
        self.users: list[list[int] | tuple[()]] = []
        # By gather, -1 first: the same.
        self.gather_needs: list[tuple[int, ...]] = []
        self.gather_users: list[list[int]] = []
        self.backward = False  # True when a call waits for a later one: there may be a cycle
        self._gatherer = Gatherer(self)
        self.states = b""  # of the calls, after the last run
        self._signatures: dict[int, tuple[Any, inspect.Signature | None]] = {}
        self._scopes = threading.local()
        self._lock = threading.RLock()
        plans[self.key] = self

    # ------------------------------------------------------------ building

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PlanCall:
        """Plan a call.

        Calls, and containers with calls in them, may stand anywhere in the arguments: the
        function gets their values.

        Args:
            fn: the callable.
            *args: its positional arguments.
            **kwargs: its keyword arguments, of any name.

        Returns:
            The call, to stand in arguments of later ones.

        Raises:
            TypeError: ``fn`` can't be called, or not with these arguments; what can't be
                hashed is a key.
            ValueError: a call of another plan is among the arguments.
        """
        frame = sys._getframe(1)
        place = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        self._bind(fn, args, kwargs)
        with self._lock:
            convert = self._gatherer.convert
            args = tuple(map(convert, args))
            kwargs = {name: convert(value) for name, value in kwargs.items()}
            call = PlanCall(self, len(self.calls), fn, args, kwargs, self._scope, place)
            vertices: dict[int, None] = {}
            for value in (*args, *kwargs.values()):
                if isinstance(value, Node):
                    vertices.update(dict.fromkeys(value.vertices))
            self.needs.append(tuple(vertices))
            self.users.append(())
            self.calls.append(call)
            for vertex in vertices:
                self._add_user(vertex, call.index)
        return call

    def lit(self, value: Any) -> Lit:
        """A value that is passed as it is: no call is looked for in it.

        That saves the look into a large container.
        """
        return Lit(self, value)

    def gather(self, structure: Any) -> Node:
        """A container with calls in it, as one value that may be given to many calls.

        Raises:
            TypeError, ValueError: see :meth:`call`.
        """
        with self._lock:
            found = self._gatherer.convert(structure)
        return found if isinstance(found, Node) else Lit(self, found)

    def unpack(self, call: Node, n: int) -> tuple[Item, ...]:
        """The ``n`` values that a call returns, each by itself.

        A call that returns another number of values fails those that use them, with a
        ``ValueError``.

        Raises:
            TypeError: ``call`` is none, or ``n`` no int.
            ValueError: ``n`` is negative; a call of another plan.
        """
        if not isinstance(call, Node):
            raise TypeError(f"call must be a call of this plan, not {show(call)}")
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"n must be 0 or more, not {n!r}")
        self._own(call)
        return tuple(Item(call, number, n) for number in range(n))

    def add_dependency(self, first: Node, then: PlanCall) -> None:
        """Have one call wait for another one, whose value it does not get.

        Raises:
            TypeError: ``first`` is no node of a plan, or ``then`` no call.
            ValueError: one belongs to another plan, or both are the same.
        """
        if not isinstance(first, Node):
            raise TypeError(f"first must be a call of this plan, not {show(first)}")
        if not isinstance(then, PlanCall):
            raise TypeError(f"then must be a call of this plan, not {show(then)}")
        self._own(first)
        self._own(then)
        if first is then:
            raise ValueError(f"{then!r} can't wait for itself")
        with self._lock:
            known = self.needs[then.index]
            new = [vertex for vertex in first.vertices if vertex not in known]
            self.needs[then.index] = (*known, *new)
            for vertex in new:
                self._add_user(vertex, then.index)
                latest = vertex if vertex >= 0 else self._latest(vertex)
                self.backward |= latest >= then.index

    @contextmanager
    def scope(self, *names: Hashable) -> Iterator[None]:
        """Calls planned in this block, by this thread, are counted under these names.

        Scopes may be nested.

        Raises:
            TypeError: a name can't be hashed.
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
            TypeError: ``call`` is none.
            ValueError: it belongs to another plan.
        """
        self._settle(call, (value, None))

    def mark_failed(self, call: PlanCall, error: BaseException) -> None:
        """Settle a call: in later runs it has failed with this error, without being made.

        Raises:
            TypeError: ``call`` is none, or ``error`` no exception.
            ValueError: it belongs to another plan.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, not {show(error)}")
        self._settle(call, (None, error))

    def _settle(self, call: PlanCall, settled: tuple[Any, BaseException | None]) -> None:
        if not isinstance(call, PlanCall):
            raise TypeError(f"call must be a call of this plan, not {show(call)}")
        self._own(call)
        call.settled, call.done = settled, True

    # ------------------------------------------------------------ looking

    def __len__(self) -> int:
        return len(self.calls)

    def __repr__(self) -> str:
        return f"<Plan of {len(self.calls)} calls>"

    def render(self, format: str = "dot") -> str:
        """A picture of the plan, coloured by outcome after a run.

        Green calls are done, red ones failed, grey ones were skipped. Dots are containers with
        several calls, boxes around calls are scopes.

        Args:
            format: ``"dot"``: text for Graphviz. ``"svg"``: what its program ``dot`` makes of it.

        Raises:
            ValueError: another format.
            RuntimeError: ``dot`` is not installed, or failed.
        """
        if format == "dot":
            return dot_text(self)
        if format == "svg":
            return svg_text(self)
        raise ValueError(f"format must be 'dot' or 'svg', not {show(format)}")

    def check_cycles(self) -> None:
        """See that no call waits for itself, through others.

        Raises:
            ValueError: one does; the text names the calls of the cycle.
        """
        if not self.backward:
            return  # a call that waits for earlier ones alone can't be on a cycle
        cycle = _find_cycle(self)
        if cycle:
            names = [repr(self.calls[index]) for index in cycle]
            raise ValueError(
                "these calls wait for each other, so none can start: "
                + " waits for ".join([*names, names[0]])
            )

    # ------------------------------------------------------------ within

    @property
    def _scope(self) -> tuple[Hashable, ...]:
        return getattr(self._scopes, "names", ())

    def _own(self, node: Node) -> None:
        if node.plan is not self:
            raise ValueError(f"{node!r} belongs to another plan")

    def _add_gather(self, vertices: tuple[int, ...]) -> int:
        self.gather_needs.append(vertices)
        self.gather_users.append([])
        number = -len(self.gather_needs)
        for vertex in vertices:
            self._add_user(vertex, number)
        return number

    def _add_user(self, vertex: int, user: int) -> None:
        if vertex < 0:
            self.gather_users[~vertex].append(user)
            return
        users = self.users[vertex]
        if isinstance(users, tuple):
            self.users[vertex] = [user]
        else:
            users.append(user)

    def _latest(self, gather: int) -> int:
        latest, stack, seen = -1, [gather], {gather}
        while stack:
            for vertex in self.gather_needs[~stack.pop()]:
                if vertex >= 0:
                    latest = max(latest, vertex)
                elif vertex not in seen:
                    seen.add(vertex)
                    stack.append(vertex)
        return latest

    def _bind(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {show(fn)} ({type(fn).__name__})")
        known = self._signatures.get(id(fn))
        if known is None or known[0] is not fn:
            try:
                signature = inspect.signature(fn)
            except (ValueError, TypeError):  # some builtins tell nothing of theirs
                signature = None
            self._signatures[id(fn)] = known = fn, signature
        if known[1] is not None:
            try:
                known[1].bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name_of(fn)}{known[1]}: {error}") from None


def _find_cycle(plan: Plan) -> list[int]:
    """The calls of a cycle, each waiting for the next one; empty when there is none."""

    def needs(vertex: int) -> tuple[int, ...]:
        return plan.needs[vertex] if vertex >= 0 else plan.gather_needs[~vertex]

    finished: set[int] = set()
    for start in range(len(plan.calls)):
        path: dict[int, Iterator[int]] = {}
        stack = [start]
        while stack:
            vertex = stack[-1]
            if vertex not in path:
                if vertex in finished:
                    stack.pop()
                    continue
                path[vertex] = iter(needs(vertex))
            for before in path[vertex]:
                if before in path:
                    names = list(path)
                    return [each for each in names[names.index(before) :] if each >= 0]
                if before not in finished:
                    stack.append(before)
                    break
            else:
                finished.add(vertex)
                del path[vertex]
                stack.pop()
    return []
