"""How times are measured.

Contenders take turns, so that whatever else the machine does meets all of them alike. Each
turn gives a ratio; shown are the median of the ratios and the quartiles around it.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from records import Point, Record, Row, environment, points_of, rows_of, show_seconds, to_json
from tables import text_of_points, text_of_rows

__all__ = [
    "Point",
    "Record",
    "Row",
    "fastest",
    "main",
    "point",
    "quartiles",
    "ratio_row",
    "swell",
    "take_turns",
]

Times = Mapping[str, list[float]]
_ballast: list[mmap.mmap] = []


def take_turns(contenders: Mapping[str, Callable[[], object]], repeats: int) -> Times:
    """Seconds of each contender, in each of so many rounds.

    The order rotates, and garbage of a contender is collected before the next one starts.
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


def quartiles(values: list[float]) -> tuple[float, float]:
    """The lower and the upper one; of a few values, the least and the most."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def ratio_row(
    work: str, times: Times, subject: str, against: str, target: float | None = None
) -> Row:
    """The subject's times over the peer's, round by round."""
    ratios = [a / b for a, b in zip(times[subject], times[against], strict=True)]
    mine, other = statistics.median(times[subject]), statistics.median(times[against])
    detail = f"{show_seconds(mine)} / {show_seconds(other)}, {len(ratios)} rounds"
    return Row(
        work,
        subject,
        against,
        statistics.median(ratios),
        *quartiles(ratios),
        target,
        detail=detail,
    )


def point(panel: str, who: str, where: str, x: float, values: list[float]) -> Point:
    """The point of a curve that these seconds for each call make."""
    return Point(panel, who, where, x, statistics.median(values), *quartiles(values))


def swell(size: int) -> int:
    """Let this process grow to so many resident bytes; return how many it has then.

    It grows in small pages, each written to, like a process that grew object by object.
    """
    missing = size - _resident()
    if missing > 0:
        block = mmap.mmap(-1, missing, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            block.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, missing, mmap.PAGESIZE):
            block[place] = 1
        _ballast.append(block)
    return _resident()


def _resident() -> int:
    """The peak, which is the current size as long as nothing large has been freed."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(measure: Callable[[bool], Iterable[Record]]) -> None:
    """The main function of a workload's file: measure, and print."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes")
    parser.add_argument("--json", action="store_true", help="a record a line, for run.py")
    arguments = parser.parse_args()
    # Some contenders hold a descriptor or two for each child.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    records = []
    for record in measure(arguments.quick):
        records.append(record)
        if arguments.json:
            print(json.dumps(to_json(record)), flush=True)
    if not arguments.json:
        print(", ".join(environment().values()))
        print(text_of_rows(rows_of(records)))
        print(text_of_points(points_of(records)))
