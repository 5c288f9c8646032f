"""The outcomes of calls that come in long chunks from reused workers."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from pcall._core.calls import Calls
from pcall._core.captured import SILENCE, Captured
from pcall._core.outcome_store import OutcomeStore
from pcall._core.records import Outcome
from pcall._core.worker_figures import WorkerFigures

__all__ = ["ChunkOutcomeStore", "PassingOutcomes"]


class _Chunk(NamedTuple):
    """Consecutive calls that one worker ran one after another, and that all returned."""

    start: int
    stop: int
    began: float
    worker: WorkerFigures


class ChunkOutcomeStore(OutcomeStore):
    """Stores the outcomes of long chunks, and makes ``Outcome`` objects when they are asked for.

    Args: see :class:`OutcomeStore`; and
        captures: True if the output of calls is captured.
    """

    def __init__(
        self,
        calls: Calls,
        value_of: Callable[[int], Any] | None = None,
        captures: bool = False,
    ) -> None:
        super().__init__(calls, value_of)
        # What calls that returned have written, if it was anything; None: nothing is captured.
        self._captured: dict[int, Captured] | None = {} if captures else None
        self._values: list[Any] = [None] * len(calls) if calls.kept else []
        self._chunks: list[_Chunk] = []
        self._sorted = 0  # the number of chunks at the front that are in call order
        self._workers: dict[int, WorkerFigures] = {}  # of calls that failed

    def record_chunk(
        self, start: int, stop: int, began: float, worker: WorkerFigures, values: list[Any]
    ) -> None:
        """Store the values of consecutive calls that one worker ran one after another.

        Args:
            start: the first call.
            stop: the call behind the last.
            began: the time when the first call began, on the monotonic clock.
            worker: the figures of the worker.
            values: the returned values.
        """
        missing = stop - len(self._values)
        if missing > 0:  # the run has grown
            self._values += [None] * max(missing, len(self) - len(self._values))
        self._values[start:stop] = values
        self._chunks.append(_Chunk(start, stop, began, worker))
        self._complete(range(start, stop))

    def child(self, index: int) -> Any:
        """The process object of the worker that ran a call, or None."""
        chunk = self._chunk(index)
        worker = self._workers.get(index) if chunk is None else chunk.worker
        return None if worker is None else worker.child

    def claim(self, index: int, worker: WorkerFigures) -> None:
        """Remember the worker that ran a call which has failed."""
        self._workers[index] = worker

    def disclaim(self, index: int) -> None:
        """Forget the worker of a call that is retried."""
        self._workers.pop(index, None)

    def has(self, index: int) -> bool:
        return super().has(index) or self._chunk(index) is not None

    def _chunk(self, index: int) -> _Chunk | None:
        """The chunk of a call that returned."""
        if self._sorted < len(self._chunks):
            self._chunks.sort(key=attrgetter("start"))
            self._sorted = len(self._chunks)
        place = bisect_right(self._chunks, index, key=attrgetter("start")) - 1
        if place < 0 or index >= self._chunks[place].stop:
            return None
        return self._chunks[place]

    def _find(self, index: int) -> Outcome | None:
        made = super()._find(index)
        chunk = None if made else self._chunk(index)
        if chunk is None:
            return made
        outcome = self._make(chunk, index, self._values[index])
        if outcome.max_rss is not None:  # calls of less than a millisecond may be measured later
            self._outcomes[index] = outcome
        return outcome

    def _make(self, chunk: _Chunk, index: int, value: Any) -> Outcome:
        worker = chunk.worker
        began = chunk.began if index == chunk.start else worker.ended[index - 1]
        rss = worker.max_rss[index]
        captured = None if self._captured is None else self._captured.get(index, SILENCE)
        measured = rss > 0
        return Outcome(
            index=index,
            call=self._calls[index],
            ok=True,
            value=value,
            pid=worker.pid,
            exitcode=0,
            attempts=1,
            started=began + worker.clock,
            duration=worker.ended[index] - began,
            cpu_time=worker.cpu[index] if measured else None,
            max_rss=rss if measured else None,
            rss_growth=max(0, rss - worker.rss) if measured else None,
            stdout=None if captured is None else captured.stdout,
            stderr=None if captured is None else captured.stderr,
        )

    def note_output(self, index: int, captured: Captured) -> None:
        """Note what a call has written that is going to be recorded as part of a chunk."""
        if self._captured is not None:
            self._captured.pop(index, None)  # of an attempt before
            if captured is not SILENCE:
                self._captured[index] = captured

    def output(self, index: int) -> Captured | None:
        found = super().output(index)
        if found is None and self._captured is not None and self._chunk(index) is not None:
            found = self._captured.get(index, SILENCE)
        return found

    def forget(self, index: int) -> None:
        super().forget(index)
        self.disclaim(index)
        if self._captured is not None:
            self._captured.pop(index, None)

    def reopen(self, index: int) -> None:
        chunk = self._chunk(index)
        if chunk is not None:
            self._chunks.remove(chunk)
            if chunk.start < index:
                self._chunks.append(chunk._replace(stop=index))
            if index + 1 < chunk.stop:
                began = chunk.worker.ended[index]
                self._chunks.append(chunk._replace(start=index + 1, began=began))
            self._sorted = 0
        self.disclaim(index)
        super().reopen(index)

    def values(self) -> tuple[Any, ...]:
        return tuple(self._values)


class PassingOutcomes(ChunkOutcomeStore):
    """Stores outcomes until they are taken and forgotten, so that a run may go on for ever."""

    def __init__(self, calls: Calls, captures: bool = False) -> None:
        super().__init__(calls, captures=captures)
        self._new: deque[int] = deque()

    @property
    def waiting(self) -> bool:
        """True while :meth:`take` has an outcome."""
        return bool(self._new)

    def take(self) -> Outcome | None:
        """The outcome of the next call that has ended; None if there is none."""
        return self[self._new.popleft()] if self._new else None

    def record_chunk(
        self, start: int, stop: int, began: float, worker: WorkerFigures, values: list[Any]
    ) -> None:
        chunk = _Chunk(start, stop, began, worker)
        for index, value in zip(range(start, stop), values, strict=True):
            self._outcomes[index] = self._make(chunk, index, value)
        self._complete(range(start, stop))

    def _complete(self, calls: range) -> None:
        self.ended += len(calls)
        self._new.extend(calls)
