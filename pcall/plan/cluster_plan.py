"""The calls of a plan on a cluster: how they are packed, and where their values are.

Values stay on the workers that made them. Small ones come along with the outcomes, and so do those
that the caller wants. A worker that needs a value which it has not got asks the worker that has.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from pcall._core.records import Outcome
from pcall._os.signals import is_interrupt
from pcall._tuning import LARGE_VALUE
from pcall._wire.decode import Answer
from pcall._wire.encode import unsendable
from pcall.engines.dask.answers import decode_answer, encode_pickled, value_of
from pcall.engines.dask.node_values import SMALL_VALUE
from pcall.engines.dask.sending import FunctionTable, are_plain, dumps, dumps_with, refusal
from pcall.engines.dask.wire_records import ChunkOrder, HandedOff, Record, ValueAt
from pcall.plan.call_states import HANDED
from pcall.plan.call_stats import CallStats
from pcall.plan.chain_links import ChainLinks
from pcall.plan.given_results import GivenResults
from pcall.plan.nodes import Gather, Item, Lit, Node
from pcall.plan.plan_call import PlanCall, Settled
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.rerun_scheduler import RerunScheduler

__all__ = ["ClusterPlan", "ClusterValues"]

__tracebackhide__ = True  # pytest shows the frames of its user

# Values that a worker may drop are named at once if there are more than this.
MANY_DROPS = 1000


class ClusterValues:
    """The values of a plan's calls, as the caller knows them.

    Args:
        given: the results of settled calls.

    Attributes:
        given: the same.
        answers: by call, the answer, where the caller has it.
        places: by call, the workers that have its value, each with the size in bytes.
    """

    def __init__(self, given: GivenResults) -> None:
        self.given = given
        self.answers: dict[int, Any] = {}
        self.places: dict[int, dict[str, int]] = {}
        self.made_by: dict[int, str] = {}  # by call, the name of the worker that ran it last
        self.worker_names: set[str] = set()  # of those that have run a call
        self.gone: set[int] = set()  # values that were handed from call to call
        self._decoded: set[int] = set()

    def value_of(self, index: int) -> Any:
        """The value of a call that has returned; None if it was dropped, or has stayed away.

        Raises:
            ResultError: the value can't be read.
        """
        if index in self.given:
            return self.given.value(index)
        content = self.answers.get(index)
        if content is None:
            return None
        if index in self._decoded:
            content = bytearray(content)  # arrays of the first value lie in the other bytes
        self._decoded.add(index)
        return value_of(content)

    def give(self, index: int, value: Any) -> None:
        """A call has this value, which came from outside during the run.

        Raises:
            ResultError: it can't be pickled.
        """
        try:
            dumps(value)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            raise unsendable(value, problem) from problem
        self.given.add(index, Settled(value, None))

    def is_used_up(self, index: int) -> bool:
        """True if a value is gone because the only call that needed it has taken it."""
        return index in self.gone

    def is_stale(self, index: int, worker: Any) -> bool:
        """True if a call ran last on another worker than the one of this name."""
        last = self.made_by.get(index)
        return str(worker) in self.worker_names and last is not None and last != str(worker)

    def forget(self, index: int) -> None:
        """Drop what the caller has of a value."""
        self.answers.pop(index, None)
        self.places.pop(index, None)
        self.gone.discard(index)
        self._decoded.discard(index)

    def close(self) -> None:
        """Drop all values."""
        self.answers.clear()
        self.places.clear()


class ClusterPlan:
    """Packs the calls of a plan for workers, and keeps track of values.

    It is the work of a :class:`~pcall.engines.dask.cluster_engine.ClusterEngine`.

    Args:
        calls: of the plan.
        scheduler: of the run.
        values: of the run.
        links: the calls whose values may stay in the child that makes them.
        stats: predicts durations.
        wanted: the calls whose values the caller wants; None: all.
        reused: True if children run several calls.
    """

    keeps = strict = True
    least = 32

    def __init__(
        self,
        calls: PlanCalls,
        scheduler: RerunScheduler,
        values: ClusterValues,
        links: ChainLinks,
        stats: CallStats,
        wanted: frozenset[int] | None,
        reused: bool,
    ) -> None:
        self._calls = calls
        self._graph = calls.plan.graph
        self._scheduler = scheduler
        self._values = values
        self._links = links
        self._stats = stats
        self._wanted = wanted
        self._reused = reused
        self.functions: bytes = b""
        #: True if some call has its own idea of where it should run.
        self.has_locality: bool = any(call.locality is not None for call in calls.plan.calls)
        self._table: FunctionTable | None = None
        self._numbers: dict[int, int] = {}
        self._sent: dict[str, set[int]] = {}  # by worker, the answers that it was sent
        self._sent_gathers: dict[str, set[int]] = {}
        self._drops: dict[str, dict[int, int]] = {}  # by worker, what it may drop, and its size
        self._below: dict[int, tuple[int, ...]] = {}  # by gather, the calls in it
        self._packed: dict[int, Gather] = {}
        self._gather_pickles: dict[int, bytes] = {}
        self._to_lose: set[int] = set()  # once it is known here that they have ended
        self._losing: set[int] = set()

    # ------------------------------------------------------------ packing

    def open(self) -> None:
        """Pickle the functions, and see that the arguments can be pickled.

        Raises:
            NotSendable: something can't.
        """
        nodes = self._calls.plan.calls
        functions = [self._calls.function_of(node) for node in nodes]
        self._table = FunctionTable(functions)
        self.functions = self._table.content
        self._numbers = {
            node.index: self._table.number(function)
            for node, function in zip(nodes, functions, strict=True)
        }
        for node in nodes:
            if _is_plain(node):
                continue
            try:
                self._pickled(node)
            except Exception as problem:
                if is_interrupt(problem):
                    raise
                raise refusal(self._calls[node.index]) from problem

    def close(self) -> None:
        """Do nothing: the run drops the values."""

    def block(self, seeded: bool) -> int:
        """One: each call draws its own random numbers."""
        return 1

    def rounded(self, size: int) -> int:
        """Any number of calls: predicted durations limit the chunk further."""
        return max(self.least, size)

    def pack(self, calls: range) -> Iterator[tuple[int, bytes, bool]]:
        """Of each call: its function's number, its arguments, and whether its value is wanted."""
        for index in calls:
            home = self._wanted is None or index in self._wanted
            yield self._numbers[index], self._pickled(self._calls.plan.calls[index]), home

    def _pickled(self, node: PlanCall) -> bytes:
        arguments = (*node.args, *node.kwargs.values())
        given = [
            (repr(each), place)
            for place, each in enumerate(arguments)
            if isinstance(each, Node) and not isinstance(each, Lit)
        ]
        return dumps_with(_with_nodes, (node.args, node.kwargs, given))

    def complete(self, order: ChunkOrder, address: str) -> ChunkOrder:
        """The order with the values that its calls need, or where these are."""
        calls = range(order.start, order.start + len(order.calls))
        needs: dict[int, None] = {}
        uses: dict[int, None] = {}
        inside: set[int] = set()
        for index in calls:
            for vertex in self._graph.needs[index]:
                if vertex < 0:
                    self._find_gathers(vertex, uses)
                for each in self._calls_of(vertex):
                    if each in calls:
                        inside.add(each)
                    else:
                        needs[each] = None
        sent = self._sent.setdefault(address, set())
        values: list[tuple[int, Any]] = []
        for index in needs:
            found = self._source(index, address, sent)
            if found is not None:
                values.append((index, found))
        known = self._sent_gathers.setdefault(address, set())
        gathers = [(each, self._gather_pickle(each)) for each in uses if each not in known]
        known.update(uses)
        links: tuple[int, ...] = ()
        if self._reused:
            links = tuple(
                each - order.start
                for each in sorted(inside)
                if each in self._links and self._links.passed_once(each)
            )
        return order._replace(
            needs=tuple(needs),
            values=tuple(values),
            gathers=tuple(gathers),
            uses=tuple(uses),
            inside=tuple(each - order.start for each in sorted(inside)),
            links=links,
            drops=tuple(self._drops.pop(address, ())),
        )

    def _source(self, index: int, address: str, sent: set[int]) -> Any:
        """What a worker is sent for a value: an answer, or where it is; None: it has it."""
        places = self._values.places.get(index, {})
        if address in places or index in sent:
            return None
        if index in self._values.given:
            sent.add(index)
            content = dumps(self._values.given.value(index))
            return encode_pickled(content, 0.0)
        answer = self._values.answers.get(index)
        if answer is not None and memoryview(answer).nbytes <= SMALL_VALUE:
            sent.add(index)
            return bytes(answer)
        if places:
            other = next(iter(places))
            self._values.places[index][address] = places[other]
            return ValueAt(other, places[other])
        if answer is not None:
            sent.add(index)
            return bytes(answer)
        return ValueAt("", 0)  # nobody has it: the worker will say so

    def _calls_of(self, vertex: int) -> tuple[int, ...]:
        """The calls that a vertex stands for."""
        if vertex >= 0:
            return (vertex,)
        found = self._below.get(vertex)
        if found is None:
            below: dict[int, None] = {}
            for each in self._graph.gather_needs[~vertex]:
                below.update(dict.fromkeys(self._calls_of(each)))
            found = self._below[vertex] = tuple(below)
        return found

    def _find_gathers(self, vertex: int, uses: dict[int, None]) -> None:
        if vertex in uses:
            return
        uses[vertex] = None
        for each in self._graph.gather_needs[~vertex]:
            if each < 0:
                self._find_gathers(each, uses)

    def _gather_pickle(self, number: int) -> bytes:
        if number not in self._gather_pickles:
            if not self._packed:
                self._look_for_gathers()
            gather = self._packed.get(number)
            if gather is None:  # of add_dependency(), which passes no value
                return pickle.dumps(None)
            parts = _parts_of(gather)
            self._gather_pickles[number] = dumps_with(_with_nodes, _Whole(parts))
        return self._gather_pickles[number]

    def _look_for_gathers(self) -> None:
        stack: list[Any] = []
        for node in self._calls.plan.calls:
            stack += [*node.args, *node.kwargs.values()]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            if isinstance(node, Gather):
                seen.add(id(node))
                stack += node.parts
                if node.number is not None:
                    self._packed[node.number] = node
            elif isinstance(node, Item):
                stack.append(node.of)

    # ------------------------------------------------------------ ends

    def decode(self, record: Record) -> Any:
        """The answer of a call. A value that stays away, or is loaded later, is None here."""
        if record.kept >= 0:
            return Answer(None, None, record.ended)
        return decode_answer(record.answer)

    def ended(self, record: Record, outcome: Outcome, address: str) -> None:
        """Take note of a call that has ended."""
        worker = outcome.worker or ""
        if outcome.ok:
            self.returned(record, outcome.value, worker, address)
        else:
            self._values.worker_names.add(worker)

    def returned(self, record: Record, value: Any, worker: str, address: str) -> None:
        """Take note of the value of a call that has returned."""
        index = record.call
        self._values.worker_names.add(worker)
        self._values.made_by[index] = worker
        self._stats.add_durations(index, index + 1, record.began, {index: record.ended})  # type: ignore[arg-type]
        if isinstance(value, HandedOff):
            self._values.gone.add(index)
            return
        if index in self._to_lose:
            self._to_lose.discard(index)
            self._losing.add(index)
        self._values.gone.discard(index)
        size = record.kept
        if record.answer is not None:
            content = getattr(record.answer, "content", record.answer)
            self._values.answers[index] = content
            size = memoryview(content).nbytes
        if size >= LARGE_VALUE:
            self._stats.add_large((index,))
        self._values.places[index] = {address: size}
        self._drops.get(address, {}).pop(index, None)

    def lost(self, address: str) -> None:
        """A worker is gone, or its node: values that nobody else has are made again."""
        self._sent.pop(address, None)
        self._sent_gathers.pop(address, None)
        self._drops.pop(address, None)
        for index, places in list(self._values.places.items()):
            if address in places:
                self._remove_place(index, address)

    def made_last_by(self, index: int, worker: str) -> bool:
        """True if a call ran last on the worker of this name."""
        return self._values.made_by.get(index) == worker

    def missing(self, address: str, calls: tuple[int, ...]) -> None:
        """A worker could not get these values: they are not where they were thought to be."""
        for index in calls:
            self._sent.get(address, set()).discard(index)
            places = self._values.places.get(index, {})
            places.pop(address, None)
            for other in list(places):
                self._remove_place(index, other)
            if not places:
                self._lose_if_gone(index)

    def _remove_place(self, index: int, address: str) -> None:
        places = self._values.places.get(index, {})
        places.pop(address, None)
        if not places:
            self._lose_if_gone(index)

    def _lose_if_gone(self, index: int) -> None:
        if index not in self._values.answers and index not in self._values.given:
            self._scheduler.lose(index)

    def lose(self, index: int) -> None:
        """The value of a call is said to be lost."""
        if self._scheduler.state[index] == HANDED:
            self._to_lose.add(index)  # it may have ended, and the report is on its way
        else:
            self._scheduler.lose(index)

    def reopen(self, index: int) -> None:
        """A call is made again: its old value counts for nothing."""
        for sent in self._sent.values():
            sent.discard(index)
        self._drop(index)
        self._values.given.forget(index)

    def drop_unneeded(self) -> None:
        """Drop the values that no call needs any more."""
        while self._losing:
            self._scheduler.lose(self._losing.pop())
        for index in self._scheduler.uses.take_dropped():
            self._drop(index)

    def _drop(self, index: int) -> None:
        holders = dict(self._values.places.get(index, {}))
        for address, sent in self._sent.items():
            if index in sent:
                sent.discard(index)
                holders.setdefault(address, 0)
        for address, size in holders.items():
            self._drops.setdefault(address, {})[index] = size
        self._values.forget(index)

    def locality(self, index: int, workers: tuple[Any, ...]) -> Any:
        """What a call says about these workers; None: nothing."""
        locality = self._calls.plan.calls[index].locality
        return locality(workers) if callable(locality) else locality

    @property
    def is_in_line(self) -> bool:
        """True if no other worker could take a part of what can start now: of a chain."""
        return self._scheduler.has_one_start

    def take_drops(self) -> list[tuple[str, tuple[int, ...]]]:
        """By worker, what it may drop: of those for which it can't wait for the next chunk."""
        found = [
            address
            for address, calls in self._drops.items()
            if len(calls) > MANY_DROPS or sum(calls.values()) > LARGE_VALUE
        ]
        return [(address, tuple(self._drops.pop(address))) for address in found]

    def near(self, calls: range) -> dict[str, int]:
        """By worker, the bytes of large values that it has and the first of these calls needs."""
        found: dict[str, int] = {}
        if not self._stats.has_large:
            return found
        for vertex in self._graph.needs[calls.start]:
            for each in self._calls_of(vertex):
                for address, size in self._values.places.get(each, {}).items():
                    if size >= LARGE_VALUE:
                        found[address] = found.get(address, 0) + size
        return found


