"""The records that a workload yields: rows of the table, and points of the curves."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "Point",
    "Record",
    "Row",
    "environment",
    "from_json",
    "moment",
    "points_of",
    "rows_of",
    "show_seconds",
    "to_json",
]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: the work.
        subject: the contender that did it.
        against: the peer; empty for a figure that needs none.
        figure: a ratio to the peer, or a value in ``unit``.
        low, high: quartiles.
        target: the figure must be at most this; None: no target, for information.
        unit: of the figure.
        detail: the medians that the ratio is made of.
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


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    Attributes:
        panel: the picture that the curve is in.
        who: the contender.
        where: the condition that differs between curves of one contender; may be empty.
        x: the quantity that grows.
        y: seconds for each call, the median.
        low, high: quartiles.
    """

    panel: str
    who: str
    where: str
    x: float
    y: float
    low: float
    high: float


Record = Row | Point


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON, for :func:`from_json`."""
    return {type(record).__name__.lower(): asdict(record)}


def from_json(found: dict[str, Any]) -> Record:
    """The record."""
    if "row" in found:
        return Row(**found["row"])
    return Point(**found["point"])


def rows_of(records: Iterable[Record]) -> list[Row]:
    """The records that are lines of the table."""
    return [record for record in records if isinstance(record, Row)]


def points_of(records: Iterable[Record]) -> list[Point]:
    """The records that are points of curves."""
    return [record for record in records if isinstance(record, Point)]


def show_seconds(seconds: float) -> str:
    """Seconds as text, in a suitable unit."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def environment() -> dict[str, str]:
    """The machine and the interpreter that figures are measured on; the same for each run."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
    }


def moment() -> dict[str, str]:
    """The time of a measurement, and the load of the machine."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {"date": time.strftime("%Y-%m-%d"), "load": load}
