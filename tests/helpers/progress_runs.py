"""Events of runs that tests make up, and their outcomes with real exceptions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pcall._core.observers import Observers
from pcall._core.records import Call, Event, Observer, Outcome

PROBE = ("probe",)


def probe(number: int) -> float:
    """Fails in a way that the number tells."""
    if number % 3 == 0:
        return number / 0
    if number % 3 == 1:
        raise ValueError(f"no answer from host-{number}")
    raise ConnectionError("refused")


def outcome_of(
    error: BaseException | int, index: int = 0, attempts: int = 1, args: tuple[object, ...] = ()
) -> Outcome:
    """The outcome of a call that failed so, or of ``probe(error)``."""
    if isinstance(error, int):
        args = (error,)
        try:
            probe(error)
        except Exception as failure:
            error = failure
    assert isinstance(error, BaseException)
    call = Call(index, probe, args, {})
    return Outcome(index, call, False, None, error, 4000 + index, 1, attempts, 0.0, 0.25)


def failed(
    error: BaseException | int,
    kind: Literal["failed", "retried"] = "failed",
    scope: tuple[str, ...] = PROBE,
    **more: Any,
) -> Event:
    """The event of such a call."""
    return Event(kind, scope, time.monotonic(), 1, 0.25, 0.01, 2_000_000, outcome_of(error, **more))


def small_run(failures: Sequence[BaseException | int] = (), total: int = 10) -> Iterator[Event]:
    """A run in which these calls fail and the others do not, from start to end."""
    yield Event("planned", PROBE, time.monotonic(), total)
    for error in failures:
        yield Event("started", PROBE, time.monotonic())
        yield failed(error)
    count = total - len(failures)
    if count:
        yield Event("started", PROBE, time.monotonic())
        yield Event("started", PROBE, time.monotonic(), count - 1)
        yield Event("done", PROBE, time.monotonic(), count, count * 0.5, count * 0.1, 3_000_000)


def show(observer: Observer, events: Iterable[Event]) -> None:
    """Tell an observer a whole run at once."""
    observer.begin()
    observer.observe(list(events))
    observer.end()


def live_run(
    observer: Observer,
    seconds: float,
    total: int = 1000,
    fail_every: int = 6,
    workers: int = 32,
    hold: str | None = None,
) -> None:
    """A run that takes this long, with calls that fail evenly over the time.

    When half of the calls are over it waits until the file ``hold`` is there.
    """
    observers = Observers([observer])
    observers.begin()
    observers.add(Event("planned", PROBE, time.monotonic(), total))
    observers.add(Event("started", PROBE, time.monotonic(), min(workers, total)))
    begun, over, left = time.monotonic(), 0, max(0, total - workers)
    try:
        while over < total:
            time.sleep(0.02)
            if hold and over >= total // 2:
                while not Path(hold).exists():
                    observers.turn()
                    time.sleep(0.02)
                hold, begun = None, time.monotonic() - seconds / 2
            due = min(total, int(total * (time.monotonic() - begun) / seconds))
            due = min(due, total // 2) if hold else due
            for number in range(over, due):
                now = time.monotonic()
                if fail_every and number % fail_every == 0:
                    observers.add(failed(number // fail_every, index=number))
                else:
                    observers.add(Event("done", PROBE, now, 1, 0.38, 0.004, 30_500_000))
                if left:
                    observers.add(Event("started", PROBE, now))
                    left -= 1
            over = max(over, due)
            observers.turn()
    finally:
        observers.end()
