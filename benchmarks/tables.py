"""The measured figures, as text for a terminal and as reStructuredText."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from records import Point, Row, show_seconds

__all__ = ["rst_of_rows", "text_of_points", "text_of_rows"]


def text_of_rows(rows: Iterable[Row]) -> str:
    """The rows in columns."""
    head = ("work", "subject", "against", "figure", "quartiles", "at most", "met", "medians")
    lines = []
    for row in rows:
        met = {None: "-", True: "yes", False: "NO"}[row.met]
        ours = (row.work, row.subject, row.against or "-", _figure(row), _spread(row))
        lines.append((*ours, _target(row), met, row.detail))
    return _columns(head, lines)


def text_of_points(points: Iterable[Point]) -> str:
    """The points of the curves in columns."""
    lines = []
    for point in points:
        spread = f"{show_seconds(point.low)} to {show_seconds(point.high)}"
        ours = (point.panel, point.who, point.where or "-", f"{point.x:g}")
        lines.append((*ours, show_seconds(point.y), spread))
    return _columns(("panel", "who", "where", "x", "each", "quartiles"), lines)


def rst_of_rows(rows_by_workload: Mapping[str, Sequence[Row]]) -> str:
    """Two tables: the figures that have a target, and the others."""
    rows = [row for found in rows_by_workload.values() for row in found]
    aimed = [
        (_work(row), row.against or "-", _figure(row), _spread(row), _target(row), _met(row))
        for row in rows
        if row.target is not None
    ]
    other = [
        (_work(row), row.against or "-", _figure(row), _spread(row), row.detail or "-")
        for row in rows
        if row.target is None
    ]
    head = ("work", "against", "figure", "quartiles")
    return (
        _csv_table("Figures with a target", (*head, "at most", "met, and the medians"), aimed)
        + "\n"
        + _csv_table("Figures for information", (*head, "the medians"), other)
    )


def _work(row: Row) -> str:
    return row.work if row.subject == "pcall" else f"{row.work}: {row.subject}"


def _figure(row: Row) -> str:
    return f"{row.figure:.3g} {row.unit}"


def _spread(row: Row) -> str:
    return f"{row.low:.3g} to {row.high:.3g}"


def _target(row: Row) -> str:
    return "-" if row.target is None else f"{row.target:g} {row.unit}"


def _met(row: Row) -> str:
    answer = "yes" if row.met else "**no**"
    return f"{answer}: {row.detail}" if row.detail else answer


def _columns(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    shown = [head, ["-" * width for width in widths], *lines]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in shown
    )


def _csv_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    content = "".join(f"    {line}\n" for line in out.getvalue().splitlines())
    return f".. csv-table:: {title}\n    :header-rows: 1\n\n{content}"
