"""``MemoryProfile``: which lines have allocated what calls had at their end."""

from __future__ import annotations

import linecache
import tracemalloc
from collections.abc import Iterable
from typing import Any, TextIO

from pcall._profiles.memory_tracer import merge_memory
from pcall._profiles.module_filter import ModuleFilter
from pcall._profiles.packing import MemoryRows, unpack_memory
from pcall._profiles.printing import (
    check_choice,
    check_file,
    check_flag,
    check_limit,
    heading_of,
    shortened,
)
from pcall._profiles.worker_rows import WorkerRows

__all__ = ["MemoryProfile"]

_GROUPS = ("lineno", "filename", "traceback")


class MemoryProfile:
    """The memory profile of one call, or of many.

    It has what calls had allocated at their end over their begin, in bytes and blocks, by the line
    that allocated it; ``tracemalloc`` measures it. A value that a call returns is still there at
    its end. Lines of this library are left out. Profiles can be pickled.
    """

    def __init__(self) -> None:
        self._workers: WorkerRows[MemoryRows] = WorkerRows(dict, unpack_memory, merge_memory)

    def add(self, worker: str, content: bytes, later: bool = False) -> None:
        """Add a packed profile; ``later``: merge it when it is looked at."""
        self._workers.add(worker, content, later)

    def merge(self, other: MemoryProfile) -> None:
        """Add another profile to this one.

        Args:
            other: the profile; it stays as it is.
        """
        if not isinstance(other, MemoryProfile):
            raise TypeError(f"other must be a MemoryProfile, not {other!r}")
        self._workers.merge(other._workers)

    def __repr__(self) -> str:
        rows = self._workers.total()
        size = sum(each[0] for each in rows.values())
        return f"<MemoryProfile of {len(rows)} lines, {_amount(size)}>"

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the workers that have run the calls."""
        return self._workers.names

    def statistics(self, group_by: str = "lineno") -> list[tracemalloc.Statistic]:
        """The statistics over all calls, those with the most bytes first.

        Args:
            group_by: ``"lineno"``, ``"filename"``, or ``"traceback"``, whose tracebacks have the
                line that allocated alone.

        Returns:
            Objects of ``tracemalloc`` with ``traceback``, ``size`` in bytes and ``count`` of
            blocks.

        Raises:
            ValueError: another word.
        """
        check_choice("group_by", group_by, _GROUPS)
        made: list[tracemalloc.Statistic] = []
        for (file, line), (size, count) in _grouped(self._workers.total(), group_by).items():
            frames: Any = ((file, line),)
            made.append(tracemalloc.Statistic(tracemalloc.Traceback(frames), size, count))
        made.sort(key=_order, reverse=True)
        return made

    def print_top(
        self,
        group_by: str = "lineno",
        limit: int | None = 30,
        compare_to: MemoryProfile | None = None,
        per_worker: bool = False,
        strip_dirs: bool = True,
        include: Iterable[str] | str = (),
        exclude: Iterable[str] | str = (),
        file: TextIO | None = None,
    ) -> None:
        """Print the lines, or files, with the most memory.

        Args:
            group_by: ``"lineno"``, ``"filename"`` or ``"traceback"``, see :meth:`statistics`.
            limit: the largest number of rows of a table. None: all.
            compare_to: another profile: the difference to it is printed beside, and sorted by.
            per_worker: True prints a table for each worker instead of one over all.
            strip_dirs: True leaves the folders of files out.
            include: dotted names of modules: only their lines, and those of their submodules, are
                shown. None given: all.
            exclude: likewise; their lines are not shown.
            file: the text stream to print to. None: ``sys.stdout``.

        Raises:
            TypeError, ValueError: an argument is wrong; the text names the valid values.
        """
        check_choice("group_by", group_by, _GROUPS)
        check_limit("limit", limit)
        if compare_to is not None and not isinstance(compare_to, MemoryProfile):
            raise TypeError(f"compare_to must be a MemoryProfile or None, not {compare_to!r}")
        check_flag("per_worker", per_worker)
        check_flag("strip_dirs", strip_dirs)
        selects = ModuleFilter(include, exclude)
        stream = check_file(file)
        tables = self._workers.by_name() if per_worker else {"": self._workers.total()}
        before = None if compare_to is None else compare_to._workers
        others = {} if before is None else before.by_name() if per_worker else {"": before.total()}
        for name, rows in tables.items():
            old = None if before is None else _shown(others.get(name, {}), group_by, selects)
            lines = _lines(_shown(rows, group_by, selects), old, limit, strip_dirs, group_by)
            stream.write((heading_of(name) if per_worker else "") + "".join(lines) + "\n")


def _shown(rows: MemoryRows, group_by: str, selects: ModuleFilter) -> MemoryRows:
    kept = {place: each for place, each in rows.items() if selects.shows(place[0])}
    return _grouped(kept, group_by)


def _grouped(rows: MemoryRows, group_by: str) -> MemoryRows:
    if group_by != "filename":
        return rows
    files: MemoryRows = {}
    for (file, _), each in rows.items():
        merge_memory(files, {(file, 0): each})
    return files


def _order(statistic: Any) -> Any:
    return statistic.size, statistic.count, statistic.traceback


def _lines(
    rows: MemoryRows, old: MemoryRows | None, limit: int | None, strip_dirs: bool, group_by: str
) -> Iterable[str]:
    before = old or {}
    places = set(rows) | set(before)

    def key(place: tuple[str, int]) -> Any:
        size = rows.get(place, (0, 0))[0]
        growth = abs(size - before.get(place, (0, 0))[0]) if old is not None else 0
        return -growth, -size, place

    ordered = sorted(places, key=key)
    shown = ordered if limit is None else ordered[:limit]
    width = max(map(len, map(str, range(len(shown) + 1))))
    for number, place in enumerate(shown, 1):
        size, count = rows.get(place, (0, 0))
        text = f"{_amount(size)} in {count} blocks"
        if old is not None:
            was = before.get(place, (0, 0))
            text = (
                f"{_amount(size)} ({_signed(size - was[0])}) in "
                f"{count} ({count - was[1]:+d}) blocks"
            )
        where = shortened(place[0], strip_dirs)
        if group_by != "filename":
            where += f":{place[1]}"
        yield f"#{number:<{width}} {where}: {text}\n"
        source = linecache.getline(*place).strip() if group_by != "filename" else ""
        if source:
            yield f"{'':{width + 2}}{source}\n"
    rest = [rows.get(place, (0, 0)) for place in ordered[len(shown) :]]
    if rest:
        size = sum(each[0] for each in rest)
        yield f"... and {len(rest)} more: {_amount(size)}\n"
    yield f"total: {_amount(sum(each[0] for each in rows.values()))}\n"


def _amount(size: int) -> str:
    number, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{_amount(abs(size))}"
