"""``CpuProfile``: where calls have spent the processor's time."""

from __future__ import annotations

import os
import pstats
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

from pcall._profiles.cpu_rows import CpuRows, Function, merge_rows
from pcall._profiles.module_filter import ModuleFilter
from pcall._profiles.packing import unpack_cpu
from pcall._profiles.printing import (
    check_choice,
    check_file,
    check_flag,
    check_limit,
    heading_of,
    shortened,
)
from pcall._profiles.worker_rows import WorkerRows

__all__ = ["CpuProfile"]

_COLUMNS = ("name", "ncall", "tsub", "ttot", "tavg")
_DEFAULT_COLUMNS = (("name", 84), ("ncall", 12), ("tsub", 8), ("ttot", 8), ("tavg", 8))
_DIRECTIONS = ("asc", "desc")


class _Line(NamedTuple):
    name: str
    ncall: tuple[int, int]  # calls, and those of them that are not recursive
    tsub: float
    ttot: float
    tavg: float


class CpuProfile:
    """The processor profile of one call, or of many.

    All times are seconds of processor time. So time in which a call waited is not in it, and on a
    machine with more to do than cores it stays the same. Functions of this library are left out.
    Profiles can be pickled.
    """

    def __init__(self) -> None:
        self._workers: WorkerRows[CpuRows] = WorkerRows(dict, unpack_cpu, merge_rows)

    def add(self, worker: str, content: bytes, later: bool = False) -> None:
        """Add a packed profile; ``later``: merge it when it is looked at."""
        self._workers.add(worker, content, later)

    def merge(self, other: CpuProfile) -> None:
        """Add another profile to this one.

        Args:
            other: the profile; it stays as it is.
        """
        if not isinstance(other, CpuProfile):
            raise TypeError(f"other must be a CpuProfile, not {other!r}")
        self._workers.merge(other._workers)

    def __repr__(self) -> str:
        rows = self._workers.total()
        seconds = sum(row[2] for row in rows.values())
        return f"<CpuProfile of {len(rows)} functions, {seconds:.3f} s>"

    @property
    def stats(self) -> pstats.Stats:
        """A ``pstats.Stats`` over all calls; each time a new one."""
        return _stats_of(self._workers.total())

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the workers that have run the calls."""
        return self._workers.names

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file that ``pstats``, snakeviz and the like read.

        Args:
            path: of the file, which is replaced.

        Raises:
            OSError: it can't be written.
        """
        self.stats.dump_stats(path)

    def print_stats(
        self,
        max_rows: int | None = 100,
        sort_by: str | None = None,
        sort_dir: str | None = None,
        columns: Iterable[tuple[str, int]] = _DEFAULT_COLUMNS,
        per_worker: bool = False,
        strip_dirs: bool = True,
        include: Iterable[str] | str = (),
        exclude: Iterable[str] | str = (),
        file: TextIO | None = None,
    ) -> None:
        """Print a table with a row for each function.

        The columns are ``name`` (file, line and function), ``ncall`` (the number of calls; of
        recursive ones, ``all/outermost``), ``tsub`` (seconds in the function itself), ``ttot``
        (seconds with the functions that it called) and ``tavg`` (``ttot`` for each call).

        Args:
            max_rows: the largest number of rows of a table. None: all.
            sort_by: the column to sort by. None: ``"ttot"``.
            sort_dir: ``"asc"`` or ``"desc"``. None: ``"asc"`` by name, else ``"desc"``.
            columns: the columns, each with its width in characters.
            per_worker: True prints a table for each worker instead of one over all.
            strip_dirs: True leaves the folders of files out.
            include: dotted names of modules: only their functions, and those of their submodules,
                are shown. None given: all.
            exclude: likewise; their functions are not shown.
            file: the text stream to print to. None: ``sys.stdout``.

        Raises:
            TypeError, ValueError: an argument is wrong; the text names the valid values.
        """
        limit = check_limit("max_rows", max_rows)
        key = check_choice("sort_by", sort_by, _COLUMNS, none=True) or "ttot"
        direction = check_choice("sort_dir", sort_dir, _DIRECTIONS, none=True)
        direction = direction or ("asc" if key == "name" else "desc")
        widths = _checked_columns(columns)
        check_flag("per_worker", per_worker)
        check_flag("strip_dirs", strip_dirs)
        selects = ModuleFilter(include, exclude)
        stream = check_file(file)
        tables = self._workers.by_name() if per_worker else {"": self._workers.total()}
        for name, rows in tables.items():
            lines = [
                _line_of(function, row, strip_dirs)
                for function, row in rows.items()
                if selects.shows(function[0], function[2])
            ]
            lines.sort(key=lambda line: line.name)
            lines.sort(key=lambda line: getattr(line, key), reverse=direction == "desc")
            heading = heading_of(name) if per_worker else ""
            stream.write(heading + "".join(_table(lines, limit, widths)) + "\n")


