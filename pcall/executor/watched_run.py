"""A run of an executor, and the thread that watches it while calls are in flight.

The thread takes the run's turns. It sets futures while it holds no lock, so that callbacks may use
the executor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from pcall._core.growing_calls import GrowingCalls
from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._core.records import Outcome, name_of
from pcall._errors import NotStarted
from pcall._faces.make_growing_run import make_growing_run
from pcall._faces.use_profiles import make_profiles
from pcall._run import Run
from pcall._tuning import CANCEL_LOOK_INTERVAL, LINGER
from pcall.engines.local.parent.captured_output import GroupWriter
from pcall.engines.local.seeding import Draw
from pcall.executor.executor_errors import public_error, show_error
from pcall.executor.work import CallPolicy, Work

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["Owner", "WatchedRun"]

_log = logging.getLogger("pcall")

# Of a run: calls are in flight, or may come in a moment; it rests without a thread; it is over.
_BUSY, _IDLE, _OVER = object(), object(), object()


class Owner(Protocol):
    """What a run asks of its executor.

    Attributes:
        lock: guards the executor and all its runs. It is taken before the lock of a run.
        closing: True once no call will be submitted.
    """

    lock: threading.RLock
    closing: bool

    def pump(self) -> None:
        """Start queued calls, with the lock held."""

    def retire(self, run: WatchedRun) -> None:
        """Give this run no more calls."""

    def started(self, thread: threading.Thread) -> None:
        """This thread watches one of its runs."""

    def ended(self, run: WatchedRun) -> None:
        """This run is over."""

    def failed(self, error: BaseException) -> None:
        """A call has failed, without the lock held."""


class WatchedRun:
    """Runs calls of an executor, as long as calls come.

    All methods are called with the executor's lock held.

    Args:
        owner: the executor's.
        options: the policy.
        policy: what holds for a call that has no policy of its own.
        first: the number of its first call.
        drawn: random numbers for its children.
        observers: of the run.
        idle_timeout: seconds after which an idle reused worker exits; None: it stays.
        profiles: of all calls of the executor; None: none are taken.

    Attributes:
        fed: by number, the calls whose turn has come and that are not over.
        run: the run itself.
        owed: the number of further calls that it has taken in.
    """

    def __init__(
        self,
        owner: Owner,
        options: Options,
        policy: CallPolicy,
        first: int,
        drawn: Draw,
        observers: Observers,
        idle_timeout: float | None,
        profiles: RunProfile | None,
    ) -> None:
        self._owner = owner
        self._policy = policy
        self._first = first
        self._calls = GrowingCalls(first, kept=False)
        self.run: Run
        self.run, self._outcomes = make_growing_run(
            self._calls,
            options,
            policy.timeout,
            drawn,
            observers,
            idle_timeout,
            make_profiles(options, profiles),
        )
        self._pooled = options.max_tasks_per_child != 1
        self._stays = self._pooled or bool(observers)
        self._workers = options.max_workers or 1
        self.fed: dict[int, Work] = {}
        self.owed: int = 0
        self._cancelled: set[int] = set()
        self._lingering: dict[int, Work] = {}  # by process, cancelled calls whose group lives
        self._thread: threading.Thread | None = None
        self._retired = False
        self._failure: Exception | None = None  # why it can't go on
        self._idle_since = 0.0
        group = options.capture_output == "group"
        self._writer = GroupWriter(self._outcomes) if group else None
        self.run.start()

    def note(self, kind: Literal["planned", "skipped"], work: Work) -> None:
        """Tell observers of a call that waits, or waits no more."""
        self.run.state.events.note(kind, (name_of(work.target),))

    @property
    def used(self) -> int:
        """The number of calls that it has taken in."""
        return len(self._calls) - self._first

    @property
    def has_workers(self) -> bool:
        """True if processes live that do not have a call which is taken in now."""
        return bool(self.run.living)

    @property
    def busy(self) -> int:
        """The number of calls that it runs or is about to run."""
        return len(self.fed) - self.run.state.scheduler.paused

    # ------------------------------------------------------------ for the executor

    def append(self, work: Work) -> None:
        """Take a call in. Children that are forked from now on have it; it starts later."""
        work.run = self
        work.index = self._calls.append(
            work.target, work.args, work.kwargs, work.context, work.pickled
        )
        self.owed += 1
        if work.policy[:2] != self._policy[:2]:
            timeout, retry, _ = work.policy
            self.run.state.scheduler.set_policy(work.index, timeout, retry)

    def skip(self, work: Work) -> None:
        """A call was cancelled before its turn came."""
        self.owed -= 1
        self.run.pass_over()
        self._calls.forget(work.index)
        self.run.state.scheduler.forget(work.index)

    def take(self, works: Sequence[Work]) -> None:
        """It is the turn of these calls: fork in this thread if there is room."""
        self.owed -= len(works)
        self._idle_since = time.monotonic()  # it may be over before the thread looks
        self.fed.update((work.index, work) for work in works)
        self._mark_running()
        try:
            if self._thread is None:
                self.run.turn(0)  # workers may have left meanwhile
            self.run.grow(len(works), planned=True)
            self.run.begin_calls()
            if self._outcomes.waiting:
                self.wake()  # what this thread has collected wakes no other
        except (OSError, RuntimeError) as error:
            if self.run.state.scheduler.complete:
                self._failure = error  # the run has ended
            else:
                self._fail_next(error)
        finally:
            if not self.watch():
                # Nothing else was in flight.
                self.fed.clear()
                self._owner.ended(self)
                self.run.abandon()
                raise RuntimeError("no thread could be started to watch the call; it was ended")

    def _fail_next(self, error: BaseException) -> None:
        if not isinstance(error, OSError):
            # Python 3.12 forks no process once the interpreter is about to exit.
            why = NotStarted(f"the call could not be started: {error}")
            why.__cause__ = error
            error = why
        index = self.run.fail_next(error)
        if index is not None:
            _log.error("call %d could not be started: %s", index, show_error(error))
        self.wake()

    def _mark_running(self) -> None:
        """Calls run in the order in which they came: set the futures of those that do."""
        if not self._pooled:
            return
        for number, work in enumerate(self.fed.values()):
            if number >= self._workers:
                break
            work.future.mark_running()

    def cancel(self, work: Work) -> None:
        """End a call that it was given."""
        self._cancelled.add(work.index)
        self.run.cancel(work.index)
        self.wake()

    def retire(self) -> None:
        """No further call comes."""
        self._retired = True
        self.watch()
        self.wake()

    def watch(self) -> bool:
        """Have a thread take the turns of this run.

        Returns:
            False if no thread could be started, for example since the interpreter is exiting.
        """
        if self._thread is None:
            self._idle_since = time.monotonic()
            thread = self._thread = threading.Thread(target=self._watch, name="pcall-watcher")
            try:
                thread.start()
            except RuntimeError:
                self._thread = None
            else:
                self._owner.started(thread)
        return self._thread is not None

    def wake(self) -> None:
        """Have the thread look at once."""
        self.run.post(_nothing)

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that watches; None while none does."""
        return self._thread

    # ------------------------------------------------------------ the thread

    def _watch(self) -> None:
        try:
            while (state := self._look()) is _BUSY:
                if self._failure is not None:
                    raise self._failure
                self._step()
            if state is _OVER:
                self._finish()
        except BaseException as error:
            self._break(error)

    def _step(self) -> None:
        idle = not self.fed and not self._lingering
        # A worker may be about to begin a call that is being cancelled: look again soon.
        self.run.turn(CANCEL_LOOK_INTERVAL if self._cancelled else LINGER if idle else None)
        outcomes: list[Outcome] = []
        with self._owner.lock:
            while (outcome := self._outcomes.take()) is not None:
                outcomes.append(outcome)
        # Between the turn and here, a thread that submits may have collected some of them. Those
        # that it collects from now on are for the next step.
        if outcomes:
            self.run.deliver_logs()
        settled: list[Callable[[], None]] = []
        with self._owner.lock:
            for index in self._cancelled & self.fed.keys():
                self.run.cancel(index)
            for outcome in outcomes:
                self._take_outcome(outcome, settled)
            for pid in [pid for pid in self._lingering if not self.run.lingers(pid)]:
                settled.append(self._lingering.pop(pid).future.notify_cancelled)
            self._mark_running()
            self._owner.pump()
            if self.fed or self._lingering:
                self._idle_since = time.monotonic()
        for settle in settled:
            try:
                settle()
            except BaseException:  # of a callback; an exception is logged by the future
                _log.exception("a callback of a future raised")

    def pid(self, index: int) -> int | None:
        """The process that runs a call, or has run it; None if it has not begun."""
        found = self.run.pid(index)
        if found is not None:
            return found
        outcome = self._outcomes[index]  # the call has ended, and its future is not told yet
        return None if outcome is None else outcome.pid

    def _take_outcome(self, outcome: Outcome, settled: list[Callable[[], None]]) -> None:
        index = outcome.index
        self.run.state.forget(index)
        self._calls.forget(index)
        self._cancelled.discard(index)
        work = self.fed.pop(index)
        future = work.future
        if outcome.index != work.number:
            outcome = replace(outcome, index=work.number)
        future.outcome = outcome
        if future.cancelled() and outcome.pid is not None and self.run.lingers(outcome.pid):
            self._lingering[outcome.pid] = work
            return
        error = public_error(outcome.error)
        if error is not None:
            settled.append(lambda: self._owner.failed(error))
        if self._writer is not None:
            settled.append(partial(self._writer.write_call, outcome))
        settled.append(lambda: future.conclude(outcome, outcome.value, error))

    def _look(self) -> object:
        """What the thread has to do: go on, leave, or end the run."""
        with self._owner.lock:
            if self.fed or self._lingering or self.owed:
                return _BUSY
            if not self._retired and not self._owner.closing:
                if time.monotonic() < self._idle_since + LINGER:
                    return _BUSY
                if self._stays:
                    thread, self._thread = self._thread, None
                    # In this order: abandon() takes no lock, sets it, and then looks for a thread.
                    if not self._owner.closing:
                        return _IDLE
                    self._thread = thread
            self._owner.retire(self)
            self.run.seal()
            return _OVER

    def _finish(self) -> None:
        """Wait for processes that calls have left behind, and release everything."""
        while not self.run.over:
            self.run.turn(None)
        self.run.finish()
        with self._owner.lock:
            self._owner.ended(self)

    def _break(self, error: BaseException) -> None:
        """The run could not go on: fail its calls. The executor makes another run."""
        _log.error("a run of an executor was ended", exc_info=error)
        try:
            self.run.abandon()
        finally:
            with self._owner.lock:
                self._owner.ended(self)
                lost = [*self.fed.values(), *self._lingering.values()]
                self.fed.clear()
                self._lingering.clear()
                self._owner.pump()
            for work in lost:
                failure = BrokenProcessPool(f"the call was ended: {show_error(error)}")
                failure.__cause__ = error
                work.future.conclude(None, None, failure)

    def end_idle(self) -> None:
        """Without a thread, and without the lock: let idle workers leave, and wait for that."""
        self.run.seal()
        self._finish()

    def stop(self, number: int) -> None:
        """Send this signal to all children. Do not wait."""
        self.run.stop(number)
        self.watch()
        self.wake()


def _nothing() -> None:
    pass
