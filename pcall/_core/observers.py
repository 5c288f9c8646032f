"""From the run to its observers: which there are, and events passed on a few times a second.

An observer is code that has nothing to do with the calls. One that fails is reported once, by the
logger ``pcall``, and told no more; the run goes on as if it had never been there.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pcall._core.records import Event, Observer

__all__ = ["Choice", "Observers", "check_progress", "observers_of"]

_log = logging.getLogger("pcall")

# Seconds between two times that observers are told something.
_INTERVAL = 0.1

# The option ``progress``, checked: whether to choose, or what was chosen; None: as the
# environment says.
Choice = bool | tuple[Observer, ...] | None

_EXPECTED = (
    "True, False, None, an observer (ConsoleProgress(), HtmlProgress(path), NotebookProgress(), "
    "LogProgress() of pcall.progress, or an object with the methods begin, observe and end), or "
    "several of those"
)


def check_progress(value: Any) -> Choice:
    """The value of the option ``progress``: a flag, None, or the observers as a tuple.

    Raises:
        TypeError: it is none of these; the text names what was expected.
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


def observers_of(choice: Choice) -> Observers:
    """The observers of a run that is being built.

    Args:
        choice: of :func:`check_progress`. None: what the environment variable
            ``PCALL_PROGRESS`` says, save in a child, whose calls are part of its parent's.

    Raises:
        ValueError: the environment variable says something else than it can.
    """
    names = ""
    if choice is None and multiprocessing.parent_process() is None:
        names = os.environ.get("PCALL_PROGRESS", "")
    if not names and choice is not True:
        return Observers(choice or ())
    # For runs that are shown alone: its modules are a tenth of what importing pcall takes.
    from pcall.progress.choosing import automatic, named

    return Observers((automatic(),) if choice is True else named(names))


class Observers:
    """The observers of one run.

    Args:
        observers: what is to be told of it.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)
        self._begun: list[Observer] = []
        self._events: list[Event] = []
        self._due = math.inf

    def __bool__(self) -> bool:
        """True while there is anybody to tell, so that events are worth making."""
        return bool(self._observers)

    def begin(self) -> None:
        """The run starts."""
        for observer in list(self._observers):
            # First: of one whose beginning was interrupted the end is still told.
            self._begun.append(observer)
            self._tell(observer, observer.begin)
        self._due = time.monotonic()

    def add(self, event: Event) -> None:
        """This happened. It is passed on at the next :meth:`turn` that is due."""
        if self._observers:
            self._events.append(event)

    def turn(self) -> None:
        """Pass on what was gathered, when it is time to; to be called in every turn of a run."""
        if time.monotonic() >= self._due:
            self._pass_on()

    def pause(self) -> float:
        """Seconds until :meth:`turn` has something to do; infinite when nobody is to be told."""
        return max(0.0, self._due - time.monotonic()) if self._observers else math.inf

    def end(self) -> None:
        """The run is over. Harmless when called again, and before :meth:`begin`."""
        try:
            if self._begun:
                self._pass_on()
        finally:
            self._due = math.inf
            self._tell_the_end()

    def _tell_the_end(self) -> None:
        while self._begun:
            observer = self._begun.pop(0)
            # One that failed is told, too: it may have a terminal to tidy up.
            quiet = not self._listens(observer)
            try:
                self._tell(observer, observer.end, quiet=quiet)
            except BaseException:
                self._tell_the_end()  # what interrupts one keeps it from no other
                raise

    def _pass_on(self) -> None:
        # Taken before anything is told: an interrupted observer is not told them again.
        events, self._events = self._events, []
        for observer in filter(self._listens, list(self._begun)):
            self._tell(observer, partial(observer.observe, events))
        # From now, and not from when it was due: a slow observer must not get all the time.
        self._due = time.monotonic() + _INTERVAL

    def _listens(self, observer: Observer) -> bool:
        return any(each is observer for each in self._observers)  # whatever it is equal to

    def _tell(self, observer: Observer, what: Callable[[], None], quiet: bool = False) -> None:
        try:
            what()
        except Exception:  # what interrupts the run (Ctrl-C, an exit) goes on
            self._observers = [other for other in self._observers if other is not observer]
            if not quiet:
                _log.warning(
                    "the progress observer %s failed and is told no more of this run",
                    type(observer).__name__,
                    exc_info=True,
                )
