"""When a failed call is tried again: the rule alone, no clock, no process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pcall._core.seconds import check_seconds
from pcall._wire.exception_codec import safe_str

__all__ = ["Retry"]

Classes = type[BaseException] | Iterable[type[BaseException]]
Predicate = Callable[[BaseException], Any]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is tried, for which errors, and how long it waits in between.

    Before attempt *n* + 1 it waits ``min(max_wait, wait * 2 ** (n - 1))`` seconds, and up to
    ``jitter`` seconds more, at random. No worker waits with it.

    Attributes:
        attempts: how often a call is tried in all, 1 or more.
        on: the exception classes that are tried again, or a function that is given the
            exception and says so. A timeout is a ``PcallTimeout``, a lost child a
            ``ChildDied``; both are an ``Exception``, which is the default.
        wait: seconds before the second attempt; default 0. Doubled before each further one.
        max_wait: the longest wait, in seconds; default 60.
        jitter: seconds; default 0.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: a value is out of its range.
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
        # Other classes can be called as well, but say nothing of an error.
        if isinstance(self.on, type) or not callable(self.on):
            object.__setattr__(self, "on", _classes(self.on))

    def decides(self, error: BaseException) -> bool:
        """True when a call that failed so is to be tried again, if attempts are left."""
        on: Any = self.on
        if _is_class(on) or isinstance(on, tuple):
            return isinstance(error, on)
        try:
            return bool(on(error))
        except Exception as problem:  # the call's own error must not be lost for it
            error.add_note(
                f"the function that was given as on= failed: {type(problem).__name__}: "
                f"{safe_str(problem)}"
            )
            return False

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after this attempt (from 1).

        Args:
            attempt: the one that failed.
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
