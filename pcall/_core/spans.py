"""The bars of a timeline: when which call ran where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pcall._core.worker_figures import WorkerFigures

__all__ = ["ChunkSpans", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """An attempt of a call.

    Attributes:
        index: of the call.
        name: of its function.
        attempt: the number of the attempt, from 1.
        began: when it began, in seconds, by the parent's ``time.monotonic()``.
        ended: when it ended; None while it runs.
        pid: the process that ran it, if it is known.
        worker: the name of the reused worker that ran it; None: it had a process of its own.
        cpu: seconds of user and system time, if they are known.
        max_rss: peak resident memory of its process in bytes, if it is known.
    """

    index: int
    name: str
    attempt: int
    began: float
    ended: float | None = None
    pid: int | None = None
    worker: str | None = None
    cpu: float | None = None
    max_rss: int | None = None


class ChunkSpans(Sequence[Span]):
    """Calls that one worker ran one after another. Each span is made when it is looked at.

    Args:
        calls: from the first to the last.
        began: when the first began.
        figures: of the worker.
        worker: its name.
        name: gives the name of a call's function.
    """

    def __init__(
        self,
        calls: range,
        began: float,
        figures: WorkerFigures,
        worker: str | None,
        name: Callable[[int], str],
    ) -> None:
        self._calls, self._began = calls, began
        self._figures, self._worker, self._name = figures, worker, name

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        index = self._calls[place]
        figures = self._figures
        began = self._began if index == self._calls.start else figures.ended[index - 1]
        rss = figures.max_rss[index]
        return Span(
            index=index,
            name=self._name(index),
            attempt=1,
            began=began,
            ended=figures.ended[index],
            pid=figures.pid,
            worker=self._worker,
            cpu=figures.cpu[index] if rss else None,
            max_rss=rss or None,
        )
