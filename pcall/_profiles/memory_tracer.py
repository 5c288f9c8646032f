"""Takes the memory profile of one call with ``tracemalloc``: bytes by file and line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from os import getpid
from typing import Any

from pcall._profiles.cpu_rows import OWN_FOLDER
from pcall._profiles.current_profiles import ProfileKind, running
from pcall._profiles.packing import MemoryRows, pack_memory, unpack_memory
from pcall._profiles.snapshot_thread import Steps

__all__ = ["MemoryTracer", "merge_memory"]


def merge_memory(total: MemoryRows, rows: MemoryRows) -> None:
    """Add these rows to the total."""
    for place, (size, count) in rows.items():
        before = total.get(place, (0, 0))
        total[place] = (before[0] + size, before[1] + count)


class MemoryTracer:
    """The memory profile of one call, in the process that makes it.

    Attributes:
        kind: ``"memory"``.
        pid: the process.
    """

    kind: ProfileKind = "memory"
    dispatching: Steps = ()
    going_back: Steps = ()

    def __init__(self) -> None:
        self.pid = getpid()
        self.on_dispatch: Callable[[], object] = tuple  # never called
        self._nested: MemoryRows = {}
        self._before: MemoryRows | None = None

    def start(self) -> None:
        """Begin."""
        running.append(self)
        if tracemalloc.is_tracing():
            self._before = _traced()  # somebody else's, who goes on tracing
        else:
            tracemalloc.start()

    def stop(self) -> bytes:
        """End, and return the profile."""
        rows = self._rows()
        if self._before is None:
            tracemalloc.stop()
        if self in running:
            running.remove(self)
        return pack_memory(rows)

    def abandon(self) -> None:
        """Stop it, in a process that was forked meanwhile."""
        tracemalloc.stop()
        running.remove(self)

    def add(self, content: bytes) -> None:
        """Add the profile of a call that this call has made in a child of its own."""
        merge_memory(self._nested, unpack_memory(content))

    def snapshot(self) -> bytes:
        """The profile so far."""
        return pack_memory(self._rows())

    def _rows(self) -> MemoryRows:
        rows = _traced() if tracemalloc.is_tracing() else {}
        for place, (size, count) in (self._before or {}).items():
            now = rows.get(place, (0, 0))
            rows[place] = (now[0] - size, now[1] - count)
        merge_memory(rows, self._nested)
        return {place: sums for place, sums in rows.items() if any(sums) and not _is_own(place[0])}


def _traced() -> MemoryRows:
    rows: MemoryRows = {}
    # Past the objects that a snapshot makes of them: there may be millions of blocks.
    traces: Any = tracemalloc.take_snapshot().traces
    for _, size, frames, *_ in traces._traces:
        place = frames[0]
        before = rows.get(place, (0, 0))
        rows[place] = (before[0] + size, before[1] + 1)
    return rows


def _is_own(file: str) -> bool:
    return file.startswith(OWN_FOLDER) or file == tracemalloc.__file__
