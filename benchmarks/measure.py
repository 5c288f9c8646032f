"""How figures are taken, and the table that they are shown in.

Contenders take turns, so that whatever else the machine does meets all of them alike. Each
turn gives a ratio; shown are the median of the ratios and the quartiles around it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

__all__ = ["Row", "fastest", "main", "print_table", "ratio_row", "take_turns"]

Times = Mapping[str, list[float]]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what was done.
        subject: who did it.
        against: the peer; empty for a figure that needs none.
        figure: a ratio to the peer, or what ``unit`` says.
        low, high: quartiles.
        target: the figure must be at most this; None: no target, for information.
        unit: of the figure.
        detail: what it was made of.
    """

    work: str
    subject: str
    against: str
    figure: float
    low: float
    high: float
    target: float | None = None
    unit: str = "x"
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """True when the target was reached; None when there is none."""
        return None if self.target is None else self.figure <= self.target


def take_turns(contenders: Mapping[str, Callable[[], object]], repeats: int) -> Times:
    """Seconds of each contender, in each of so many rounds.

    The order rotates, and what a contender made is freed before the next one starts.
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(repeats):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            begin = time.perf_counter()
            made = contenders[name]()
            times[name].append(time.perf_counter() - begin)
            del made
    return times


def fastest(times: Times, names: Iterable[str]) -> str:
    """The contender with the lowest median."""
    return min(names, key=lambda name: statistics.median(times[name]))


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def show_seconds(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def ratio_row(
    work: str, times: Times, subject: str, against: str, target: float | None = None
) -> Row:
    """The subject's times over the peer's, round by round."""
    ratios = [a / b for a, b in zip(times[subject], times[against], strict=True)]
    low, high = _quartiles(ratios)
    mine, other = statistics.median(times[subject]), statistics.median(times[against])
    detail = f"{show_seconds(mine)} / {show_seconds(other)}, {len(ratios)} rounds"
    return Row(work, subject, against, statistics.median(ratios), low, high, target, detail=detail)


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows in columns."""
    lines = [("work", "subject", "against", "figure", "quartiles", "at most", "met", "medians")]
    for row in rows:
        target = "-" if row.target is None else f"{row.target:g} {row.unit}"
        met = {None: "-", True: "yes", False: "NO"}[row.met]
        figure = f"{row.figure:.3g} {row.unit}"
        spread = f"{row.low:.3g} to {row.high:.3g}"
        against = row.against or "-"
        lines.append((row.work, row.subject, against, figure, spread, target, met, row.detail))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def surroundings() -> str:
    """What the figures were taken on."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{platform.release()}, {os.cpu_count()} cores, load {load}"
    )


def main(measure: Callable[[bool], Iterable[Row]]) -> None:
    """What a file of workloads does when it is run: measure, and print."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes")
    parser.add_argument("--json", action="store_true", help="a row a line, for run.py")
    arguments = parser.parse_args()
    # Some contenders hold a descriptor or two for each child.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for row in measure(arguments.quick):
        rows.append(row)
        if arguments.json:
            print(json.dumps(asdict(row)), flush=True)
    if not arguments.json:
        print(surroundings())
        print_table(rows)
