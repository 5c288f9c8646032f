"""The policy of a run: one frozen record, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from pcall._core.observers import Observers, check_progress, observers_of
from pcall._core.records import Observer
from pcall._core.retry import Retry
from pcall._core.seconds import check_seconds

__all__ = ["Options"]


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, or None, not {value!r}")


def _check_retry(value: Any) -> None:
    if isinstance(value, type) and issubclass(value, (Retry, BaseException)):
        meant = "attempts" if value is Retry else f"attempts, on={value.__name__}"
        raise TypeError(f"retry must not be the class {value.__name__}; write Retry({meant})")
    if value is None or isinstance(value, Retry) or callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"retry must be an int (attempts in all), a Retry, a decorator or None, not {value!r}"
        )
    _check_count("retry", value, 1)


@dataclass(frozen=True, slots=True)
class Options:
    """What ``Pcall.options`` takes.

    Attributes:
        max_workers: how many calls run at once. None: as many as this machine can hold.
            0: none in a child; they run one after another in this process.
        max_tasks_per_child: calls that a child takes before it ends: 1, or more. None: no
            end to it. With other than 1, ``max_workers`` is by default one a core.
        max_errors: failed calls after which, when there are more, no further call starts.
            None: no limit.
        retry: attempts in all; or a :class:`Retry`; or a decorator of the target, which
            tries again in the child. None: one attempt.
        grace_period: seconds from SIGTERM to SIGKILL.
        progress: True: shown in a way that is chosen; or what shows it, one or several
            observers (see :mod:`pcall.progress`). None: as ``PCALL_PROGRESS`` says.
        tasklog: True: what children log comes home, in call order. False: logging is left
            alone.
        return_outcomes: True: a failed call raises nothing, and the outcomes are returned
            in place of the values.
    """

    max_workers: int | None = None
    max_tasks_per_child: int | None = 1
    max_errors: int | None = 0
    retry: int | Retry | Callable[[Any], Any] | None = None
    grace_period: float = 5.0
    progress: bool | Observer | Iterable[Observer] | None = None
    tasklog: bool = True
    return_outcomes: bool = False

    def __post_init__(self) -> None:
        _check_count("max_workers", self.max_workers, 0)
        _check_count("max_errors", self.max_errors, 0)
        _check_count("max_tasks_per_child", self.max_tasks_per_child, 1)
        _check_retry(self.retry)
        object.__setattr__(self, "progress", check_progress(self.progress))
        if math.isinf(check_seconds("grace_period", self.grace_period)):
            raise ValueError("grace_period must be finite: without an end nothing would be killed")
        for name in ("tasklog", "return_outcomes"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")

    @property
    def rule(self) -> Retry | None:
        """When a call is tried again, in another child."""
        if isinstance(self.retry, int):
            return Retry(self.retry)
        return self.retry if isinstance(self.retry, Retry) else None

    def observers(self) -> Observers:
        """Whom a run tells of its progress."""
        choice: Any = self.progress
        return observers_of(choice)

    @property
    def decorator(self) -> Callable[[Any], Any] | None:
        """What is to be put around the targets."""
        return self.retry if callable(self.retry) else None

    def but(self, policy: dict[str, Any]) -> Options:
        """These options with some of them replaced.

        Raises:
            TypeError: a name is unknown; the text offers the nearest one.
        """
        known = [field.name for field in fields(self)]
        for name in policy:
            if name not in known:
                import difflib  # needed for this message alone

                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
        return replace(self, **policy)
