"""``pcall.iter``: the results of calls one by one, while later calls are being made."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self

from pcall._core.arguments import stream_calls
from pcall._core.calls import CallParts, Calls, decorated
from pcall._core.chunk_outcomes import PassingOutcomes
from pcall._core.failure_report import failure_of
from pcall._core.growing_calls import GrowingCalls
from pcall._core.options import Options
from pcall._core.records import Outcome
from pcall._core.slips import call_limit, check_taken
from pcall._faces.make_growing_run import make_growing_run
from pcall._faces.make_run import make_run
from pcall._faces.run_observers import observers_of
from pcall._faces.use_profiles import make_profiles
from pcall._run import Run
from pcall._types import T_co
from pcall._wire.call_pickle import dump_call
from pcall.engines.local.parent.captured_output import GroupWriter
from pcall.engines.local.parent.pool_engine import cores
from pcall.engines.local.seeding import draw

if TYPE_CHECKING:
    from pcall._profiles.run_profile import Profile

__all__ = ["ResultStream"]

__tracebackhide__ = True  # pytest shows the frames of its user


class ResultStream(Generic[T_co]):
    """Iterates over the results of calls, for which it reads its arguments as they are needed.

    Calls start and end while the next result is waited for. Nothing starts before the first one
    is. Leaving the loop, :meth:`close` and an error end the calls that run.

    Args: those of :class:`pcall.Pcall`; and
        options: the policy.

    Raises:
        ValueError: the options have an engine.
    """

    def __init__(
        self,
        options: Options,
        targets: Any,
        timeout: float | None,
        cargs: Iterable[Any],
        iargs: Iterable[Iterable[Any]] | None,
        ckwargs: Mapping[str, Any] | None,
        ikwargs: Iterable[Mapping[str, Any]] | None,
        varkwargs: Mapping[str, Iterable[Any]],
    ) -> None:
        if options.engine is not None:
            raise ValueError(
                f"engine must be None for iter, not {options.engine!r}: its calls run on this "
                f"machine; on a cluster use pcall or Cluster.execute"
            )
        self._limit = call_limit(timeout)
        self._options = options
        self._profiles = make_profiles(options)
        given = {"timeout": timeout, "iargs": iargs, "ckwargs": ckwargs, "ikwargs": ikwargs}
        given["cargs"] = cargs or None
        self._given = {name: value for name, value in given.items() if value is not None}
        self._source: Iterator[CallParts] | None = stream_calls(
            targets, cargs, iargs, ckwargs, ikwargs, varkwargs, options.strict
        )
        self._source_error: BaseException | None = None
        self._pooled = options.max_tasks_per_child != 1
        # Workers inherit the function, so that it need not be picklable as its arguments must.
        self._shared = None
        if self._pooled and callable(targets):
            if options.decorator is not None:
                targets = decorated(options.decorator, targets)
            self._shared = None if dump_call(targets) else targets
        self._workers = cores() if options.max_workers is None else options.max_workers
        # Where results wait for one before them, calls behind that may go on for a while.
        self._most = self._workers * (2 if options.ordered else 1)
        self._begun = self._ended = self._given_out = self._failed = 0
        self._ready: dict[int, tuple[Outcome, bool]] = {}
        self._calls = GrowingCalls(kept=False, shared=self._shared)
        self._run: Run | None = None
        self._writer: GroupWriter | None = None
        self._outcomes: PassingOutcomes | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._owner = os.getpid()
        self._over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        """Wait for the next result.

        Raises:
            ChildProcessException: the call failed, see :func:`pcall`. Calls that run are ended.
        """
        if self._options.max_workers == 0:
            result: T_co = self._next_inline()
            return result
        try:
            while True:
                run = self._advance()
                outcome = self._take()
                if outcome is not None:
                    result = self._give(outcome)
                    return result
                if run is None:
                    break
                run.turn(None)
        except BaseException:
            self.close()
            raise
        self._finish()
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        """The same, while the event loop goes on."""
        from pcall._faces.asyncio_turns import end, until_due

        if self._options.max_workers == 0:
            try:
                result: T_co = self._next_inline()
            except StopIteration:
                raise StopAsyncIteration from None
            return result
        try:
            while True:
                run = self._advance()
                outcome = self._take()
                if outcome is not None:
                    result = self._give(outcome)
                    return result
                if run is None:
                    break
                await until_due(run)
                run.turn(0)
        except BaseException:
            if self._run is not None and not self._over:
                self._over = True
                self._run.seal()
                await end(self._run)
            self.close()
            raise
        self._finish()
        raise StopAsyncIteration

    def close(self) -> None:
        """End the calls that run, and wait for that. Harmless if all is over."""
        self._source, self._over = None, True
        self._ready.clear()
        if self._finalizer is not None:
            self._finalizer()

    @property
    def profile(self) -> Profile | None:
        """The profile over all calls that have ended; None without the option ``profile``.

        With ``return_outcomes=True`` each outcome has that of its call.
        """
        profiles = self._profiles
        return None if profiles is None or self._options.profile is None else profiles.merged

    async def aclose(self) -> None:
        """The same, while the event loop goes on."""
        from pcall._faces.asyncio_turns import end

        if self._run is not None and not self._over:
            self._over = True
            self._run.seal()
            await end(self._run)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ the steps

    def _advance(self) -> Run | None:
        """Start the calls that may start now; None once nothing is left to wait for."""
        if self._over:
            return None
        if os.getpid() != self._owner:
            raise AssertionError(
                "this iterator belongs to the parent of this process; make another one here"
            )
        if self._run is None:
            self._start()
        run = self._run
        assert run is not None
        new = 0
        while self._wants_more():
            parts = self._next_call()
            if parts is None:
                break
            pickled = dump_call(parts, self._shared) if self._pooled else None
            self._calls.append(*parts, pickled=pickled)
            self._begun += 1
            new += 1
        if new:
            run.grow(new)
            run.turn(0)
        self._collect(run)
        return run if self._ended < self._begun else None

    def _wants_more(self) -> bool:
        return (
            self._source is not None
            and self._begun - self._ended < self._workers
            and self._begun - self._given_out < self._most
        )

    def _start(self) -> None:
        options = self._options.but({"max_workers": self._workers, "max_errors": None})
        observers = observers_of(options.progress_choice)
        run, self._outcomes = make_growing_run(
            self._calls, options, self._limit, draw(), observers, profiles=self._profiles
        )
        self._run = run
        if options.capture_output == "group":
            self._writer = GroupWriter(self._outcomes)
        self._finalizer = weakref.finalize(self, run.abandon_if_owner)
        run.start()

    def _next_call(self) -> CallParts | None:
        """The next call of the source; None if there is none."""
        assert self._source is not None
        try:
            target, args, kwargs = next(self._source)
            if self._options.decorator is not None:
                if self._shared is None:
                    target = decorated(self._options.decorator, target)
                else:
                    target = self._shared
            if self._given:
                check_taken(Calls(1, target, args, kwargs), self._given)
        except StopIteration:
            self._source = None
        except Exception as error:  # of the user's iterable, to be raised at its place
            self._source, self._source_error = None, error
        else:
            return target, args, kwargs
        return None

    def _collect(self, run: Run) -> None:
        """Take note of the calls that have ended."""
        outcomes = self._outcomes
        assert outcomes is not None
        while (outcome := outcomes.take()) is not None:
            index = outcome.index
            self._ready[index] = (outcome, index in run.state.ended_from_outside)
            self._ended += 1
            self._note(outcome)
            if self._writer is not None:
                self._writer.write_call(outcome)
            run.state.forget(index)
            self._calls.forget(index)

    def _note(self, outcome: Outcome) -> None:
        if outcome.ok:
            return
        self._failed += 1
        most = self._options.max_errors if self._options.return_outcomes else 0
        if most is not None and self._failed > most:
            self._source = None  # no further call starts

    def _take(self) -> tuple[Outcome, bool] | None:
        """The outcome that is next; None if it is not there."""
        if not self._ready:
            return None
        index = self._given_out if self._options.ordered else next(iter(self._ready))
        found = self._ready.pop(index, None)
        self._given_out += found is not None
        return found

    def _give(self, taken: tuple[Outcome, bool]) -> Any:
        outcome, ended_from_outside = taken
        if self._options.return_outcomes:
            self._advance()  # calls run on while this result is used
            return outcome
        failure = failure_of(
            [outcome], ended_from_outside={outcome.index} if ended_from_outside else ()
        )
        if failure is not None:
            raise failure
        if not outcome.ok:
            outcome.result()
        self._advance()
        return outcome.value

    def _finish(self) -> None:
        """All calls are over: release everything, and raise what the source has raised."""
        run, error = self._run, self._source_error
        self._over, self._source_error = True, None
        if run is not None and self._finalizer is not None and self._finalizer.alive:
            run.seal()
            while not run.over:
                run.turn(None)
            self._finalizer()
        if error is not None:
            raise error

    def _next_inline(self) -> Any:
        """Without children: the next call, in this process."""
        parts = self._next_call() if self._source is not None else None
        if parts is None:
            self._finish()
            raise StopIteration
        target, args, kwargs = parts
        run = make_run(Calls(1, target, args, kwargs), self._options, None)
        run.start()
        run.finish()
        outcome = run.state.outcomes[0]
        assert outcome is not None
        if outcome.ok:
            self._options = self._options.but({"initializer": None})  # it was called
        if self._profiles is not None:
            self._profiles.include(outcome.profile)
        outcome = replace(outcome, index=self._begun)
        self._begun += 1
        self._note(outcome)
        if self._options.return_outcomes:
            return outcome
        failure = failure_of([outcome])
        if failure is not None:
            self._source = None
            raise failure
        return outcome.value
