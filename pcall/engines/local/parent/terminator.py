"""The kill policy: SIGTERM, a grace period, SIGKILL; to children and to what they leave behind."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping

from pcall._os.process_groups import group_lives, signal_group
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["Terminator"]

# Seconds between two wakes of a child that was sent SIGTERM.
_WAKE_EVERY = 0.1
# Seconds between two looks at what outlived its leader: no descriptor tells of its end.
_LOOK_EVERY = 0.02


class Terminator:
    """Ends the children of a run.

    Args:
        alive: the children that are alive, by call; kept up to date by the supervisor.
        grace_period: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, alive: Mapping[int, ForkedProcess], grace_period: float) -> None:
        self._alive = alive
        self._grace_period = grace_period
        self._kill_at: dict[int, float] = {}
        self._wake_at = 0.0
        # Groups that outlived their leader, when they are killed, and when looked at.
        self._leftovers: dict[int, tuple[float, float]] = {}

    @property
    def leftovers(self) -> bool:
        """True while something is there that a child started and that outlived it."""
        return bool(self._leftovers)

    def was_signalled(self, index: int) -> bool:
        """True when this call's child was sent a signal from here."""
        return index in self._kill_at

    def signal(self, index: int, number: int) -> None:
        """SIGTERM or SIGKILL to a child and to what it has started."""
        if number == signal.SIGTERM and index in self._kill_at:
            return  # once: a second one would break into what the first made it clean up
        self._alive[index].signal(number)
        grace = time.monotonic() + self._grace_period
        self._kill_at[index] = grace if number == signal.SIGTERM else math.inf

    def forgive(self, index: int) -> None:
        """What was signalled before is not to be killed for it."""
        self._kill_at.pop(index, None)

    def kill_leftovers(self) -> None:
        """Let nothing that outlived its child have any more time."""
        self._leftovers = dict.fromkeys(self._leftovers, (0.0, 0.0))

    def ended(self, index: int, forked: ForkedProcess) -> None:
        """A child is over; what it left has been sent SIGTERM and has the grace period."""
        now = time.monotonic()
        kill_at = self._kill_at.pop(index, now + self._grace_period)
        if forked.leftovers:
            self._leftovers[forked.pid] = kill_at, now

    def take_turn(self) -> None:
        """SIGKILL to what has outlived its grace period; a wake to what has not yet."""
        now = time.monotonic()
        wake = now >= self._wake_at
        if wake:
            self._wake_at = now + _WAKE_EVERY
        for index, kill_at in self._kill_at.items():
            if kill_at <= now:
                self._alive[index].signal(signal.SIGKILL)
                self._kill_at[index] = math.inf
            elif wake and kill_at < math.inf:
                self._alive[index].wake()
        for group, (kill_at, look_at) in list(self._leftovers.items()):
            if kill_at <= now:
                signal_group(group, signal.SIGKILL)
                kill_at = math.inf
            elif now < look_at:
                continue
            if _group_lives(group):
                self._leftovers[group] = kill_at, now + _LOOK_EVERY
            else:
                del self._leftovers[group]

    def pause(self) -> float:
        """Seconds until :meth:`take_turn` is due."""
        pause = math.inf
        if self._leftovers:
            pause = _LOOK_EVERY
        if self._kill_at:
            pause = min(pause, _WAKE_EVERY, min(self._kill_at.values()) - time.monotonic())
        return pause


def _group_lives(group: int) -> bool:
    """True while something of a group, whose leader we have reaped, is running."""
    # Zombies that nobody reaps would answer a signal for ever.
    lives = signal_group(group, 0) and group_lives(group)
    try:
        # Where orphans become ours (the first process of a container), they wait for us.
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return lives
