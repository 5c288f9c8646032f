"""The policy of a run: one frozen record, checked once."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

__all__ = ["Options", "check_seconds"]


def check_seconds(name: str, value: Any) -> float:
    """The value as a number of seconds.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative, or not a number of IEEE 754's kind.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    number: Any = value
    try:
        seconds = float(number)
    except OverflowError:  # an int that no float can hold
        seconds = math.inf if number > 0 else -math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} must be zero or more seconds, not {value!r}")
    return seconds


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, or None, not {value!r}")


@dataclass(frozen=True, slots=True)
class Options:
    """What ``Pcall.options`` takes.

    Attributes:
        max_workers: how many calls run at once. None: as many as this machine can hold.
            0: none in a child; they run one after another in this process.
        max_tasks_per_child: calls that a child takes before it ends: 1.
        max_errors: failed calls after which, when there are more, no further call starts.
            None: no limit.
        grace_period: seconds from SIGTERM to SIGKILL.
        return_outcomes: True: a failed call raises nothing, and the outcomes are returned
            in place of the values.
    """

    max_workers: int | None = None
    max_tasks_per_child: int | None = 1
    max_errors: int | None = 0
    grace_period: float = 5.0
    return_outcomes: bool = False

    def __post_init__(self) -> None:
        _check_count("max_workers", self.max_workers, 0)
        _check_count("max_errors", self.max_errors, 0)
        if self.max_tasks_per_child != 1 or isinstance(self.max_tasks_per_child, bool):
            raise ValueError(
                "max_tasks_per_child must be 1 (a fresh child for every call), "
                f"not {self.max_tasks_per_child!r}"
            )
        if math.isinf(check_seconds("grace_period", self.grace_period)):
            raise ValueError("grace_period must be finite: without an end nothing would be killed")
        if not isinstance(self.return_outcomes, bool):
            raise TypeError(f"return_outcomes must be True or False, not {self.return_outcomes!r}")

    def but(self, policy: dict[str, Any]) -> Options:
        """These options with some of them replaced.

        Raises:
            TypeError: a name is unknown; the text offers the nearest one.
        """
        known = [field.name for field in fields(self)]
        for name in policy:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
        return replace(self, **policy)
