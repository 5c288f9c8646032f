"""The frozen records that the packages of this library exchange: calls, outcomes, events."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from pcall._types import T_co
from pcall._wire.exception_codec import dump_exception, load_exception, portable

if TYPE_CHECKING:
    from pcall._core.spans import Span
    from pcall._profiles.run_profile import Profile

__all__ = ["Call", "CurrentCall", "Event", "Kind", "Observer", "Outcome", "name_of", "show"]

__tracebackhide__ = True  # pytest shows the frames of its user

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def show(value: Any) -> str:
    """The shortened ``repr()`` of a value; its type if ``repr()`` fails."""
    try:
        return _short.repr(value)
    except Exception:  # a user's repr() must not hide the error that is being reported
        return f"<{type(value).__name__}>"


def name_of(target: Any) -> str:
    """The qualified name of a callable; that of its class if it has none."""
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
    return str(name) if name else type(target).__qualname__


@dataclass(frozen=True, slots=True)
class Call:
    """One call: a target and its arguments.

    Attributes:
        index: its position in call order, from 0.
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
        """The call as source text, with long arguments shortened."""
        shown = [show(value) for value in self.args]
        shown += [f"{name}={show(value)}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The child inherited targets and arguments, so many of them can't be pickled.
        args = tuple(portable(value) for value in self.args)
        kwargs = {name: portable(value) for name, value in self.kwargs.items()}
        return Call, (self.index, portable(self.target), args, kwargs)


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """What a call can know about itself while it runs.

    Attributes:
        index: its position in call order, from 0.
        attempt: the number of this attempt, from 1.
        name: the target's qualified name.
        seed: an int of 128 bits for random generators of its own. No other call of the run has it,
            and no other attempt of this one. A parent that is seeded again gives it again.
    """

    index: int
    attempt: int
    name: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T_co]):
    """How one call ended. ``T_co`` is the type of its value.

    Attributes:
        index: the position of the call in call order, from 0.
        call: the call itself.
        ok: True if the call returned.
        value: the returned value; None if the call failed.
        error: the exception that the call raised, or one that says how it ended otherwise
            (``ChildDied``, ``PcallTimeout``, ``NotStarted``, ...); None if it returned. A note of
            it names the call.
        pid: the process id of its child; None if it never started.
        exitcode: the exit code of its child, as in ``multiprocessing``; None if the call never
            started, or if another wait took the exit status first.
        attempts: how many times the call was started.
        started: when it was started, in seconds since the epoch; None if it never was.
        duration: seconds from its start to its end, or None.
        cpu_time: seconds of user and system time that its child used, or None.
        max_rss: the peak resident memory of its child, in bytes, or None.
        rss_growth: the part of ``max_rss`` that the child added to the memory it shared with its
            parent at the fork, in bytes, or None.
        log: the path of its log file while that exists.
        stdout: the text that the call and its programs have written to stdout, if that was
            captured (option ``capture_output``), or None. Of several attempts, the last one's.
        stderr: likewise.
        worker: the name of the worker that ran it, on a cluster; None on one machine.
        profile: the profile of the call, over all its attempts, if one was taken (option
            ``profile``), or None.
    """

    index: int
    call: Call
    ok: bool
    # Not "or None": whoever looks at "ok" first needs no second question.
    value: T_co | Any = None
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
    stdout: str | None = None
    stderr: str | None = None
    worker: str | None = None
    profile: Profile | None = None

    def result(self) -> T_co:
        """Return the value of the call, or raise its exception.

        Raises:
            BaseException: the exception of the call, if it failed.
        """
        if self.error is not None:
            raise self.error
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        state["value"] = portable(self.value)
        state["error"] = None if self.error is None else dump_exception(self.error)
        return _load_outcome, (state,)


def _load_outcome(state: dict[str, Any]) -> Outcome[Any]:
    error = state["error"]
    return Outcome(**{**state, "error": None if error is None else load_exception(error)})


Kind = Literal["planned", "started", "done", "failed", "retried", "skipped"]


@dataclass(frozen=True, slots=True)
class Event:
    """A change of state of one or more calls of one scope, at one moment.

    Attributes:
        kind: ``"planned"``: they are part of the run, and wait; ``"started"``: they run;
            ``"done"``, ``"failed"``: they have ended; ``"retried"``: an attempt failed, and they
            wait for the next one; ``"skipped"``: they waited, and will never start.
        scope: the name of the function, or the scope names of a plan.
        time: when, in seconds, by the parent's ``time.monotonic()``.
        count: the number of calls; trivial calls are reported in batches. -1 takes back a
            ``"started"`` event: the call waits again.
        wall: the total time that the calls ran, in seconds; 0 for kinds that end no attempt.
        cpu: the total user and system time that they used, in seconds; likewise.
        max_rss: the highest peak resident memory among them, in bytes; likewise.
        outcome: the outcome of a call that failed or is retried. Each such call has an event of
            its own. Otherwise None.
        settled: True for a call that was marked as done or failed from outside: it ends without
            having started.
        spans: for each of the calls that began or ended when and where it ran, as far as that is
            known; empty for a run none of whose observers has a true ``wants_spans``.
    """

    kind: Kind
    scope: tuple[str, ...]
    time: float
    count: int = 1
    wall: float = 0.0
    cpu: float = 0.0
    max_rss: int = 0
    outcome: Outcome | None = None
    settled: bool = False
    spans: Sequence[Span] = ()


class Observer(Protocol):
    """Gets the events of a run while it goes on, in the thread that waits for the run.

    One with an attribute ``wants_spans`` that is true gets events with :attr:`Event.spans`.
    """

    def begin(self) -> None:
        """The run starts."""

    def observe(self, events: Sequence[Event]) -> None:
        """Process events, given in the order in which they happened.

        Called several times a second while the run is waited for, often without any event, so
        that a display can update its clock.
        """

    def end(self) -> None:
        """The run has ended; also called if it was interrupted."""
