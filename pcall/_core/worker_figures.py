"""The figures of the calls that a reused worker runs."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["WorkerFigures"]


class WorkerFigures(NamedTuple):
    """A reused worker, and the columns with the figures of the calls that it runs.

    Attributes:
        child: its process object.
        pid: its process id.
        rss: bytes of resident memory at its fork.
        clock: seconds by which ``time.time()`` is ahead of ``time.monotonic()``.
        ended: by call, the time of its end on the monotonic clock.
        cpu: by call, seconds of processor time.
        max_rss: by call, bytes of the worker's peak memory until then; 0 before it is known.
    """

    child: Any
    pid: int
    rss: int
    clock: float
    ended: memoryview[float]
    cpu: memoryview[float]
    max_rss: memoryview[int]
