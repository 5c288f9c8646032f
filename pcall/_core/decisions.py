"""The decisions of a scheduler, as records: what follows from a call's end, or from the time."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Ended", "Expiry", "Settled"]


class Expiry(NamedTuple):
    """What follows from the time.

    Attributes:
        overdue: calls that have run longer than the timeout.
        stop: calls to end for it: those, or, where that fails the run, everything running.
        fatal: True where it does.
    """

    overdue: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    fatal: bool = False


class Ended(NamedTuple):
    """What follows from the end of a call.

    Attributes:
        retried: True when it will be tried again.
        skipped: calls that will not start, or not again, because of it.
    """

    retried: bool = False
    skipped: tuple[int, ...] = ()


class Settled(NamedTuple):
    """A call that was settled before the run, and so is not executed.

    Attributes:
        call: its index.
        value: its value.
        error: the exception that it failed with; None when it did not.
        skipped: calls that never start because of it.
    """

    call: int
    value: Any = None
    error: BaseException | None = None
    skipped: tuple[int, ...] = ()
