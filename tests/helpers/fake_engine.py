"""An engine in memory, driven by a script: runs are tested on it without a process or a clock."""

from __future__ import annotations

import math
import random
import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pcall import ChildDied, Outcome, PcallTimeout
from pcall._core.calls import Calls
from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.run_state import RunState
from pcall._core.scheduler import Scheduler
from pcall._run import Run

__all__ = ["Attempt", "Clock", "FakeEngine", "fake_run"]


class Clock:
    """A time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Attempt:
    """What one attempt of a call does.

    Attributes:
        seconds: how long it runs; infinite: until it is ended.
        value: what it returns.
        error: what it raises instead.
        dies: True when its process dies without an answer.
        grace: seconds for which it goes on after SIGTERM; infinite: until SIGKILL.
    """

    seconds: float = 1.0
    value: Any = None
    error: BaseException | None = None
    dies: bool = False
    grace: float = 0.0


@dataclass
class _Running:
    index: int
    attempt: Attempt
    began: float
    ends: float
    overdue: bool = False
    kill_at: float = math.inf
    signal: int = 0


class FakeEngine:
    """Runs calls as a script says.

    Args:
        state: of the run.
        clock: its time.
        script: by call, its attempts; where there are none left, and for other calls: one second,
            and its index as value.
        capacity: how many calls there is room for at once; None: for all.

    Attributes:
        log: everything that happened, as (time, what, call).
    """

    synchronous = False

    def __init__(
        self,
        state: RunState,
        clock: Clock,
        script: dict[int, Sequence[Attempt]] | None = None,
        capacity: int | None = None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._script = {index: list(attempts) for index, attempts in (script or {}).items()}
        self.capacity = capacity
        self.is_open = False
        self._running: dict[int, _Running] = {}
        self.log: list[tuple[float, str, int]] = []
        self.most_at_once = 0

    # ------------------------------------------------------------ the protocol of engines

    @property
    def busy(self) -> bool:
        return bool(self._running)

    @property
    def children(self) -> tuple[Any, ...]:
        return tuple(range(len(self._state.calls)))

    @property
    def living(self) -> tuple[Any, ...]:
        return tuple(self._running)

    def open(self) -> None:
        self.is_open = True

    def start(self) -> None:
        if not self.is_open:
            return
        scheduler, now = self._state.scheduler, self._clock()
        room = len(self._state.calls) if self.capacity is None else self.capacity
        for index in scheduler.next_starts(max(0, room - len(self._running)), now):
            self._start(index)

    def _start(self, index: int) -> None:
        attempts = self._script.get(index)
        attempt = attempts.pop(0) if attempts else Attempt(value=index)
        now = self._clock()
        self._running[index] = _Running(index, attempt, now, now + attempt.seconds)
        self.most_at_once = max(self.most_at_once, len(self._running))
        self.log.append((now, "start", index))
        self._state.started(index, now)

    def poll(self, timeout: float) -> list[int]:
        now = self._clock()
        ends = [min(each.ends, each.kill_at) for each in self._running.values()]
        # A timeout may be too short to be seen beside the time.
        until = max(now + timeout, math.nextafter(now, math.inf)) if timeout else now
        due = min([*ends, until])
        assert due < math.inf, "nothing will ever happen"
        self._clock.now = max(now, due)
        return [each.index for each in self._running.values() if each.ends <= self._clock()]

    def wake(self) -> None:
        """Nothing waits for long."""

    def collect(self, ready: Iterable[int]) -> None:
        for running in list(self._running.values()):
            if running.kill_at <= self._clock():
                running.ends, running.signal = self._clock(), signals.SIGKILL
                running.kill_at = math.inf
            if running.ends <= self._clock():
                self._end(running)

    def _end(self, running: _Running) -> None:
        state, index, attempt = self._state, running.index, running.attempt
        error = attempt.error
        if running.signal or attempt.dies:
            state.child_died(index)
            error = ChildDied(-(running.signal or signals.SIGSEGV))
        if running.overdue:
            cause, error = error, PcallTimeout("overdue", state.timeout)
            error.__cause__ = cause
        del self._running[index]
        self.log.append((self._clock(), "end", index))
        state.conclude(
            Outcome(
                index=index,
                call=state.calls[index],
                ok=error is None,
                value=None if error else attempt.value,
                error=error,
                pid=1000 + index,
                attempts=state.scheduler.attempt(index),
                started=running.began,
                duration=self._clock() - running.began,
            )
        )

    def refresh(self) -> None:
        pass

    def pid(self, index: int) -> int | None:
        return 1000 + index if index in self._running else None

    def cancel(self, index: int) -> None:
        self._running[index].overdue = index in self._state.overdue
        self._signal(index, signals.SIGTERM)

    def withdraw(self, index: int) -> None:
        self.cancel(index)

    def lingers(self, pid: int) -> bool:
        return False

    def cancel_all(self) -> None:
        for index in list(self._running):
            self.cancel(index)

    def stop(self, signal: int) -> None:
        for index in list(self._running):
            self._state.ended_by_us.add(index)
            self._signal(index, signal)

    def _signal(self, index: int, signal: int) -> None:
        running, now = self._running[index], self._clock()
        self.log.append((now, signals.Signals(signal).name, index))
        if signal == signals.SIGKILL:
            running.ends, running.signal = now, signal
        elif not running.signal:
            running.signal = signal
            running.ends = min(running.ends, now + running.attempt.grace)
            running.kill_at = now + self._state.options.grace_period

    def pause(self) -> float:
        return math.inf

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self.is_open = False


def fake_run(
    calls: Calls,
    script: dict[int, Sequence[Attempt]] | None = None,
    *,
    timeout: float | None = None,
    capacity: int | None = None,
    growing: bool = False,
    scheduler: Scheduler | None = None,
    seed: int = 0,
    **policy: Any,
) -> tuple[Run, FakeEngine]:
    """A run on a fake engine.

    Args:
        calls: the calls; they are not called.
        script: of the engine.
        timeout: seconds that each call may take.
        capacity: of the engine.
        growing: True when further calls come.
        scheduler: another one than for independent calls.
        seed: of the jitter of retries.
        **policy: see ``Pcall.options``.
    """
    clock = Clock()
    options = Options(**policy)
    scheduler = scheduler or Scheduler(
        len(calls),
        max_workers=options.max_workers,
        max_errors=options.max_errors,
        timeout=timeout,
        retry=options.rule,
        fail_fast=options.fail_fast,
        growing=growing,
    )
    chance = random.Random(seed).random
    choice = options.progress_choice
    observers = Observers(choice if isinstance(choice, tuple) else (), clock)
    outcomes = OutcomeStore(calls)
    state = RunState(calls, options, timeout, scheduler, outcomes, observers, clock, chance)
    engine = FakeEngine(state, clock, script, capacity)
    return Run(state, engine, clock), engine
