"""The outcomes of a run, as far as they are there, and the order in which they came."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pcall._calls import Calls
from pcall._process import ChildProcess
from pcall._records import Outcome
from pcall._table import Table

__all__ = ["Ledger", "StretchLedger"]


class Ledger(Sequence[Outcome | None]):
    """An outcome for each call, in call order; None for one that is not over.

    Args:
        calls: of the run.

    Attributes:
        completed: indices of the calls that are over, in the order in which they were.
        failed: how many of them have no value.
    """

    def __init__(self, calls: Calls) -> None:
        self._outcomes: list[Outcome | None] = [None] * len(calls)
        self.completed: list[int] = []
        self.failed = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getitem__(self, index: Any) -> Any:
        return self._outcomes[index]

    def record(self, outcome: Outcome) -> None:
        """Take the outcome of a call, unless that was done before."""
        if self._outcomes[outcome.index] is None:
            self._outcomes[outcome.index] = outcome
            self.failed += not outcome.ok
            self.completed.append(outcome.index)

    def values(self) -> tuple[Any, ...]:
        """What the calls returned, of which none has failed."""
        return tuple(outcome.value for outcome in self._outcomes if outcome is not None)


class StretchLedger(Ledger):
    """The same for calls that come in long stretches: no outcome is made until asked for.

    Args:
        calls: of the run.
        table: where the children write their figures.
    """

    def __init__(self, calls: Calls, table: Table) -> None:
        super().__init__(calls)
        count = len(calls)
        self._calls = calls
        self._table = table
        self._values: list[Any] = [None] * count
        self._began = memoryview(bytearray(8 * count)).cast("d")
        self._owners = memoryview(bytearray(4 * count)).cast("i")  # 0: none
        self._children: list[tuple[ChildProcess, float]] = []

    def add_child(self, child: ChildProcess, clock: float) -> int:
        """Note a child that may run calls.

        Args:
            child: the child.
            clock: what time.time() is ahead of time.monotonic().

        Returns:
            Its number, from 1.
        """
        self._children.append((child, clock))
        return len(self._children)

    def record_stretch(
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
        self._began[start] = began
        self._began[start + 1 : stop] = self._table.ended[start : stop - 1]
        self._owners[start:stop] = memoryview(array("i", [owner]) * (stop - start))
        self.completed.extend(range(start, stop))

    def child(self, index: int) -> ChildProcess | None:
        """The child that ran a call, or None."""
        owner = self._owners[index]
        return self._children[owner - 1][0] if owner else None

    def tried(self, index: int, attempts: int) -> None:
        """Note that a call that returned had to be tried so often."""
        self._outcomes[index] = replace(self[index], attempts=attempts)

    def claim(self, index: int, owner: int) -> None:
        """Note which child ran a call that has failed; 0: none, it is to be tried again."""
        self._owners[index] = owner

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        made = self._outcomes[index]
        if made is not None or not self._owners[index] or not self._table.kinds[index]:
            return made
        index = index % len(self)
        child, clock = self._children[self._owners[index] - 1]
        forked = child.forked
        assert forked is not None
        began, rss = self._began[index], self._table.rss[index]
        outcome = Outcome(
            index=index,
            call=self._calls[index],
            ok=True,
            value=self._values[index],
            pid=forked.pid,
            exitcode=0,
            attempts=1,
            started=began + clock,
            duration=self._table.ended[index] - began,
            cpu_time=self._table.cpu[index],
            max_rss=rss,
            rss_growth=max(0, rss - forked.rss),
        )
        self._outcomes[index] = outcome
        return outcome

    def __iter__(self) -> Iterator[Outcome | None]:
        return (self[index] for index in range(len(self)))

    def values(self) -> tuple[Any, ...]:
        return tuple(self._values)
