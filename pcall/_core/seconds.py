"""Numbers of seconds that users give."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

__all__ = ["check_seconds", "limit_of"]


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


def limit_of(timeout: Any) -> float | None:
    """A timeout that a user gives, as seconds; None, 0 and infinity set no limit: None.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative, or not a number of IEEE 754's kind.
    """
    limit = None if timeout is None else check_seconds("timeout", timeout)
    return None if limit == 0 or limit == math.inf else limit
