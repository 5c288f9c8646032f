"""The future of a call, whose ``cancel()`` ends the call also while it runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TypeVar

from pcall._core.records import Outcome

__all__ = ["CallFuture"]

T = TypeVar("T")


class CallFuture(Future[T]):
    """The future of a call of an :class:`~pcall.Executor`.

    Attributes:
        outcome: how the call ended, as an :class:`~pcall.Outcome`; None before, and for a call
            that never started.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Outcome | None = None
        self._on_cancel: Callable[[], None] | None = None
        self._find_pid: Callable[[], int | None] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process that runs the call, or has run it; None if none has."""
        find = self._find_pid
        found = None if find is None else find()
        outcome = self.outcome  # in this order: the call may end meanwhile
        return found if outcome is None else outcome.pid

    def cancel(self) -> bool:
        """Cancel the call. If it runs, it is ended: SIGTERM, the grace period, SIGKILL.

        This does not wait. :func:`concurrent.futures.wait` counts the future as done once the
        processes of the call have gone.

        Returns:
            False if the call is over.
        """
        with self._condition:
            if self._state == FINISHED:
                return False
            if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                return True
            self._state = CANCELLED
            self._condition.notify_all()
        self._tell_cancelled()
        return True

    # ------------------------------------------------------------ for its executor

    def bind(self, on_cancel: Callable[[], None], find_pid: Callable[[], int | None]) -> None:
        """Have these called when it is cancelled, and for its process id."""
        self._on_cancel, self._find_pid = on_cancel, find_pid

    def cancel_if_pending(self) -> bool:
        """Cancel the call unless it runs."""
        with self._condition:
            if self._state != PENDING:
                return False
            self._state = CANCELLED
            self._condition.notify_all()
        self._tell_cancelled()
        return True

    def _tell_cancelled(self) -> None:
        if self._on_cancel is not None:
            self._on_cancel()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def mark_running(self) -> bool:
        """The call starts; False if it was cancelled."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING
            return self._state == RUNNING

    def notify_cancelled(self) -> None:
        """The call was cancelled, and nothing of it runs any more: tell those who wait."""
        with self._condition:
            if self._state == CANCELLED:
                self.set_running_or_notify_cancel()

    def conclude(
        self, outcome: Outcome | None, value: T | None, error: BaseException | None
    ) -> None:
        """The call is over; a future that was cancelled stays so."""
        self.outcome = outcome
        self._on_cancel = self._find_pid = None
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)  # type: ignore[arg-type]
        except InvalidStateError:
            self.notify_cancelled()
