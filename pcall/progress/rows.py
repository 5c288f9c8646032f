"""Gives each bar of a timeline its row: one for each worker, or for each of the calls at once."""

from __future__ import annotations

import heapq

from pcall._core.spans import Span

__all__ = ["Rows"]


class Rows:
    """The rows of a timeline, from the top.

    A reused worker has a row of its own. Calls with a process each share rows: a call gets the
    first row in which no call runs.

    Attributes:
        names: of the rows.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._by_worker: dict[str, int] = {}
        self._by_call: dict[tuple[int | None, int], int] = {}
        self._free: list[int] = []
        self._fresh = 0

    def begin(self, span: Span) -> int:
        """The row of a call that begins."""
        if span.worker is not None:
            return self._of_worker(span.worker)
        call = span.pid, span.index
        row = self._by_call.get(call)
        if row is None:
            if self._free:
                row = heapq.heappop(self._free)
            else:
                self._fresh += 1
                row = self._new(f"process {self._fresh}")
            self._by_call[call] = row
        return row

    def end(self, span: Span) -> int:
        """The row of a call that has ended, which becomes free."""
        row = self.begin(span)
        if span.worker is None:
            del self._by_call[span.pid, span.index]
            heapq.heappush(self._free, row)
        return row

    def _of_worker(self, worker: str) -> int:
        row = self._by_worker.get(worker)
        if row is None:
            row = self._by_worker[worker] = self._new(worker)
        return row

    def _new(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1
