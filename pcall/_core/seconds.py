"""Checks durations that users give, in seconds."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

__all__ = ["check_seconds", "limit_of"]

__tracebackhide__ = True  # pytest shows the frames of its user


def check_seconds(name: str, value: Any) -> float:
    """Check a duration, and return it as a float.

    Args:
        name: the name of the argument, for the error text.
        value: the duration; infinity is allowed.

    Returns:
        The duration, in seconds.

    Raises:
        TypeError: the value is not a real number.
        ValueError: it is negative or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    number: Any = value
    try:
        seconds = float(number)
    except OverflowError:  # an int that is too large for a float
        seconds = math.inf if number > 0 else -math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} must be zero or more seconds, not {value!r}")
    return seconds


def limit_of(timeout: Any) -> float | None:
    """Check the option ``timeout``.

    Args:
        timeout: seconds; None, 0 and infinity mean no limit.

    Returns:
        The limit, in seconds; None for no limit.

    Raises:
        TypeError: the value is not a real number.
        ValueError: it is negative or NaN.
    """
    limit = None if timeout is None else check_seconds("timeout", timeout)
    return None if limit == 0 or limit == math.inf else limit
