"""What observers of a run are told, from what happens to its calls."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from operator import not_

from pcall._core.calls import Calls
from pcall._core.observers import Observers
from pcall._core.records import Event, Kind, Outcome
from pcall._wire.result_table import ResultTable

__all__ = ["EventEmitter"]


class EventEmitter:
    """Turns what happens into events. It costs next to nothing when nobody observes.

    Args:
        calls: of the run.
        observers: whom to tell.
    """

    def __init__(self, calls: Calls, observers: Observers) -> None:
        self._calls = calls
        self._to = observers

    def __bool__(self) -> bool:
        """True when somebody observes."""
        return bool(self._to)

    def begin(self, planned: Iterable[int]) -> None:
        """The run starts.

        Args:
            planned: the calls that are part of it.
        """
        self._to.begin()
        self.planned(planned)

    def turn(self) -> None:
        """Pass on what has happened, when it is time to."""
        self._to.turn()

    def pause(self) -> float:
        """Seconds until :meth:`turn` is due."""
        return self._to.pause()

    def end(self) -> None:
        """The run is over."""
        self._to.end()

    def started(self, index: int, at: float, count: int = 1) -> None:
        """A call runs; with a count of -1, it does not, after all."""
        if self._to:
            self._to.add(Event("started", self._calls.scope(index), at, count))

    def ended(self, outcome: Outcome, retried: bool) -> None:
        """A call is over, or will be tried again."""
        if not self._to:
            return
        kind: Kind = "retried" if retried else "done" if outcome.ok else "failed"
        self._to.add(
            Event(
                kind,
                self._calls.scope(outcome.index),
                time.monotonic(),
                wall=outcome.duration or 0.0,
                cpu=outcome.cpu_time or 0.0,
                max_rss=outcome.max_rss or 0,
                outcome=None if outcome.ok else outcome,
            )
        )

    def planned(self, indices: Iterable[int]) -> None:
        """These have become part of the run, or are to be made once more."""
        self._many("planned", indices)

    def skipped(self, indices: Iterable[int]) -> None:
        """These will not start, or not again."""
        self._many("skipped", indices)

    def chunk(
        self, start: int, stop: int, began: float, table: ResultTable, announced: bool
    ) -> None:
        """One child has run these calls, one after another, and all are done.

        Args:
            start: the first.
            stop: the one behind the last.
            began: when the first began.
            table: has their figures.
            announced: True when the first has been told of as started.
        """
        if not self._to:
            return
        for scope, first, last in self._calls.scopes(start, stop):
            at = table.ended[last - 1]
            if unannounced := last - first - announced:
                self._to.add(Event("started", scope, at, unannounced))
            announced = False
            cpu, rss = sum(table.cpu[first:last].tolist()), table.rss[first:last]
            # A child's peak never falls; the calls since its last look have none yet.
            known = bisect_left(rss, True, key=not_)
            peak = rss[known - 1] if known else 0
            self._to.add(Event("done", scope, at, last - first, at - began, cpu, peak))
            began = at

    def _many(self, kind: Kind, indices: Iterable[int]) -> None:
        if not self._to:
            return
        now = time.monotonic()
        scopes: Counter[tuple[str, ...]] = Counter()
        if isinstance(indices, range):
            for scope, first, last in self._calls.scopes(indices.start, indices.stop):
                scopes[scope] += last - first
        else:
            scopes.update(map(self._calls.scope, indices))
        for scope, count in scopes.items():
            self._to.add(Event(kind, scope, now, count))
