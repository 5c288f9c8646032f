"""The rule that decides when a failed call is retried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pcall._core.seconds import check_seconds
from pcall._wire.exception_codec import safe_str

__all__ = ["Retry"]

__tracebackhide__ = True  # pytest shows the frames of its user

Classes = type[BaseException] | Iterable[type[BaseException]]
Predicate = Callable[[BaseException], Any]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is tried, after which exceptions, and how long it waits in between.

    Before attempt *n* + 1 the call waits ``min(max_wait, wait * 2 ** (n - 1))`` seconds, plus a
    random time of up to ``jitter`` seconds. It occupies no worker while it waits.

    Attributes:
        attempts: the number of attempts, the first one included; 1 or more.
        on: the exception classes after which a call is retried, or a function that gets the
            exception and returns True to retry. A timeout is a ``PcallTimeout``, a child that
            died a ``ChildDied``. Default ``Exception``, which includes both.
        wait: seconds before the second attempt, doubled before each further one. Default 0.
        max_wait: the longest wait, in seconds. Default 60.
        jitter: the longest random addition, in seconds. Default 0.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of range.
    """

    attempts: int
    on: Classes | Predicate = Exception
    wait: float = 0.0
    max_wait: float = 60.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"attempts must be an int, not {self.attempts!r}")
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {self.attempts!r}")
        for name in ("wait", "max_wait", "jitter"):
            value = getattr(self, name)
            seconds = check_seconds(name, value)
            if math.isinf(seconds) and name != "max_wait":
                raise ValueError(f"{name} must be finite, not {value!r}")
            object.__setattr__(self, name, seconds)
        if _is_class(self.on):
            return
        # Other classes are callable, too, but calling one decides nothing about an exception.
        if isinstance(self.on, type) or not callable(self.on):
            object.__setattr__(self, "on", _classes(self.on))

    def decides(self, error: BaseException) -> bool:
        """True if a call that failed with this exception is to be retried, if attempts are left."""
        on: Any = self.on
        if _is_class(on) or isinstance(on, tuple):
            return isinstance(error, on)
        try:
            return bool(on(error))
        except Exception as problem:  # must not replace the call's own exception
            error.add_note(
                f"the function that was given as on= failed: {type(problem).__name__}: "
                f"{safe_str(problem)}"
            )
            return False

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempt: the number of the attempt that failed, from 1.
            chance: a random number from 0 to 1.
        """
        doubled = self.wait * 2.0 ** min(attempt - 1, 1000) if self.wait else 0.0
        return min(self.max_wait, doubled) + self.jitter * chance


def _is_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _classes(value: Any) -> tuple[type[BaseException], ...]:
    try:
        classes = tuple(value)
    except TypeError:
        classes = (None,)
    if not classes or not all(map(_is_class, classes)):
        raise TypeError(f"on must be exception classes or a function, not {value!r}")
    return classes
