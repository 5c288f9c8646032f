"""Measuring what the calls of a reused worker take: processor time and peak memory."""

from __future__ import annotations

from array import array
from resource import RUSAGE_SELF, getrusage
from typing import Any

from pcall._os.capacity import RSS_UNIT
from pcall._wire.result_table import ResultTable

__all__ = ["UsageMeter"]


class UsageMeter:
    """Writes the figures of calls to their rows.

    Args:
        table: where they go.

    Attributes:
        unmeasured: the first call since the last measurement.
    """

    def __init__(self, table: ResultTable) -> None:
        self._cpu, self._rss = table.cpu, table.rss
        self._before = _usage()[0]
        self.unmeasured: int = 0

    def measure(self, stop: int) -> None:
        """Write the figures of the unmeasured calls before this one; of several, the mean."""
        start, self.unmeasured = self.unmeasured, stop
        cpu, rss = _usage()
        took, self._before = cpu - self._before, cpu
        count = stop - start
        if count == 1:
            self._cpu[start], self._rss[start] = took, rss
        elif count:
            self._cpu[start:stop] = _repeated(took / count, "d", count)
            self._rss[start:stop] = _repeated(rss, "q", count)


def _usage() -> tuple[float, int]:
    """Seconds of processor time that this process has taken, and its peak memory in bytes."""
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT


def _repeated(value: Any, format: str, count: int) -> memoryview:
    return memoryview(array(format, [value]) * count)
