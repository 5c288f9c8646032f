"""From the run to its observers: gathers events and passes them on, a few times a second.

An observer is code that has nothing to do with the calls. One that fails is reported once, by the
logger ``pcall``, and told no more; the run goes on as if it had never been there.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from functools import partial

from pcall._records import Event, Observer

__all__ = ["Observers"]

_log = logging.getLogger("pcall")

# Seconds between two times that observers are told something.
_INTERVAL = 0.1


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
        if self._begun:
            self._pass_on()
        self._due = math.inf
        while self._begun:
            observer = self._begun.pop(0)
            # One that failed is told the end, too: it may have a terminal to tidy up.
            quiet = observer not in self._observers
            self._tell(observer, observer.end, quiet=quiet)

    def _pass_on(self) -> None:
        # Taken before anything is told: an interrupted observer is not told them again.
        events, self._events = self._events, []
        for observer in list(self._observers):
            self._tell(observer, partial(observer.observe, events))
        # From now, and not from when it was due: a slow observer must not get all the time.
        self._due = time.monotonic() + _INTERVAL

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