def _stats_of(rows: CpuRows) -> pstats.Stats:
    stats: Any = pstats.Stats()
    copy = {function: (*row[:4], dict(row[4])) for function, row in rows.items()}
    stats.stats = copy
    for function, row in copy.items():
        stats.total_calls += row[1]
        stats.prim_calls += row[0]
        stats.total_tt += row[2]
        if not row[4]:
            stats.top_level.add(function)
        width = len(pstats.func_std_string(function))  # type: ignore[attr-defined]
        stats.max_name_len = max(stats.max_name_len, width)
    made: pstats.Stats = stats
    return made


def _checked_columns(columns: Any) -> tuple[tuple[str, int], ...]:
    expected = f"columns must be pairs of a name ({', '.join(_COLUMNS)}) and a width in characters"
    try:
        pairs = tuple((name, width) for name, width in columns)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, not {columns!r}") from None
    if not pairs:
        raise ValueError(f"{expected}; there are none")
    for name, width in pairs:
        if name not in _COLUMNS:
            raise ValueError(f"{expected}; {name!r} is not a column")
        if isinstance(width, bool) or not isinstance(width, int):
            raise TypeError(f"{expected}; {width!r} is not a width")
        if width < 1:
            raise ValueError(f"{expected}; a width must be 1 or more, not {width!r}")
    return pairs


def _line_of(function: Function, row: Any, strip_dirs: bool) -> _Line:
    file, number, name = function
    primitive, calls, own, total, _ = row
    shown = name if file == "~" else f"{shortened(file, strip_dirs)}:{number} {name}"
    return _Line(shown, (calls, primitive), own, total, total / calls if calls else 0.0)


def _table(
    lines: list[_Line], limit: int | None, widths: tuple[tuple[str, int], ...]
) -> Iterable[str]:
    yield _row({name: name for name, _ in widths}, widths)
    shown = lines if limit is None else lines[:limit]
    for line in shown:
        calls, primitive = line.ncall
        cells = {
            "name": line.name,
            "ncall": str(calls) if calls == primitive else f"{calls}/{primitive}",
            **{each: f"{getattr(line, each):.6f}" for each in ("tsub", "ttot", "tavg")},
        }
        yield _row(cells, widths)
    if len(lines) > len(shown):
        yield f"... and {len(lines) - len(shown)} more\n"


def _row(cells: dict[str, str], widths: tuple[tuple[str, int], ...]) -> str:
    shown = []
    for name, width in widths:
        text = cells[name]
        if name == "name":
            if len(text) > width:  # the end of a path says more than its begin
                text = f"...{text[3 - width :]}" if width > 3 else text[-width:]
            shown.append(text.ljust(width))
            continue
        if "." in text and len(text) > width:
            text = text[: max(width, text.index("."))].rstrip(".")  # fewer places
        shown.append(text.rjust(width))
    return " ".join(shown).rstrip() + "\n"
