"""The outcomes of a run so far, and the order in which calls ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pcall._core.calls import Calls
from pcall._core.captured import Captured
from pcall._core.records import Outcome
from pcall._os.signals import is_interrupt

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["OutcomeStore"]


class OutcomeStore(Sequence[Outcome | None]):
    """An outcome for each call, in call order; None for one that has not ended.

    It grows with the calls.

    Args:
        calls: of the run.
        value_of: returns the value of a call that returned, if values are kept elsewhere; None:
            they are kept here.

    Attributes:
        completed: the calls that have ended, in the order in which they did.
        ended: the number of calls that have ended.
        failed: the number of calls that have ended without a value.
        profiles: the profiles of the calls; None: none are taken.
    """

    profiles: RunProfile | None = None

    def __init__(self, calls: Calls, value_of: Callable[[int], Any] | None = None) -> None:
        self._calls = calls
        self._value_of = value_of
        self._outcomes: dict[int, Outcome] = {}
        self.completed: list[range] = []
        self.ended: int = 0
        self.failed: int = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        outcome = self._find(index)
        if outcome is not None and self.profiles is not None:
            outcome = replace(outcome, profile=self.profiles.of(index))
        if outcome is None or not outcome.ok or self._value_of is None:
            return outcome
        try:
            return replace(outcome, value=self._value_of(index))
        except BaseException as problem:
            if is_interrupt(problem):
                raise
            return self.fail(index, problem)

    def __iter__(self) -> Iterator[Outcome | None]:
        return map(self.__getitem__, range(len(self)))

    def _find(self, index: int) -> Outcome | None:
        return self._outcomes.get(index)

    def has(self, index: int) -> bool:
        """True if a call has ended."""
        return index in self._outcomes

    def record(self, outcome: Outcome) -> None:
        """Store the outcome of a call, unless it has one."""
        if outcome.index not in self._outcomes:
            kept = outcome if self._value_of is None else replace(outcome, value=None)
            self._outcomes[outcome.index] = kept
            self.failed += not outcome.ok
            self._complete(range(outcome.index, outcome.index + 1))

    def _complete(self, calls: range) -> None:
        self.completed.append(calls)
        self.ended += len(calls)

    def fail(self, index: int, error: BaseException) -> Outcome:
        """A call returned, but its value is of no use to this process: that is its failure.

        Returns:
            The call's outcome from now on.
        """
        outcome = self._find(index)
        assert outcome is not None
        self.failed += outcome.ok
        failed = self._outcomes[index] = replace(outcome, ok=False, value=None, error=error)
        return failed

    def reopen(self, index: int) -> None:
        """Drop the outcome of a call that is executed again."""
        self._outcomes.pop(index, None)
        self.ended -= 1

    def forget(self, index: int) -> None:
        """Drop the outcome of a call that nobody asks about any more."""
        self._outcomes.pop(index, None)
        if self.profiles is not None:
            self.profiles.forget(index)

    def set_attempts(self, index: int, attempts: int) -> None:
        """Set the number of attempts of a call that returned."""
        outcome = self._find(index)
        assert outcome is not None
        self._outcomes[index] = replace(outcome, attempts=attempts)

    def output(self, index: int) -> Captured | None:
        """What a call has written; None if it never ran, or if nothing is captured."""
        outcome = self._outcomes.get(index)
        if outcome is None or outcome.stdout is None or outcome.stderr is None:
            return None
        return Captured(outcome.stdout, outcome.stderr)

    def values(self) -> tuple[Any, ...]:
        """The values of all calls, none of which has failed."""
        return tuple(self._outcomes[index].value for index in range(len(self)))
