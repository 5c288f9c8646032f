"""The bars of the last minutes of a run, in bounded number. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from pcall._core.records import Event
from pcall._core.spans import Span
from pcall.progress.rows import Rows

__all__ = ["Bar", "TimelineBars"]

MAX_BARS = 2000
MAX_ROWS = 60  # calls of further rows are drawn in the last one
WINDOW = 600.0  # seconds that the timeline goes back
# A chunk of more calls than this is one bar from the start.
_LONGEST_CHUNK = 8
_ENDS = ("done", "retried", "failed")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: an attempt of a call, a wait for the next attempt, or several attempts.

    Attributes:
        row: from the top.
        kind: ``"done"``, ``"failed"``, ``"retried"``, ``"running"`` or ``"waits"``; ``"mixed"`` of
            several attempts with different ends.
        began: when, on the monotonic clock.
        ended: likewise.
        span: of the attempt; of the first, if there are several.
        count: of attempts.
        failed: how many of them failed.
        busy: seconds that they ran.
        markup: what was made of it, by who draws it.
    """

    row: int
    kind: str
    began: float
    ended: float
    span: Span
    count: int = 1
    failed: int = 0
    busy: float = 0.0
    markup: list[str] = field(default_factory=list, compare=False)


class TimelineBars:
    """Collects bars from events, merges neighbours when they become many, and drops old ones.

    Args:
        most: the largest number of bars.
    """

    def __init__(self, most: int = MAX_BARS) -> None:
        self._most = most
        self._rows = Rows()
        self._ended: list[Bar] = []
        self._running: dict[tuple[int | None, int], tuple[int, Span]] = {}
        self._waiting: dict[int, tuple[int, Span]] = {}

    @property
    def row_names(self) -> list[str]:
        """The names of the rows, from the top."""
        names = self._rows.names
        if len(names) > MAX_ROWS:
            return [*names[: MAX_ROWS - 1], f"{len(names) - MAX_ROWS + 1} more"]
        return list(names)

    def add(self, events: Sequence[Event]) -> None:
        """Take in events."""
        for event in events:
            if event.kind == "started":
                for span in event.spans:
                    self._started(span, event.count)
            elif event.kind in _ENDS and event.spans:
                self._end(event)
                if len(self._ended) > self._most:
                    self._merge(self._most // 2)

    def _started(self, span: Span, count: int) -> None:
        if count < 0:
            self._running.pop((span.pid, span.index), None)
            self._rows.end(span)
        else:
            self._running[span.pid, span.index] = self._rows.begin(span), span
            self._wait_over(span)

    def _wait_over(self, span: Span) -> None:
        row, last = self._waiting.pop(span.index, (0, None))
        if last is not None and last.ended is not None and last.ended < span.began:
            self._ended.append(Bar(row, "waits", last.ended, span.began, last, 0))

    def _end(self, event: Event) -> None:
        spans = event.spans
        first, last = spans[0], spans[-1]
        for running in [
            key for key in self._running if key[0] == first.pid or key[1] == first.index
        ]:
            if first.index <= running[1] <= last.index:
                del self._running[running]
        if len(spans) > _LONGEST_CHUNK:
            row = self._shown(self._rows.end(first))
            ended = event.time if last.ended is None else last.ended
            busy = ended - first.began
            self._ended.append(
                Bar(row, event.kind, first.began, ended, first, len(spans), busy=busy)
            )
            return
        for span in spans:
            self._wait_over(span)
            row = self._shown(self._rows.end(span))
            ended = event.time if span.ended is None else span.ended
            failed = int(event.kind != "done")
            busy = ended - span.began
            self._ended.append(Bar(row, event.kind, span.began, ended, span, 1, failed, busy))
            if event.kind == "retried":
                self._waiting[span.index] = row, span

    @staticmethod
    def _shown(row: int) -> int:
        return min(row, MAX_ROWS - 1)

    def bars(self, now: float) -> list[Bar]:
        """The bars of the last minutes, at most as many as may be."""
        oldest = now - WINDOW
        if any(bar.ended < oldest for bar in self._ended):
            self._ended = [bar for bar in self._ended if bar.ended >= oldest]
        running = [*self._running.values()][: self._most // 2]
        if len(self._ended) + len(running) > self._most:
            self._merge(self._most - len(running))
        live = [
            Bar(self._shown(row), "running", span.began, max(now, span.began), span)
            for row, span in running
        ]
        return [*self._ended, *live]

    # ------------------------------------------------------------ merging

    def _merge(self, most: int) -> None:
        """Merge neighbours until there are no more than this, at one resolution for all times."""
        began = min(bar.began for bar in self._ended)
        length = max(bar.ended for bar in self._ended) - began
        widest = length / self._most
        while len(self._ended) > most:
            self._ended = list(self._merged(widest))
            if widest > length:
                break  # a bar for each row, at the least
            widest = 2 * widest or 1.0

    def _merged(self, widest: float) -> Iterator[Bar]:
        """The bars, with neighbours merged that together are no wider than this."""
        for _, neighbours in groupby(sorted(self._ended, key=_place), key=_row):
            last: Bar | None = None
            for bar in neighbours:
                if last is None:
                    last = bar
                elif max(last.ended, bar.ended) - last.began <= widest:
                    last = _joined(last, bar)
                else:
                    yield last
                    last = bar
            if last is not None:
                yield last


def _row(bar: Bar) -> tuple[int, bool]:
    return bar.row, bar.kind == "waits"


def _place(bar: Bar) -> tuple[int, bool, float]:
    return *_row(bar), bar.began


def _joined(first: Bar, second: Bar) -> Bar:
    return replace(
        first,
        kind=first.kind if first.kind == second.kind else "mixed",
        ended=max(first.ended, second.ended),
        count=first.count + second.count,
        failed=first.failed + second.failed,
        busy=first.busy + second.busy,
        markup=[],
    )
