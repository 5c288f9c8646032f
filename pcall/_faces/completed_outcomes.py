"""The outcomes of a run as they come: one object for ``for`` and for ``async for``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self

from pcall._core.records import Outcome
from pcall._run import Run
from pcall._types import T_co

__all__ = ["CompletedOutcomes"]

__tracebackhide__ = True  # pytest shows the frames of its user


class CompletedOutcomes(Generic[T_co]):
    """Iterates over the outcomes of a run in the order in which calls end.

    Both kinds of loop go on where the other one has stopped, as with
    :func:`asyncio.as_completed` of Python 3.13.

    Args:
        run: the run, which has been started.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._chunks = 0  # so many of those that have ended were begun
        self._chunk: Iterator[int] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome[T_co]:
        """Wait for the next outcome."""
        while True:
            done = self._run.done  # before the look: another thread may take the last turn
            outcome = self._take()
            if outcome is not None:
                return outcome
            if done:
                raise StopIteration
            self._run.turn(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[T_co]:
        """The same, while the event loop goes on."""
        # Who awaits has asyncio; for all others its import would cost more than the rest.
        from pcall._faces.asyncio_turns import until_due

        while True:
            done = self._run.done
            outcome = self._take()
            if outcome is not None:
                return outcome
            if done:
                raise StopAsyncIteration
            await until_due(self._run)
            self._run.turn(0)

    def _take(self) -> Outcome[T_co] | None:
        """The next outcome that is there."""
        outcomes = self._run.state.outcomes
        while True:
            for index in self._chunk:
                outcome: Outcome[T_co] | None = outcomes[index]
                assert outcome is not None
                return outcome
            if self._chunks == len(outcomes.completed):
                return None
            self._chunk = iter(outcomes.completed[self._chunks])
            self._chunks += 1
