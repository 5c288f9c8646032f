"""The two pictures: the time of peers compared with pcall, and how the time of a call grows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from records import Point, Row
from svg import GREY, INK, PALE, Canvas, Scale

__all__ = ["beside_peers", "curves"]

SUBJECT = "pcall"
_BLUE = "#1769c4"
_COLOURS = {
    "pcall": _BLUE,
    "pcall, reused children": "#11a579",
    "bare fork": INK,
    "Process": "#d1495b",
    "Pool": "#e08a1e",
    "ProcessPoolExecutor": "#8e5bb5",
    "joblib": "#a0703a",
    "dask": "#d1495b",
    "made and copied here": GREY,
}

# The looks of beside_peers().
_LABELS, _FIGURES, _LINE = 172, 46, 17
_AIMED = "#e08a1e"


def beside_peers(rows: Iterable[Row], note: str) -> str:
    """For each work, each peer's time over pcall's: a dot, its quartiles, and the target.

    The text beside the dot is the ratio.
    """
    works: dict[str, list[Row]] = {}
    for row in rows:
        if row.subject == SUBJECT and row.against and row.unit == "x" and row.low > 0:
            works.setdefault(row.work, []).append(row)
    canvas = Canvas(960, "How long peers take, as a multiple of pcall's time")
    canvas.text(16, 24, canvas.title, size=15, bold=True)
    explained = "Dots are medians, lines the quartiles; right of the blue line pcall is the quicker"
    canvas.text(16, 42, f"{explained}. Orange: as far left as the target lets it be.", colour=GREY)
    height = 60.0
    if works:
        ratios = [1 / value for found in works.values() for row in found for value in _ends(row)]
        columns = _halves(list(works.items()))
        width = canvas.width / 2
        for number, column in enumerate(columns):
            left = number * width + 16
            scale = Scale([1, *ratios], left + _LABELS, left + width - 28 - _FIGURES)
            height = max(height, _column(canvas, column, left, left + width - 28, scale))
    canvas.text(16, height + 14, note, colour=GREY, size=10)
    return canvas.draw(height + 26)


def _ends(row: Row) -> tuple[float, float, float]:
    return row.low, row.figure, row.high


def _halves(
    works: Sequence[tuple[str, list[Row]]],
) -> tuple[list[tuple[str, list[Row]]], list[tuple[str, list[Row]]]]:
    """Split into two columns of nearly equal height, in the same order."""
    sizes = [len(rows) + 2 for _, rows in works]
    cut = min(range(len(works) + 1), key=lambda at: abs(sum(sizes[:at]) - sum(sizes[at:])))
    return list(works[:cut]), list(works[cut:])


def _column(
    canvas: Canvas, works: Sequence[tuple[str, list[Row]]], left: float, right: float, scale: Scale
) -> float:
    """Where it ends."""
    bottom = 72.0 + sum(_LINE * (len(rows) + 1) + 12 for _, rows in works)
    for tick in scale.ticks():
        at = scale(tick)
        canvas.line(at, 72, at, bottom - 8, _BLUE if tick == 1 else PALE, 1.5 if tick == 1 else 1)
        canvas.text(at, 68, f"{tick:g} x", anchor="middle", colour=GREY, size=10)
    y = 72.0
    for work, rows in works:
        y += _LINE
        canvas.text(left, y, work, bold=True)
        for row in sorted(rows, key=lambda row: row.figure, reverse=True):
            y += _LINE
            middle = y - 4
            low, median, high = sorted(1 / value for value in _ends(row))
            canvas.text(left + 10, y, row.against, colour=INK, size=10.5)
            if row.target is not None:
                at = scale(1 / row.target)
                canvas.line(at, middle - 6, at, middle + 6, _AIMED, 2.5)
            canvas.line(scale(low), middle, scale(high), middle, INK, 1.5)
            canvas.dot(scale(median), middle, INK)
            canvas.text(right, y, f"{median:.3g} x", anchor="end", size=10.5)
        y += 12
    return bottom


def curves(points: Iterable[Point], note: str) -> str:
    """Panels by the number of calls, the parent's size and the size of a result; of clusters."""
    found: dict[str, list[Point]] = {}
    for each in points:
        found.setdefault(each.panel, []).append(each)
    canvas = Canvas(960, "How the time of a call grows")
    canvas.text(16, 24, canvas.title, size=15, bold=True)
    canvas.text(16, 42, "Seconds for each call, by powers of ten.", colour=GREY)
    rows = (
        (
            ("calls", "with the number of calls in a run", _count),
            ("parent", "with the parent's memory (100 calls)", _bytes),
            ("results", "with its result (made, sent, read)", _bytes),
        ),
        (
            ("cluster calls", "on a cluster: with the calls in a run", _count),
            ("cluster edges", "on a cluster: with the edges of a plan", _count),
            ("cluster bytes", "on a cluster: with its result", _bytes),
        ),
    )
    height = 60.0
    for row in rows:
        top = height
        for number, (panel, title, show) in enumerate(row):
            if panel in found:
                ends = _panel(canvas, found[panel], number * 316 + 16, top, title, show)
                height = max(height, ends)
    canvas.text(16, height + 14, note, colour=GREY, size=10)
    return canvas.draw(height + 26)


def _panel(
    canvas: Canvas,
    points: Sequence[Point],
    left: float,
    above: float,
    title: str,
    show: Callable[[float], str],
) -> float:
    """Draw one set of axes, with its curves and their names; return where it ends."""
    top, bottom, right = above + 24, above + 264, left + 292
    canvas.text(left, above + 8, title, bold=True)
    start = left + 44
    across = Scale([point.x for point in points], start, right - 8)
    up = Scale([value for point in points for value in (point.low, point.high)], bottom, top)
    for tick in up.ticks():
        canvas.line(start, up(tick), right, up(tick), PALE)
        canvas.text(start - 6, up(tick) + 3.5, _seconds(tick), anchor="end", colour=GREY, size=10)
    for tick in across.ticks():
        canvas.line(across(tick), bottom, across(tick), bottom + 4, GREY)
        at = across(tick), bottom + 17
        canvas.text(*at, show(tick), anchor="middle", colour=GREY, size=10)
    canvas.line(start, bottom, right, bottom, GREY)

    lines: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        lines.setdefault((point.who, point.where), []).append(point)
    places = {where: number for number, where in enumerate(dict.fromkeys(w for _, w in lines))}
    for (who, where), line in lines.items():
        colour = _COLOURS.get(who, GREY)
        line.sort(key=lambda point: point.x)
        for point in line:
            canvas.line(across(point.x), up(point.low), across(point.x), up(point.high), colour)
            canvas.dot(across(point.x), up(point.y), colour, 2.6)
        dashes = ("", "6 3", "2 3")[places[where] % 3]
        canvas.path([(across(point.x), up(point.y)) for point in line], colour, dashes, 1.8)
    y = bottom + 26
    for who in dict.fromkeys(who for who, _ in lines):
        y += 16
        canvas.line(start, y - 4, start + 22, y - 4, _COLOURS.get(who, GREY), 2.5)
        canvas.text(start + 30, y, who, size=10.5)
    for where, number in places.items():
        if where:
            y += 16
            dashes = ("", "6 3", "2 3")[number % 3]
            canvas.path([(start, y - 4), (start + 22, y - 4)], GREY, dashes, 1.8)
            canvas.text(start + 30, y, f"under a parent of {where}", colour=GREY, size=10.5)
    return y + 8


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.999:
            return f"{value / size:.0f} {unit}"
    return f"{value:g} s"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} B"


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")
