"""The kill policy: SIGTERM, a grace period, SIGKILL; for children and what they leave running."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pcall._os.process_groups import group_lives, group_members, signal_group
from pcall._tuning import LEFTOVER_LOOK_INTERVAL, WAKE_INTERVAL
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["Terminator"]

_log = logging.getLogger("pcall")


@dataclass(slots=True)
class _Leftover:
    """A process group that outlived its leader.

    Attributes:
        name: of the child that has left it.
        number: the signal that it gets next.
        due: when it gets that signal, on the monotonic clock.
        check_at: when to check it again.
    """

    name: str
    number: int
    due: float
    check_at: float


class Terminator:
    """Terminates the children of a run.

    Args:
        alive: the living children by key, kept up to date by the engine.
        grace_period: seconds from SIGTERM to SIGKILL, and from the end of a call to SIGTERM.
        describe: gives the name of a child for messages, by its key.
    """

    def __init__(
        self,
        alive: Mapping[int, ForkedProcess],
        grace_period: float,
        describe: Callable[[int], str],
    ) -> None:
        self._alive = alive
        self._grace_period = grace_period
        self._describe = describe
        self._kill_at: dict[int, float] = {}
        self._end_at: dict[int, float] = {}  # children that should end by themselves
        self._wake_at = 0.0
        self._leftovers: dict[int, _Leftover] = {}  # by group

    @property
    def leftovers(self) -> Collection[int]:
        """The groups of processes that children have started and that outlived these."""
        return self._leftovers

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

    def expect_end(self, index: int) -> None:
        """A child has nothing more to do: end it if it is alive a grace period from now.

        Args:
            index: of the child.
        """
        if index not in self._end_at:
            self._end_at[index] = time.monotonic() + self._grace_period

    def end_leftovers(self, number: int) -> None:
        """Signal the processes that outlived their child now, and no later.

        Args:
            number: SIGTERM or SIGKILL.
        """
        for leftover in self._leftovers.values():
            if number == signal.SIGKILL:
                leftover.number, leftover.due = number, 0.0
            elif leftover.number == signal.SIGTERM:
                leftover.due = 0.0

    def ended(self, index: int, forked: ForkedProcess) -> None:
        """Note that a child has ended. Any processes that it left get the rest of its time.

        Where the child has ended by itself, they have the grace period to do the same. Otherwise
        they have been sent SIGTERM when the child was reaped.

        Args:
            index: of the child's call.
            forked: the child.
        """
        now = time.monotonic()
        end_at = self._end_at.pop(index, now + self._grace_period)
        kill_at = self._kill_at.pop(index, None)
        if not forked.leftovers:
            return
        name = self._describe(index)
        if kill_at is None and forked.ended_by_itself:
            leftover = _Leftover(name, signal.SIGTERM, end_at, now)
        else:
            if forked.ended_by_itself:
                signal_group(forked.pid, signal.SIGTERM)  # not with the child: it was too late
            due = now + self._grace_period if kill_at is None else kill_at
            leftover = _Leftover(name, signal.SIGKILL, due, now)
        self._leftovers[forked.pid] = leftover

    def take_turn(self) -> list[int]:
        """Send the signals that are due; wake the other signalled children.

        Returns:
            The groups of :attr:`leftovers` that have ended.
        """
        now = time.monotonic()
        self._end_those_that_stay(now)
        wake = now >= self._wake_at
        if wake:
            self._wake_at = now + WAKE_INTERVAL
        for index, kill_at in self._kill_at.items():
            if kill_at <= now:
                self._alive[index].signal(signal.SIGKILL)
                self._kill_at[index] = math.inf
            elif wake and kill_at < math.inf:
                self._alive[index].wake()
        ended = []
        for group, leftover in list(self._leftovers.items()):
            if leftover.due <= now:
                self._signal_leftover(group, leftover)
            elif now < leftover.check_at:
                continue
            leftover.check_at = now + LEFTOVER_LOOK_INTERVAL
            if not _group_lives(group):
                del self._leftovers[group]
                ended.append(group)
        return ended

    def _end_those_that_stay(self, now: float) -> None:
        """SIGTERM to the children that should have ended by themselves."""
        for index, end_at in list(self._end_at.items()):
            if end_at > now:
                continue
            self._end_at[index] = math.inf
            if index in self._kill_at:
                continue
            self.signal(index, signal.SIGTERM)
            _log.warning(
                "%s, is over, but its process %d did not end within the grace period of %g s: "
                "a thread that is not a daemon, or an exit handler, keeps it alive. It is ended",
                self._describe(index),
                self._alive[index].pid,
                self._grace_period,
            )

    def _signal_leftover(self, group: int, leftover: _Leftover) -> None:
        if leftover.number == signal.SIGKILL:
            signal_group(group, signal.SIGKILL)
            leftover.due = math.inf
            return
        late = leftover.due > 0  # and not ended on request
        members = group_members(group)
        signal_group(group, signal.SIGTERM)
        signal_group(group, signal.SIGCONT)  # a stopped process can't handle it
        leftover.number, leftover.due = signal.SIGKILL, time.monotonic() + self._grace_period
        if late and members:
            _log.warning(
                "%s, is over, but processes that it started did not end within the grace period "
                "of %g s: %s. They are ended",
                leftover.name,
                self._grace_period,
                ", ".join(f"{name} (process {pid})" for pid, name in members),
            )

    def pause(self) -> float:
        """Seconds until :meth:`take_turn` is due."""
        pause, now = math.inf, time.monotonic()
        if self._leftovers:
            pause = LEFTOVER_LOOK_INTERVAL
        if self._end_at:
            pause = min(pause, min(self._end_at.values()) - now)
        if self._kill_at:
            pause = min(pause, WAKE_INTERVAL, min(self._kill_at.values()) - now)
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
