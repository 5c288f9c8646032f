"""Rows of a processor profile: one for each function, as ``pstats`` keeps them.

Rows are made in the process of the call, travel as bytes, and are merged one call after another:
the merged rows grow with the number of functions, not with the number of calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from os.path import dirname
from typing import Any

__all__ = ["OWN_FOLDER", "CpuRows", "Function", "as_rows", "merge_rows", "without_own"]

#: File, line and name; the file of a function in C is ``"~"``, and its line 0.
Function = tuple[str, int, str]

# As pstats has them. A row: primitive calls, calls, seconds in the function itself, seconds with
# the functions that it calls, and by caller the same four, with the first two swapped.
Numbers = tuple[int, int, float, float]
CpuRows = dict[Function, tuple[int, int, float, float, dict[Function, Numbers]]]

#: The folder of this library: its own functions are left out.
OWN_FOLDER = dirname(dirname(__file__)) + os.sep

_BUILT_IN = "~"
_LIBRARY = dirname(os.__file__) + os.sep
_CALLS_TARGETS = {"_call", "_make", "call", "execute", "invoke", "make_call", "run_if_coroutine"}
_SWITCHES = {
    "<method 'disable' of '_lsprof.Profiler' objects>",
    "<method 'enable' of '_lsprof.Profiler' objects>",
}


def _function(code: Any) -> Function:
    if isinstance(code, str):
        return _BUILT_IN, 0, code
    return code.co_filename, code.co_firstlineno, code.co_name


def as_rows(entries: Iterable[Any]) -> CpuRows:
    """The rows of the entries of ``cProfile``'s ``getstats()``.

    Functions with one name on one line, for example two lambdas, become one row.
    """
    rows: CpuRows = {}
    entries = list(entries)
    for entry in entries:
        function = _function(entry.code)
        calls = entry.callcount
        row = (calls - entry.reccallcount, calls, entry.inlinetime, entry.totaltime)
        _add_row(rows, function, *row, {})
    for entry in entries:
        caller = _function(entry.code)
        for called in entry.calls or ():
            row_of = rows.get(_function(called.code))
            if row_of is None:
                continue
            calls = called.callcount
            numbers = (
                calls,
                calls - called.reccallcount,
                called.inlinetime,
                called.totaltime,
            )
            _add_caller(row_of[4], caller, numbers)
    return rows


def _add_row(
    rows: CpuRows,
    function: Function,
    primitive: int,
    calls: int,
    own: float,
    total: float,
    callers: dict[Function, Numbers],
) -> None:
    before = rows.get(function)
    if before is None:
        rows[function] = (primitive, calls, own, total, dict(callers))
        return
    for caller, numbers in callers.items():
        _add_caller(before[4], caller, numbers)
    rows[function] = (
        before[0] + primitive,
        before[1] + calls,
        before[2] + own,
        before[3] + total,
        before[4],
    )


def _add_caller(callers: dict[Function, Numbers], caller: Function, new: Numbers) -> None:
    old = callers.get(caller)
    if old is not None:
        new = (old[0] + new[0], old[1] + new[1], old[2] + new[2], old[3] + new[3])
    callers[caller] = new


def merge_rows(total: CpuRows, rows: CpuRows) -> None:
    """Add these rows to the total."""
    for function, row in rows.items():
        _add_row(total, function, *row)


def without_own(rows: CpuRows) -> CpuRows:
    """The rows without the functions of this library, and without the calls that these make.

    Functions of Python's library that are called by this library alone, or by each other for it,
    are left out, too; where others call them as well, the calls by this library are taken off.
    """
    own = {function for function in rows if function[0].startswith(OWN_FOLDER)}
    # Functions of the user's are called by these of ours, and they are what it is all about.
    calls_targets = {function for function in own if function[2] in _CALLS_TARGETS}
    out = own | {function for function in rows if function[2] in _SWITCHES}
    while True:
        more = {
            function
            for function, row in rows.items()
            if function not in out and row[4] and _is_library(function)
            if all(caller in out and caller not in calls_targets for caller in row[4])
        }
        if not more:
            break
        out |= more
    kept: CpuRows = {}
    for function, (primitive, calls, spent, total, callers) in rows.items():
        if function in out:
            continue
        if _is_library(function):
            for caller in [each for each in callers if each in out and each not in calls_targets]:
                minus = callers[caller]
                calls, primitive = calls - minus[0], primitive - minus[1]
                spent, total = spent - minus[2], total - minus[3]
        left = {caller: each for caller, each in callers.items() if caller not in out}
        primitive = max(0, min(primitive, calls))
        kept[function] = (primitive, calls, max(0.0, spent), max(0.0, total), left)
    return kept


def _is_library(function: Function) -> bool:
    """True for functions in C, and for those of Python's own library."""
    file = function[0]
    if file in (_BUILT_IN, "<string>"):  # in C, or made by named tuples and data classes
        return True
    return file.startswith(_LIBRARY) and "-packages" not in file
