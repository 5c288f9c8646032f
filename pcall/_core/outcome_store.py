"""The outcomes of a run, as far as they are there, and the order in which they came."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from pcall._core.calls import Calls
from pcall._core.records import Outcome
from pcall._wire.result_table import ResultTable
from pcall.engines.local.parent.child_process import ChildProcess

__all__ = ["ChunkOutcomeStore", "OutcomeStore"]


class OutcomeStore(Sequence[Outcome | None]):
    """An outcome for each call, in call order; None for one that is not over.

    Args:
        calls: of the run.

    Attributes:
        completed: the calls that are over, in the order in which they were.
        ended: how many these are.
        failed: how many of them have no value.
    """

    def __init__(self, calls: Calls) -> None:
        self._size = len(calls)
        self._outcomes: dict[int, Outcome] = {}
        self.completed: list[range] = []
        self.ended = 0
        self.failed = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._outcomes.get(index)

    def __iter__(self) -> Iterator[Outcome | None]:
        return map(self.__getitem__, range(self._size))

    def has(self, index: int) -> bool:
        """True when a call is over."""
        return index in self._outcomes

    def record(self, outcome: Outcome) -> None:
        """Take the outcome of a call, unless that was done before."""
        if outcome.index not in self._outcomes:
            self._outcomes[outcome.index] = outcome
            self.failed += not outcome.ok
            self._complete(range(outcome.index, outcome.index + 1))

    def _complete(self, calls: range) -> None:
        self.completed.append(calls)
        self.ended += len(calls)

    def values(self) -> tuple[Any, ...]:
        """What the calls returned, of which none has failed."""
        return tuple(self._outcomes[index].value for index in range(self._size))


class ChunkOutcomeStore(OutcomeStore):
    """The same for calls that come in long chunks: no outcome is made until asked for.

    Args:
        calls: of the run.
        table: where the children write their figures.
    """

    def __init__(self, calls: Calls, table: ResultTable) -> None:
        super().__init__(calls)
        self._calls = calls
        self._table = table
        self._values: list[Any] = [None] * len(calls)
        # Each with the first call, the one behind the last, when it began, and whose it was.
        self._chunks: list[tuple[int, int, float, int]] = []
        self._sorted = 0
        self._claims: dict[int, int] = {}
        self._children: list[tuple[ChildProcess, float]] = []

    def add_child(self, child: ChildProcess, clock: float) -> int:
        """Note a child that may run calls.

        Args:
            child: the child.
            clock: what time.time() is ahead of time.monotonic().

        Returns:
            Its number.
        """
        self._children.append((child, clock))
        return len(self._children) - 1

    def record_chunk(
        self, start: int, stop: int, began: float, owner: int, values: list[Any]
    ) -> None:
        """Take the values of consecutive calls that one child ran one after another.

        Args:
            start: the first.
            stop: the one behind the last.
            began: when the first began, on the monotonic clock.
            owner: the number of the child.
            values: what they returned.
        """
        self._values[start:stop] = values
        self._chunks.append((start, stop, began, owner))
        self._complete(range(start, stop))

    def child(self, index: int) -> ChildProcess | None:
        """The child that ran a call, or None."""
        chunk = self._chunk(index)
        owner = self._claims.get(index) if chunk is None else chunk[3]
        return None if owner is None else self._children[owner][0]

    def claim(self, index: int, owner: int) -> None:
        """Note which child ran a call that has failed."""
        self._claims[index] = owner

    def disclaim(self, index: int) -> None:
        """It is to be tried again."""
        self._claims.pop(index, None)

    def tried(self, index: int, attempts: int) -> None:
        """Note that a call that returned had to be tried so often."""
        self._outcomes[index] = replace(self[index], attempts=attempts)

    def has(self, index: int) -> bool:
        return super().has(index) or self._chunk(index) is not None

    def _chunk(self, index: int) -> tuple[int, int, float, int] | None:
        """The chunk that a call was in that returned."""
        if self._sorted < len(self._chunks):
            self._chunks.sort()
            self._sorted = len(self._chunks)
        place = bisect_right(self._chunks, index, key=itemgetter(0)) - 1
        if place < 0 or index >= self._chunks[place][1]:
            return None
        return self._chunks[place]

    def __getitem__(self, index: Any) -> Any:
        made = super().__getitem__(index)
        if isinstance(index, slice):
            return made
        chunk = None if made else self._chunk(index)
        if chunk is None:
            return made
        start, _, began, owner = chunk
        child, clock = self._children[owner]
        forked, table = child.forked, self._table
        assert forked is not None
        began = began if index == start else table.ended[index - 1]
        rss = table.rss[index]
        measured = rss > 0  # of calls of less than a millisecond that may come later
        outcome = Outcome(
            index=index,
            call=self._calls[index],
            ok=True,
            value=self._values[index],
            pid=forked.pid,
            exitcode=0,
            attempts=1,
            started=began + clock,
            duration=table.ended[index] - began,
            cpu_time=table.cpu[index] if measured else None,
            max_rss=rss if measured else None,
            rss_growth=max(0, rss - forked.rss) if measured else None,
        )
        if measured:
            self._outcomes[index] = outcome
        return outcome

    def values(self) -> tuple[Any, ...]:
        return tuple(self._values)
