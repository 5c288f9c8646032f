"""The outcomes of a cluster's run: those of calls that returned are kept in columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pcall._core.calls import Calls
from pcall._core.outcome_store import OutcomeStore
from pcall._core.records import Outcome

__all__ = ["PackedOutcomeStore", "Returned"]


class Returned(NamedTuple):
    """A call that returned.

    Attributes:
        value: its value.
        pid: of its process.
        attempts: the number of attempts.
        started: in seconds since the epoch.
        duration: in seconds.
        cpu_time: in seconds; None: not known.
        max_rss: bytes of peak memory; None: not known.
        rss_growth: the bytes by which its process grew.
    """

    value: Any
    pid: int
    attempts: int
    started: float
    duration: float
    cpu_time: float | None
    max_rss: int | None
    rss_growth: int | None


class PackedOutcomeStore(OutcomeStore):
    """Stores what calls returned in columns, and makes ``Outcome`` objects when asked for them.

    An ``Outcome`` with its call takes ten times as much memory.

    Args: see :class:`OutcomeStore`.
    """

    def __init__(self, calls: Calls, value_of: Callable[[int], Any] | None = None) -> None:
        super().__init__(calls, value_of)
        self._keeps_values = value_of is None
        self._packed = bytearray()  # by call, 1 if it is in the columns
        self._returned: list[Any] = []
        self._times = tuple(array("d") for _ in range(3))
        self._numbers = tuple(array("q") for _ in range(4))
        self._workers: list[str] = []
        self._numbers_of_workers: dict[str, int] = {}
        self._worker_numbers = array("l")

    def record_returned(self, start: int, worker: str, calls: Sequence[Returned]) -> None:
        """Store consecutive calls that one worker ran.

        Args:
            start: the first call.
            worker: the name of the worker.
            calls: how they ended.
        """
        stop = start + len(calls)
        self._make_room(stop)
        place = self._numbers_of_workers.setdefault(worker, len(self._workers))
        if place == len(self._workers):
            self._workers.append(worker)
        started, duration, cpu_time = self._times
        pid, attempts, max_rss, growth = self._numbers
        for index, call in enumerate(calls, start):
            if self._keeps_values:
                self._returned[index] = call.value
            started[index], duration[index] = call.started, call.duration
            cpu_time[index] = -1.0 if call.cpu_time is None else call.cpu_time
            pid[index], attempts[index] = call.pid, call.attempts
            max_rss[index] = -1 if call.max_rss is None else call.max_rss
            growth[index] = -1 if call.rss_growth is None else call.rss_growth
            self._worker_numbers[index] = place
            self._packed[index] = 1
        self._complete(range(start, stop))

    def _make_room(self, stop: int) -> None:
        missing = max(stop, len(self)) - len(self._packed)
        if missing <= 0:
            return
        self._packed.extend(bytes(missing))
        if self._keeps_values:
            self._returned.extend([None] * missing)
        columns: tuple[array[Any], ...] = (*self._times, *self._numbers, self._worker_numbers)
        for column in columns:
            column.frombytes(bytes(missing * column.itemsize))

    def has(self, index: int) -> bool:
        return super().has(index) or self._is_packed(index)

    def _is_packed(self, index: int) -> bool:
        return index < len(self._packed) and self._packed[index] == 1

    def _find(self, index: int) -> Outcome | None:
        made = super()._find(index)
        if made is not None or not self._is_packed(index):
            return made
        started, duration, cpu_time = (column[index] for column in self._times)
        pid, attempts, max_rss, growth = (column[index] for column in self._numbers)
        return Outcome(
            index=index,
            call=self._calls[index],
            ok=True,
            value=self._returned[index] if self._keeps_values else None,
            pid=pid,
            exitcode=0,
            attempts=attempts,
            started=started,
            duration=duration,
            cpu_time=None if cpu_time < 0 else cpu_time,
            max_rss=None if max_rss < 0 else max_rss,
            rss_growth=None if growth < 0 else growth,
            worker=self._workers[self._worker_numbers[index]],
        )

    def reopen(self, index: int) -> None:
        self._unpack(index)
        super().reopen(index)

    def forget(self, index: int) -> None:
        self._unpack(index)
        super().forget(index)

    def _unpack(self, index: int) -> None:
        if self._is_packed(index):
            self._packed[index] = 0
            if self._keeps_values:
                self._returned[index] = None

    def values(self) -> tuple[Any, ...]:
        made = self._outcomes
        if not made:
            return tuple(self._returned)
        return tuple(
            made[index].value if index in made else self._returned[index]
            for index in range(len(self))
        )
