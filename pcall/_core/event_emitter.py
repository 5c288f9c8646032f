"""Converts call state changes into events for the observers of a run."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import not_

from pcall._core.calls import Calls
from pcall._core.observers import Observers
from pcall._core.records import Event, Kind, Outcome
from pcall._core.spans import ChunkSpans, Span
from pcall._core.worker_figures import WorkerFigures

__all__ = ["EventEmitter"]


class EventEmitter:
    """Makes events, and passes them to the observers. Without observers it costs almost nothing.

    Args:
        calls: of the run.
        observers: the receivers of the events.
        clock: gives the time in seconds.

    Attributes:
        workers: the names of reused workers, by process id.
    """

    def __init__(self, calls: Calls, observers: Observers, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._to = observers
        self._clock = clock
        self.workers: dict[int, str] = {}
        self._spans = False
        # Begin and process of the calls that run, if spans are wanted.
        self._began: dict[int, tuple[float, int | None]] = {}

    def __bool__(self) -> bool:
        """True if the run has observers."""
        return bool(self._to)

    def begin(self, planned: Iterable[int]) -> None:
        """Report the start of the run.

        Args:
            planned: the calls that are part of the run.
        """
        self._spans = self._to.want_spans
        self._to.begin()
        self.planned(planned)

    def turn(self) -> None:
        """Pass the queued events on, if that is due."""
        self._to.turn()

    def pause(self) -> float:
        """Seconds until :meth:`turn` is due."""
        return self._to.pause()

    def end(self) -> None:
        """Report the end of the run."""
        self._to.end()

    def started(self, index: int, at: float, pid: int | None = None) -> None:
        """Report that a call runs, in this process."""
        self._started(index, at, 1, pid)

    def not_started(self, index: int) -> None:
        """Report that a call which was reported as started waits after all."""
        self._started(index, self._clock(), -1)

    def _started(self, index: int, at: float, count: int, pid: int | None = None) -> None:
        if not self._to:
            return
        spans: tuple[Span, ...] = ()
        if self._spans:
            if count > 0:
                self._began[index] = at, pid
            else:
                at, pid = self._began.pop(index, (at, None))
            worker = None if pid is None else self.workers.get(pid)
            spans = (Span(index, self._calls.name(index), 1, at, None, pid, worker),)
        self._to.add(Event("started", self._calls.scope(index), at, count, spans=spans))

    def _span(self, outcome: Outcome) -> tuple[Span, ...]:
        """The span of an attempt that has ended."""
        if not self._spans or outcome.duration is None:
            return ()
        index, pid = outcome.index, outcome.pid
        began, _ = self._began.pop(index, (self._clock() - outcome.duration, None))
        return (
            Span(
                index=index,
                name=self._calls.name(index),
                attempt=outcome.attempts,
                began=began,
                ended=began + outcome.duration,
                pid=pid,
                worker=None if pid is None else self.workers.get(pid),
                cpu=outcome.cpu_time,
                max_rss=outcome.max_rss,
            ),
        )

    def ended(self, outcome: Outcome, retried: bool) -> None:
        """Report the end of an attempt; ``retried`` if another attempt follows."""
        if not self._to:
            return
        kind: Kind = "retried" if retried else "done" if outcome.ok else "failed"
        self._to.add(
            Event(
                kind,
                self._calls.scope(outcome.index),
                self._clock(),
                wall=outcome.duration or 0.0,
                cpu=outcome.cpu_time or 0.0,
                max_rss=outcome.max_rss or 0,
                outcome=None if outcome.ok else outcome,
                spans=self._span(outcome),
            )
        )

    def settled(self, outcome: Outcome) -> None:
        """A call was marked as done or failed, and will not run."""
        if self._to:
            kind: Kind = "done" if outcome.ok else "failed"
            failed = None if outcome.ok else outcome
            scope = self._calls.scope(outcome.index)
            self._to.add(Event(kind, scope, self._clock(), outcome=failed, settled=True))

    def planned(self, indices: Iterable[int]) -> None:
        """Report calls that have become part of the run, or are executed again."""
        self._count("planned", indices)

    def skipped(self, indices: Iterable[int]) -> None:
        """Report calls that will not start, or not again."""
        self._count("skipped", indices)

    def chunk_done(
        self, start: int, stop: int, began: float, figures: WorkerFigures, announced: bool
    ) -> None:
        """Report calls that one worker ran one after another, and that all returned.

        Args:
            start: the first call.
            stop: the call behind the last.
            began: the time when the first call began.
            figures: of the worker.
            announced: True if the first call was reported as started before.
        """
        if not self._to:
            return
        for scope, first, last in self._calls.scopes(start, stop):
            at = figures.ended[last - 1]
            if unannounced := last - first - announced:
                self._to.add(Event("started", scope, at, unannounced))
            announced = False
            cpu, rss = sum(figures.cpu[first:last].tolist()), figures.max_rss[first:last]
            # The peak of a worker never falls; calls that it has not measured yet have 0.
            known = bisect_left(rss, True, key=not_)
            peak = rss[known - 1] if known else 0
            spans: Sequence[Span] = ()
            if self._spans:
                self._began.pop(first, None)
                worker = self.workers.get(figures.pid)
                spans = ChunkSpans(range(first, last), began, figures, worker, self._calls.name)
            self._to.add(Event("done", scope, at, last - first, at - began, cpu, peak, spans=spans))
            began = at

    def note(self, kind: Kind, scope: tuple[str, ...]) -> None:
        """Report a call of this scope that the run does not know yet, or any more."""
        if self._to:
            self._to.add(Event(kind, scope, self._clock()))

    def _count(self, kind: Kind, indices: Iterable[int]) -> None:
        if not self._to:
            return
        now = self._clock()
        scopes: Counter[tuple[str, ...]] = Counter()
        if isinstance(indices, range):
            for scope, first, last in self._calls.scopes(indices.start, indices.stop):
                scopes[scope] += last - first
        else:
            scopes.update(map(self._calls.scope, indices))
        for scope, count in scopes.items():
            self._to.add(Event(kind, scope, now, count))
