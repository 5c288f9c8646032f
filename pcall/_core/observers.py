"""Passes the events of a run to its observers, a few times a second.

An observer is code that has nothing to do with the calls. If it fails, that is logged once, by
the logger ``pcall``; the run goes on without it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pcall._core.records import Event, Observer
from pcall._tuning import OBSERVER_INTERVAL

__all__ = ["Choice", "Observers", "check_progress"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")


# The option ``progress``, checked. True: choose a display. False: none. None: the environment
# decides.
Choice = bool | tuple[Observer, ...] | None

_EXPECTED = (
    "True, False, None, an observer (ConsoleProgress(), HtmlProgress(path), "
    "TimelineProgress(path), NotebookProgress(), LogProgress() of pcall.progress, or an object "
    "with the methods begin, observe and end), or several of those"
)


def check_progress(value: Any) -> Choice:
    """Check the option ``progress``.

    Args:
        value: True, False, None, an observer, or an iterable of observers.

    Returns:
        The flag or None, or the observers as a tuple.

    Raises:
        TypeError: it is none of these; the text says what was expected.
    """
    if value is None or isinstance(value, bool):
        return value
    if _is_observer(value):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping | type):
        raise TypeError(f"progress must be {_EXPECTED}; not {_shown(value)}")
    observers = tuple(value)
    for position, observer in enumerate(observers):
        if not _is_observer(observer):
            raise TypeError(f"progress must be {_EXPECTED}; item {position} is {_shown(observer)}")
    return observers


def _is_observer(value: Any) -> bool:
    methods = (getattr(value, name, None) for name in ("begin", "observe", "end"))
    return not isinstance(value, type) and all(map(callable, methods))


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (it takes an instance, {value.__name__}(...))"
    return f"{value!r}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"


class Observers:
    """The observers of one run.

    Args:
        observers: the observers.
        clock: returns the time, in seconds.
    """

    def __init__(
        self, observers: Iterable[Observer] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._observers = list(observers)
        self._clock = clock
        self._begun: list[Observer] = []
        self._events: list[Event] = []
        self._due = math.inf

    def __bool__(self) -> bool:
        """True while there are observers, so that events are worth making."""
        return bool(self._observers)

    @property
    def want_spans(self) -> bool:
        """True if one of them wants to know when and where each call ran."""
        return any(getattr(observer, "wants_spans", False) for observer in self._observers)

    def begin(self) -> None:
        """The run starts."""
        for observer in list(self._observers):
            # Before begin(): if that is interrupted, end() is called all the same.
            self._begun.append(observer)
            self._notify(observer, observer.begin)
        self._due = self._clock()

    def add(self, event: Event) -> None:
        """Queue an event. The next :meth:`turn` that is due passes it on."""
        if self._observers:
            self._events.append(event)

    def turn(self) -> None:
        """Pass queued events on if it is time to. A run calls this in each turn of its loop."""
        if self._clock() >= self._due:
            self._pass_on()

    def pause(self) -> float:
        """Seconds until :meth:`turn` has something to do; infinite without observers."""
        return max(0.0, self._due - self._clock()) if self._observers else math.inf

    def end(self) -> None:
        """The run has ended. Calling this again, or before :meth:`begin`, does nothing."""
        try:
            if self._begun:
                self._pass_on()
        finally:
            self._due = math.inf
            self._notify_end()

    def _notify_end(self) -> None:
        while self._begun:
            observer = self._begun.pop(0)
            # Also one that failed: it may have to restore a terminal.
            quiet = not self._is_active(observer)
            try:
                self._notify(observer, observer.end, quiet=quiet)
            except BaseException:
                self._notify_end()  # an interrupt in one must not keep the others from ending
                raise

    def _pass_on(self) -> None:
        # Taken before any observer runs: one that is interrupted does not get them again.
        events, self._events = self._events, []
        for observer in filter(self._is_active, list(self._begun)):
            self._notify(observer, partial(observer.observe, events))
        # Count from now, not from when it was due: a slow observer must not take all the time.
        self._due = self._clock() + OBSERVER_INTERVAL

    def _is_active(self, observer: Observer) -> bool:
        return any(each is observer for each in self._observers)  # by identity, not by __eq__

    def _notify(self, observer: Observer, method: Callable[[], None], quiet: bool = False) -> None:
        try:
            method()
        except Exception:  # a BaseException (Ctrl-C, SystemExit) interrupts the run
            self._observers = [other for other in self._observers if other is not observer]
            if not quiet:
                _log.warning(
                    "the progress observer %s failed and is told no more of this run",
                    type(observer).__name__,
                    exc_info=True,
                )
