"""The records that the rooms of this library hand to each other: frozen, and plain data."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from pcall._wire.exception_codec import dump_exception, load_exception, portable

__all__ = ["Call", "Event", "Kind", "Observer", "Outcome", "name_of", "show"]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def show(value: Any) -> str:
    """The value's ``repr()``, shortened; something in its place where that fails."""
    try:
        return _short.repr(value)
    except Exception:  # a user's repr() must not hide the error that is being told
        return f"<{type(value).__name__}>"


def name_of(target: Any) -> str:
    """The qualified name of a callable, or of its class."""
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
    return str(name) if name else type(target).__qualname__


@dataclass(frozen=True, slots=True)
class Call:
    """One call: a target and its arguments.

    Attributes:
        index: its place in call order, from 0.
        target: the callable.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    index: int
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The target's qualified name."""
        return name_of(self.target)

    def __str__(self) -> str:
        """The call as one would write it, long arguments shortened."""
        shown = [show(value) for value in self.args]
        shown += [f"{name}={show(value)}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Targets and arguments came by fork, so many of them can't be pickled.
        args = tuple(portable(value) for value in self.args)
        kwargs = {name: portable(value) for name, value in self.kwargs.items()}
        return Call, (self.index, portable(self.target), args, kwargs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended.

    Attributes:
        index: the call's place in call order, from 0.
        call: the call itself.
        ok: True when it returned a value.
        value: what it returned; None when it failed.
        error: what it raised, or what became of it; None when it returned.
        pid: process id of its child; None when it never started.
        exitcode: of its child, as ``multiprocessing`` has it; None when it never started,
            or when somebody else took the status first.
        attempts: how many times it was started.
        started: when, in seconds since the epoch; None when it never was.
        duration: seconds from there to its end, or None.
        cpu_time: seconds of user and system time that its child took, or None.
        max_rss: peak resident memory of its child in bytes, or None.
        rss_growth: how many bytes of that the child grew beyond what it had of its parent
            at the fork, or None.
        log: path of its log while that exists.
    """

    index: int
    call: Call
    ok: bool
    value: Any = None
    error: BaseException | None = None
    pid: int | None = None
    exitcode: int | None = None
    attempts: int = 0
    started: float | None = None
    duration: float | None = None
    cpu_time: float | None = None
    max_rss: int | None = None
    rss_growth: int | None = None
    log: str | None = None

    def result(self) -> Any:
        """The value of the call.

        Raises:
            BaseException: what the call raised, when it failed.
        """
        if self.error is not None:
            raise self.error
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        state = [getattr(self, field.name) for field in fields(self)]
        state[3] = portable(self.value)
        state[4] = None if self.error is None else dump_exception(self.error)
        return _load_outcome, tuple(state)


def _load_outcome(*state: Any) -> Outcome:
    values = list(state)
    if values[4] is not None:
        values[4] = load_exception(values[4])
    return Outcome(*values)


Kind = Literal["planned", "started", "done", "failed", "retried", "skipped"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to some calls of one scope at one moment.

    Attributes:
        kind: ``"planned"``: they are part of the run, and wait; ``"started"``: they run;
            ``"done"``, ``"failed"``: they are over; ``"retried"``: an attempt failed, and they
            wait to be started again; ``"skipped"``: they waited, and will never start.
        scope: the function's name, or a plan's scope names.
        time: when, by the parent's ``time.monotonic()``, in seconds.
        count: how many calls; trivial ones are told of in batches. It is -1 where a call was
            told of as started that waits, after all.
        wall: seconds that these calls ran, summed; of calls that have ended.
        cpu: seconds of user and system time that they took, summed.
        max_rss: peak resident memory in bytes, the highest among them.
        outcome: of a call that failed or is retried, which has an event of its own.
    """

    kind: Kind
    scope: tuple[str, ...]
    time: float
    count: int = 1
    wall: float = 0.0
    cpu: float = 0.0
    max_rss: int = 0
    outcome: Outcome | None = None


class Observer(Protocol):
    """What is told of a run while it goes on, in the thread that waits for it."""

    def begin(self) -> None:
        """The run starts."""

    def observe(self, events: Sequence[Event]) -> None:
        """These events happened, in this order.

        Called several times a second while the run is waited for, often with no event, so
        that what shows a clock can go on showing it.
        """

    def end(self) -> None:
        """The run is over, in whatever way; also when it was interrupted."""
