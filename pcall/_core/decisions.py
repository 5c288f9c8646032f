"""The decisions of a scheduler, as records: the consequences of a call's end, or of the time."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Ended", "Expiry", "Settled"]


class Expiry(NamedTuple):
    """The consequences of the time.

    Attributes:
        overdue: calls that have run longer than the timeout.
        stop: calls to end: the overdue ones, or all running ones if the run fails.
        fatal: True if the run fails.
    """

    overdue: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    fatal: bool = False


class Ended(NamedTuple):
    """The consequences of the end of a call.

    Attributes:
        retried: True if the call is retried.
        skipped: calls that will not start, or not again, because of it.
    """

    retried: bool = False
    skipped: tuple[int, ...] = ()


class Settled(NamedTuple):
    """A call that was settled before the run, and so is not executed.

    Attributes:
        call: its index.
        value: its value.
        error: the exception that it failed with; None if it returned.
        skipped: calls that never start because of it.
    """

    call: int
    value: Any = None
    error: BaseException | None = None
    skipped: tuple[int, ...] = ()