def _is_plain(node: PlanCall) -> bool:
    """True if the arguments of a call can be pickled as far as one can see."""
    given = [each for each in (*node.args, *node.kwargs.values()) if type(each) is not PlanCall]
    return are_plain(each.value if type(each) is Lit else each for each in given)


class _Whole:
    """Pickles as a container that is built again, for those that get it."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts


def _parts_of(gather: Gather) -> tuple[Any, ...]:
    keys = [
        (place, repr(part))
        for place, part in enumerate(gather.parts)
        if any(part is key for key in gather.keys)
    ]
    return "gather", gather.kind.__name__, gather.build, list(gather.parts), keys


_picklers: dict[Any, type[pickle.Pickler]] = {}


def _with_nodes(base: Any) -> type[pickle.Pickler]:
    """A pickler that passes on what stands for a node, in place of the node."""
    known = _picklers.get(base)
    if known is None:
        known = _picklers[base] = _make_pickler(base)
    return known


def _make_pickler(base: Any) -> type[pickle.Pickler]:

    class NodePickler(base):  # type: ignore[misc]
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, PlanCall):
                return "call", obj.index
            if isinstance(obj, Lit):
                return "lit", obj.value
            if isinstance(obj, Item):
                return "item", obj.of, obj.number, obj.count, repr(obj.of)
            if isinstance(obj, Gather):
                return ("shared", obj.number) if obj.number is not None else _parts_of(obj)
            if isinstance(obj, _Whole):
                return obj.parts
            return None

    return NodePickler
