"""The base class of displays: decides when to draw, and shows several runs as one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from pcall._core.records import Event
from pcall.progress.progress_state import State

__all__ = ["Display"]

# A display may take 1 / _SHARE of the time of the thread that waits for the run.
_SHARE = 20
# But a failure must appear within a second: it waits _SOON seconds for the next drawing, or up to
# _LONGEST seconds if drawing takes long.
_SOON = 0.5
_LONGEST = 0.8


class Display:
    """An observer that draws the state of a run from time to time.

    One display can serve several runs. Runs that overlap, in threads for example, are shown
    together; a run that starts after these is shown by itself.
    """

    # Seconds between two drawings. A failure is drawn earlier.
    _interval = 0.25
    # The number of failures to keep individually.
    _keep = 0

    def __init__(self) -> None:
        self._runs = 0
        self._owner = 0
        self._lock = threading.RLock()
        self._state = State(0.0)
        self._drawn = self._pause = 0.0
        self._counted = 0

    def begin(self) -> None:
        """Note that the run starts."""
        if self._runs and self._owner != os.getpid():
            return  # in a child that has inherited this object and runs calls: the parent draws
        if not self._runs:
            self._owner = os.getpid()
            self._lock = threading.RLock()
        with self._lock:
            if not self._runs:
                self._state = State(time.monotonic(), self._keep)
                self._drawn = self._pause = 0.0
                self._counted = 0
                self._open()
            self._runs += 1

    def observe(self, events: Sequence[Event]) -> None:
        """Take in events, and draw if it is time to."""
        if not self._runs or self._owner != os.getpid():
            return
        with self._lock:
            self._state.add(events)
            self._take(events)
            now = time.monotonic()
            pause = max(self._interval, self._pause)
            if self._state.failures.count > self._counted:
                pause = min(pause, max(_SOON, self._pause))
            if now >= self._drawn + pause:
                self._counted = self._state.failures.count
                self._draw(now)
                self._drawn = time.monotonic()
                self._pause = min((self._drawn - now) * _SHARE, _LONGEST)

    def end(self) -> None:
        """Note that the run is over."""
        if not self._runs or self._owner != os.getpid():
            return
        with self._lock:
            self._runs -= 1
            if not self._runs:
                now = time.monotonic()
                self._state.end(now)
                self._close(now)

    def _open(self) -> None:
        """Start the display: the first run starts.

        An override that sets ``_drawn`` to the current time skips the first drawing.
        """

    def _take(self, events: Sequence[Event]) -> None:
        """Take in further events, which the state has already."""

    def _draw(self, now: float) -> None:
        """Draw the state at this time."""
        raise NotImplementedError

    def _close(self, now: float) -> None:
        """Finish the display: the last run is over, and the state has been ended."""
        raise NotImplementedError
