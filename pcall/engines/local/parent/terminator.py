"""The kill policy: SIGTERM, a grace period, SIGKILL; for children and what they leave running."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping

from pcall._os.process_groups import group_lives, signal_group
from pcall._tuning import LEFTOVER_LOOK_INTERVAL, WAKE_INTERVAL
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["Terminator"]


class Terminator:
    """Terminates the children of a run.

    Args:
        alive: the living children by call, kept up to date by the engine.
        grace_period: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, alive: Mapping[int, ForkedProcess], grace_period: float) -> None:
        self._alive = alive
        self._grace_period = grace_period
        self._kill_at: dict[int, float] = {}
        self._wake_at = 0.0
        # Groups that outlived their leader: the times to kill them, and to check them again.
        self._leftovers: dict[int, tuple[float, float]] = {}

    @property
    def leftovers(self) -> bool:
        """True while a process lives that a child has started and that outlived the child."""
        return bool(self._leftovers)

    def was_signalled(self, index: int) -> bool:
        """True if this object has sent a signal to the call's child."""
        return index in self._kill_at

    def signal(self, index: int, number: int) -> None:
        """Send SIGTERM or SIGKILL to a child and the processes that it has started.

        Args:
            index: of the child's call.
            number: of the signal. Only the first SIGTERM is sent.
        """
        if number == signal.SIGTERM and index in self._kill_at:
            return  # a second one would interrupt the clean-up after the first
        self._alive[index].signal(number)
        grace = time.monotonic() + self._grace_period
        self._kill_at[index] = grace if number == signal.SIGTERM else math.inf

    def forgive(self, index: int) -> None:
        """Do not kill a child although it was sent a signal before."""
        self._kill_at.pop(index, None)

    def kill_leftovers(self) -> None:
        """Kill the processes that outlived their child, without waiting for the grace period."""
        self._leftovers = dict.fromkeys(self._leftovers, (0.0, 0.0))

    def ended(self, index: int, forked: ForkedProcess) -> None:
        """Note that a child has ended. Any processes that it left get the rest of the grace period.

        They have been sent SIGTERM when the child was reaped.

        Args:
            index: of the child's call.
            forked: the child.
        """
        now = time.monotonic()
        kill_at = self._kill_at.pop(index, now + self._grace_period)
        if forked.leftovers:
            self._leftovers[forked.pid] = kill_at, now

    def take_turn(self) -> None:
        """Send SIGKILL where the grace period is over; wake the other signalled children."""
        now = time.monotonic()
        wake = now >= self._wake_at
        if wake:
            self._wake_at = now + WAKE_INTERVAL
        for index, kill_at in self._kill_at.items():
            if kill_at <= now:
                self._alive[index].signal(signal.SIGKILL)
                self._kill_at[index] = math.inf
            elif wake and kill_at < math.inf:
                self._alive[index].wake()
        for group, (kill_at, check_at) in list(self._leftovers.items()):
            if kill_at <= now:
                signal_group(group, signal.SIGKILL)
                kill_at = math.inf
            elif now < check_at:
                continue
            if _group_lives(group):
                self._leftovers[group] = kill_at, now + LEFTOVER_LOOK_INTERVAL
            else:
                del self._leftovers[group]

    def pause(self) -> float:
        """Seconds until :meth:`take_turn` is due."""
        pause = math.inf
        if self._leftovers:
            pause = LEFTOVER_LOOK_INTERVAL
        if self._kill_at:
            pause = min(pause, WAKE_INTERVAL, min(self._kill_at.values()) - time.monotonic())
        return pause


def _group_lives(group: int) -> bool:
    """True while a process of this group, whose leader has been reaped, is running."""
    # The signal alone would succeed for ever if zombies are left that nobody reaps.
    lives = signal_group(group, 0) and group_lives(group)
    try:
        # If orphans become children of this process (the first one of a container), reap them.
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return lives
