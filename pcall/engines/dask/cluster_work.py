"""The part of a cluster's run that depends on the kind of its calls: how they are packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pcall._core.calls import Calls
from pcall._core.records import Outcome
from pcall._tuning import SEEDED_BLOCKS
from pcall.engines.dask.answers import decode_answer
from pcall.engines.dask.sending import FunctionTable, check_arguments, pack_arguments
from pcall.engines.dask.wire_records import ChunkOrder, Record

__all__ = ["ClusterWork"]


class ClusterWork:
    """Independent calls.

    Args:
        calls: of the run.
        reused: True if children run several calls.
        locality: of a call and the workers: says which of them it should run on.

    Attributes:
        functions: the pickled functions of the run.
        least: the calls of a chunk before anything is known of their durations.
        keeps: True if the values of calls stay on the workers.
        strict: True if later calls of a chunk depend on the earlier ones.
        is_in_line: True if no other worker could take a part of what can start now.
    """

    keeps = strict = is_in_line = False

    def __init__(
        self, calls: Calls, reused: bool, locality: Callable[..., Any] | None = None
    ) -> None:
        self._calls = calls
        self._locality = locality
        self._reused = reused
        self.functions: bytes = b""
        self.least: int = 1
        self._table: FunctionTable | None = None

    def open(self) -> None:
        """Pickle the functions, and see that the arguments can be pickled.

        Raises:
            NotSendable: something can't.
        """
        self._table = FunctionTable(self._calls.targets)
        self.functions = self._table.content
        check_arguments(self._calls)

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def block(self, seeded: bool) -> int:
        """The number of calls that one child runs in one piece, seeded at the first."""
        if self._reused and seeded:
            self.least = max(1, len(self._calls) // SEEDED_BLOCKS)
        return self.least

    def rounded(self, size: int) -> int:
        """A number of calls that cuts no block."""
        return max(self.least, size - size % self.least)

    def pack(self, calls: range) -> Iterator[tuple[int, bytes, bool]]:
        """Of each of these calls: its function's number, its pickled arguments, and True."""
        assert self._table is not None
        number = self._table.number
        for target, args, kwargs in self._calls.parts(calls.start, calls.stop):
            yield number(target), pack_arguments(args, kwargs), True

    @property
    def has_locality(self) -> bool:
        """True if the caller has an idea of where each call should run."""
        return self._locality is not None

    def locality(self, index: int, workers: tuple[Any, ...]) -> Any:
        """What the caller says about these workers for a call."""
        assert self._locality is not None
        return self._locality(self._calls[index], workers)

    def near(self, calls: range) -> Mapping[str, int]:
        """By worker, the bytes that it has and these calls need: none."""
        return {}

    def take_drops(self) -> Sequence[tuple[str, tuple[int, ...]]]:
        """By worker, the calls whose values it may drop now."""
        return ()

    def complete(self, order: ChunkOrder, address: str) -> ChunkOrder:
        """The order as a worker gets it: with all that its calls need beside their arguments."""
        return order

    def made_last_by(self, index: int, worker: str) -> bool:
        """True if a call ran last on the worker of this name."""
        return False

    def missing(self, address: str, calls: tuple[int, ...]) -> None:
        """A worker lacks the values of these calls."""

    def decode(self, record: Record) -> Any:
        """The answer of a call."""
        return decode_answer(record.answer)

    def ended(self, record: Record, outcome: Outcome, address: str) -> None:
        """Take note of a call that has ended on this worker."""

    def returned(self, record: Record, value: Any, worker: str, address: str) -> None:
        """Take note of a call that has returned on this worker."""

    def lost(self, address: str) -> None:
        """A worker is gone, or its node, with the values that it had."""

    def reopen(self, index: int) -> None:
        """Do nothing: only a retry executes a call again."""

    def drop_unneeded(self) -> None:
        """Do nothing: the caller gets all values."""
