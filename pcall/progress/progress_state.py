"""Computes the figures of all displays from events and a clock. Pure.

Elapsed time is attributed to scopes: at any moment it is shared evenly among the running calls.
While ``R`` calls run, a moment ``dt`` adds ``dt / R`` to each. So one integral of that over time
serves all scopes, and an event costs the same however many scopes there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pcall._core.records import Event
from pcall.progress.failure_groups import GroupedFailures

__all__ = ["Figures", "State"]

# The rate is an exponentially weighted average: an event this many seconds ago weighs 1/e. The
# number grows by a share of the time that has passed, so that long calls don't make the rate jump.
_MEMORY = 10.0
_MEMORY_GROWS = 0.25
# Seconds from the first start in which a rate would be meaningless.
_SETTLING = 0.2


@dataclass(frozen=True, slots=True)
class Figures:
    """The progress of one scope, or of all scopes together.

    Attributes:
        scope: its names; empty for all scopes together.
        total: calls that are part of the run.
        done: calls that returned, or were marked as done.
        failed: calls that failed for good, or were marked as failed.
        skipped: calls that will never start.
        running: calls that are running.
        waiting: calls that wait to start, for the first time or again.
        retried: attempts that failed and were, or will be, followed by another.
        elapsed: the share of the run's wall time attributed to this scope, in seconds.
        attempts: the number of attempts that have ended, which the next three fields cover.
        wall: seconds that these attempts ran, summed.
        cpu: seconds of user and system time that they used, summed.
        max_rss: the highest of their peaks of resident memory, in bytes.
        rate: calls that ended per second recently; over the whole run once it has ended. None
            before, and right after, the first start.
        remaining: seconds until all have ended at that rate; None if that is unknown.
    """

    scope: tuple[str, ...]
    total: int
    done: int
    failed: int
    skipped: int
    running: int
    waiting: int
    retried: int
    elapsed: float
    attempts: int
    wall: float
    cpu: float
    max_rss: int
    rate: float | None
    remaining: float | None

    @property
    def over(self) -> int:
        """The number of calls that have ended or been skipped."""
        return self.done + self.failed + self.skipped


class _Tally:
    """The sums of one scope."""

    __slots__ = (
        "attempts",
        "cpu",
        "done",
        "elapsed",
        "ends",
        "failed",
        "first_start",
        "max_rss",
        "planned",
        "retried",
        "running",
        "scope",
        "seen",
        "settled",
        "skipped",
        "span",
        "updated",
        "wall",
        "weight",
    )

    def __init__(self, scope: tuple[str, ...]) -> None:
        self.scope = scope
        self.planned = self.running = 0
        self.done = self.failed = self.skipped = self.retried = self.attempts = 0
        self.wall = self.cpu = self.elapsed = 0.0
        self.max_rss = 0
        self.settled = 0
        self.seen = 0.0  # the value of the integral that `elapsed` includes
        self.first_start: float | None = None
        # Both are weighted: the seconds since the first start, and the ends since then. An end
        # stands for the time since the previous one, and has the average weight of that time.
        self.span = self.ends = 0.0
        self.updated = 0.0
        self.weight = 1.0

    def faded(self, now: float) -> tuple[float, float, float]:
        """``span``, ``ends`` and ``weight`` at this time."""
        passed = now - self.updated
        if self.first_start is None or passed <= 0:
            return self.span, self.ends, self.weight
        memory = _MEMORY + _MEMORY_GROWS * (now - self.first_start)
        left = math.exp(-passed / memory)
        gained = memory * (1 - left)
        return self.span * left + gained, self.ends * left, gained / passed

    def count(self, event: Event, now: float) -> None:
        """Count an event at this time."""
        number = event.count
        if event.kind == "planned":
            self.planned += number
        elif event.kind == "started":
            self.running += number
            if self.first_start is None:
                self.first_start = self.updated = now
        elif event.kind == "skipped":
            self.skipped += number
        elif event.settled:
            # It took no time, so it says nothing of the rate.
            self.done += number * (event.kind == "done")
            self.failed += number * (event.kind == "failed")
            self.settled += number
        else:
            self.running = max(0, self.running - number)
            self.attempts += number
            self.wall += event.wall
            self.cpu += event.cpu
            self.max_rss = max(self.max_rss, event.max_rss)
            if event.kind == "retried":
                self.retried += number
                return
            if event.kind == "done":
                self.done += number
            else:
                self.failed += number
            self.span, self.ends, self.weight = self.faded(now)
            self.updated = now
            self.ends += number * self.weight


class State:
    """The figures of a run.

    Args:
        begun: time of the start. All times are in seconds of one monotonic clock.
        keep: the number of failures to keep individually, besides the first of each group.

    Attributes:
        failures: of the run, grouped.
        begun: time of the start.
        ended: time of the end, or None.
    """

    def __init__(self, begun: float, keep: int = 0) -> None:
        self.begun = begun
        self.ended: float | None = None
        self.failures: GroupedFailures = GroupedFailures(keep)
        self._now = begun
        self._integral = 0.0
        self._all = _Tally(())
        self._scopes: dict[tuple[str, ...], _Tally] = {}

    @property
    def scope_count(self) -> int:
        """The number of scopes."""
        return len(self._scopes)

    def add(self, events: Sequence[Event]) -> None:
        """Add events in the order in which they happened."""
        for event in events:
            now = max(self._now, event.time)
            self._integral = self._integral_at(now)
            self._now = now
            tally = self._scopes.get(event.scope)
            if tally is None:
                tally = self._scopes[event.scope] = _Tally(event.scope)
            for each in (tally, self._all):
                each.elapsed += each.running * (self._integral - each.seen)
                each.seen = self._integral
                each.count(event, now)
            if event.outcome is not None:
                self.failures.add(event)

    def end(self, now: float) -> None:
        """End the run: time stops here for all figures."""
        self.ended = max(self._now, now)

    def elapsed(self, now: float) -> float:
        """Seconds since the start, or from the start to the end."""
        return self._clock(now) - self.begun

    def scopes(self, now: float) -> list[Figures]:
        """The figures of each scope, in the order of their first events."""
        return [self._figures(tally, now) for tally in self._scopes.values()]

    def total(self, now: float) -> Figures:
        """The figures of all scopes together."""
        return self._figures(self._all, now)

    def _clock(self, now: float) -> float:
        return self.ended if self.ended is not None else max(self._now, now)

    def _integral_at(self, now: float) -> float:
        running = self._all.running
        return self._integral + (now - self._now) / running if running else self._integral

    def _figures(self, tally: _Tally, now: float) -> Figures:
        now = self._clock(now)
        over = tally.done + tally.failed + tally.skipped
        total = max(tally.planned, over + tally.running)
        rate = remaining = None
        if tally.first_start is not None:
            span, ends, _ = tally.faded(now)
            if self.ended is not None:
                span = self.ended - tally.first_start
                ends = float(tally.done + tally.failed - tally.settled)
            elif now - tally.first_start < _SETTLING:
                span = 0.0
            rate = ends / span if span > 0 else None
        if over == total:
            remaining = 0.0
        elif rate:
            remaining = (total - over) / rate
        return Figures(
            scope=tally.scope,
            total=total,
            done=tally.done,
            failed=tally.failed,
            skipped=tally.skipped,
            running=tally.running,
            waiting=total - over - tally.running,
            retried=tally.retried,
            elapsed=tally.elapsed + tally.running * (self._integral_at(now) - tally.seen),
            attempts=tally.attempts,
            wall=tally.wall,
            cpu=tally.cpu,
            max_rss=tally.max_rss,
            rate=rate,
            remaining=remaining,
        )
