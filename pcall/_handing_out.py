"""What reused children are given: calls in stretches, so that no core waits for another.

A stretch is made to last some milliseconds: long enough that a call of a microsecond does not
wait for the parent, short enough that no core waits for another at the end. A child has one
stretch that it runs and one that it takes next; the latter is taken back where another child
has nothing to do. A call may take longer than those before it: then what is behind it in its
stretch is taken back as well.
"""

from __future__ import annotations

import math
import os
import sys
import time

from pcall._calls import Calls
from pcall._equipment import Equipment
from pcall._ledger import StretchLedger
from pcall._options import Options
from pcall._process import Forked
from pcall._reused import ReusedChild
from pcall._signals import HeldBack
from pcall._supervisor import Supervisor
from pcall._table import LOOK_EVERY, Table

__all__ = ["STRETCH", "HandingOut"]

# Seconds that a stretch is made for.
STRETCH = 0.005
# Seconds that no stretch is shorter than, for the sake of an even end.
_SHORTEST = 0.0005
# Stretches that a child has at a time.
_DEPTH = 2


class HandingOut(Supervisor):
    """Forks children that live on, and gives them calls.

    Args: see :class:`~pcall._accounts.Accounts`.
    """

    ledger: StretchLedger

    def __init__(self, calls: Calls, options: Options, timeout: float | None) -> None:
        workers = min(options.max_workers or cores(), max(1, len(calls)))
        super().__init__(calls, options, timeout, max_workers=workers * _DEPTH)
        self._workers = workers
        self._most = options.max_tasks_per_child or sys.maxsize  # calls that a child takes
        self._reused: dict[int, ReusedChild] = {}
        self._new: dict[int, ReusedChild] = {}  # those being forked
        self._by_socket: dict[int, ReusedChild] = {}
        self._block = 1
        self._pace = 0.0  # seconds that a call takes, by the last ones
        self._strict = options.max_errors is not None
        self._table: Table | None = None
        self._rest_at = math.inf  # when to see again what others could do of what children have

    def pause(self, wait: float | None = None) -> float:
        return max(0.0, min(super().pause(wait), self._rest_at - time.monotonic()))

    def _fill(self, equipment: Equipment) -> None:
        self._take_rests(nothing_waits=not self._scheduler.queued)
        while True:
            with HeldBack():  # what the scheduler knows of, a child has
                self._hand_out()
            missing = min(self._workers - len(self._reused), self._scheduler.queued)
            if missing <= 0 or not self._scheduler.next_stretch(1, time.monotonic()):
                break
            if not self._fork_some(missing, equipment):
                break
            # Forks may take longer than what the first children have to do.
            self._collect(equipment.poller.poll(0))
        while not self._scheduler.queued and self._take_back():
            pass
        if not self._scheduler.queued:
            self._let_go()

    def _let_go(self) -> None:
        """Nothing is left for the children that have nothing."""
        for reused in self._reused.values():
            if not reused.given:
                reused.leave()

    def _hand_out(self) -> None:
        """Give calls to the children that have too few."""
        # None waits behind another for want of a child that is still to be forked.
        full = len(self._reused) >= self._workers
        for depth in range(_DEPTH if full else 1):
            for reused in self._reused.values():
                if reused.leaving or reused.asked or len(reused.given) > depth:
                    continue
                stretch = self._next_stretch()
                if not stretch:
                    return
                attempt = self._scheduler.attempt(stretch.start)
                if self._is_used(reused, attempt):
                    continue
                stretch = self._fitting(reused, stretch)
                if not stretch:
                    continue
                self._scheduler.reserved(stretch.start, stretch.stop)
                reused.give(stretch, attempt, self._strict)
                if reused.calls >= self._most:
                    reused.leave()

    def _fitting(self, reused: ReusedChild, stretch: range) -> range:
        """What of a stretch a child is to be given now; nothing where that is not for it."""
        return stretch[: self._most - reused.calls]

    def _is_used(self, reused: ReusedChild, attempt: int) -> bool:
        """True when a child won't do: another attempt has one that is as good as new."""
        if attempt == 1 or not reused.calls:
            return False
        if not reused.given:
            reused.leave()  # for one that will
        return True

    def _size(self) -> int:
        """How many calls a stretch has now."""
        fair = -(-self._scheduler.queued // (2 * self._workers))
        if not self._pace:
            return min(self._block, fair)
        least = int(_SHORTEST / self._pace)
        return max(1, min(max(fair, least), int(STRETCH / self._pace)))

    def _next_stretch(self) -> range:
        size, block = max(self._size(), self._block), self._block
        stretch = self._scheduler.next_stretch(size, time.monotonic())
        # It ends where a block does, where it can, so that its calls draw the same numbers as
        # in any other run.
        stop = stretch.stop - stretch.stop % block
        return range(stretch.start, stop) if stop > stretch.start else stretch

    def _take_back(self) -> bool:
        """Nothing is queued: is there something that another child could do?"""
        idle = any(not reused.given and not reused.leaving for reused in self._reused.values())
        if not idle:
            return False
        with HeldBack():
            for reused in self._reused.values():
                if self._take_next(reused):
                    self._hand_out()
                    return True
        return False

    def _take_next(self, reused: ReusedChild) -> bool:
        """Take back the stretch that a child has not taken, if it has one."""
        stretch = reused.take_back()
        if stretch is not None:
            self._skip(self._scheduler.given_back(stretch.start))
        return stretch is not None

    def _take_rests(self, nothing_waits: bool) -> None:
        """Where others could do it: take what waits in a child for a call that takes long."""
        self._rest_at = math.inf
        full = len(self._reused) >= self._workers
        if not nothing_waits or (full and all(reused.given for reused in self._reused.values())):
            return
        for reused in list(self._reused.values()):
            if self._could_yield(reused):
                self._progress(reused)  # it may have come further
            if self._could_yield(reused):
                self._rest_at = min(self._rest_at, self._take_rest(reused))

    def _could_yield(self, reused: ReusedChild) -> bool:
        if not reused.given or reused.ending or reused.held or reused.since is None:
            return False
        return len(reused.given) > 1 or bool(reused.rest)

    def _take_rest(self, reused: ReusedChild) -> float:
        """Ask for it, or take it.

        Returns:
            When to come back.
        """
        now = time.monotonic()
        if reused.asked is None:
            assert reused.since is not None
            if now < reused.since + STRETCH:
                return reused.since + STRETCH
            with HeldBack():
                self._take_next(reused)
            reused.ask_for_rest()
            return now + LOOK_EVERY
        if now < reused.asked + LOOK_EVERY:
            return reused.asked + LOOK_EVERY
        with HeldBack():
            rest = reused.take_rest()
            if rest:
                self._skip(self._scheduler.given_back(reused.at, rest.start))
                self._pace = STRETCH  # such calls are to come singly
        return math.inf

    def _fork_some(self, count: int, equipment: Equipment) -> bool:
        if self._logs is not None and self._logs.asks:
            count = 1
        free = [n for n in range(self._workers) if n not in self._reused][:count]
        new = self._new
        try:
            try:
                with HeldBack():
                    for number in free:
                        new[number] = self._new_child(number)
            except OSError as error:
                if not new and not (self._is_full(error) and self._no_room()):
                    raise
            return self._fork({n: reused.process for n, reused in new.items()}, equipment)
        finally:
            with HeldBack():
                while new:
                    new.popitem()[1].close()

    def _new_child(self, number: int) -> ReusedChild:
        assert self._table is not None
        return ReusedChild(number, self._calls, self._table, self._block)

    def _watch(self, index: int, forked: Forked, equipment: Equipment) -> None:
        self._hold(index, forked, equipment)
        reused = self._reused[index] = self._new.pop(index)
        self._children[index] = reused.process
        reused.owner = self.ledger.add_child(reused.process, time.time() - time.monotonic())
        self._by_socket[reused.socket.fileno()] = reused
        equipment.poller.register(reused.socket.fileno())

    def _no_room(self) -> bool:
        if self._alive:
            self._workers = len(self._alive)
        return bool(self._alive)

    # ------------------------------------------------------------ for those that inherit

    def _progress(self, reused: ReusedChild) -> None:
        """Take what a child has answered since the last time."""
        raise NotImplementedError


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
