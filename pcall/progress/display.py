"""What the displays have in common: when to draw, and several runs shown as one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from pcall._core.records import Event
from pcall.progress.progress_state import State

__all__ = ["Display"]

# A display may take one part in so many of the time of the thread that waits for the run.
_SHARE = 20
# But a failure is to be seen within a second: it waits so many seconds for the next drawing, or
# where drawing takes long so many.
_SOON = 0.5
_LONGEST = 0.8


class Display:
    """An observer that draws the state of a run, now and then.

    One display can serve several runs. Those that overlap, in threads for example, are shown
    together; after that it starts anew.
    """

    # Seconds between two drawings. A failure does not wait for it.
    _interval = 0.25
    # How many failures to keep singly.
    _keep = 0

    def __init__(self) -> None:
        self._runs = 0
        self._owner = 0
        self._lock = threading.RLock()
        self._state = State(0.0)
        self._drawn = self._pause = 0.0
        self._counted = 0

    def begin(self) -> None:
        """The run starts."""
        if self._runs and self._owner != os.getpid():
            return  # inherited by a child that makes calls of its own: its parent draws
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
        """These events happened."""
        if not self._runs or self._owner != os.getpid():
            return
        with self._lock:
            self._state.add(events)
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
        """The run is over."""
        if not self._runs or self._owner != os.getpid():
            return
        with self._lock:
            self._runs -= 1
            if not self._runs:
                now = time.monotonic()
                self._state.end(now)
                self._close(now)

    def _open(self) -> None:
        """The first run starts. What sets ``_drawn`` to now does without a first drawing."""

    def _draw(self, now: float) -> None:
        raise NotImplementedError

    def _close(self, now: float) -> None:
        """The last run is over; the state has been ended."""
        raise NotImplementedError
