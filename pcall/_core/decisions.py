"""The decisions of a scheduler, as records: what follows from a call's end, or from the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Ended", "Expiry", "Settled"]


@dataclass(frozen=True, slots=True)
class Expiry:
    """What follows from the time.

    Attributes:
        overdue: calls that have run longer than the timeout.
        stop: calls to end for it: those, or, where that fails the run, everything running.
        fatal: True where it does.
    """

    overdue: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """What follows from the end of a call.

    Attributes:
        retried: True when it will be tried again.
        skipped: calls that will not start, or not again, because of it.
    """

    retried: bool = False
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """A call that was settled before the run, and so is not executed.

    Attributes:
        index: the call.
        value: its value.
        error: the exception that it failed with; None when it did not.
        skipped: calls that never start because of it.
    """

    index: int
    value: Any = None
    error: BaseException | None = None
    skipped: tuple[int, ...] = ()
