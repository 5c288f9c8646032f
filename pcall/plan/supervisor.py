"""The supervisor of a plan's run: that of reused children, for calls that wait for calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pcall._equipment import Equipment
from pcall._handing_out import STRETCH
from pcall._options import Options
from pcall._reuse import ReusingSupervisor
from pcall._reused import ReusedChild
from pcall._signals import HeldBack
from pcall._system import get_system
from pcall._table import Slot, Table
from pcall.plan.calls import PlanCalls
from pcall.plan.child import PlanChild
from pcall.plan.ledger import PlanLedger
from pcall.plan.links import Links
from pcall.plan.rerunning import RerunningScheduler
from pcall.plan.settling import settle
from pcall.plan.values import Values

__all__ = ["PlanSupervisor"]

# So many calls a stretch may have when few are left, if they are that short.
_FEW = 32


class PlanSupervisor(ReusingSupervisor):
    """Runs the calls of a plan in children that live on.

    Args:
        calls: of the plan.
        options: the policy.
        timeout: seconds that each may take; None: no limit.
        output: the calls whose values are wanted; None: all calls are made.
        keep: True when all values are wanted.
    """

    _scheduler: RerunningScheduler
    ledger: PlanLedger

    def __init__(
        self,
        calls: PlanCalls,
        options: Options,
        timeout: float | None,
        output: list[int] | None,
        keep: bool,
    ) -> None:
        self.plan, self._output, self._keep = calls.plan, output, keep
        self._plan_calls = calls
        super().__init__(calls, options, timeout)
        self.scheduler = self._scheduler
        # After a failure what waits for the call must not be made.
        self._strict = True
        self._costs: dict[str, float] = {}  # by name, what a call takes
        stretches = self._scheduler.stretches
        stretches.cost, stretches.budget = self._cost, STRETCH
        # By gather: the calls in it whose values lie in files.
        self._filed: dict[int, list[int]] = {}
        rule = options.rule
        self._retried = rule is not None and rule.attempts > 1
        self._links = Links(self.plan, None if keep else output or (), self._retried)
        self._bulky: set[str] = set()  # names of calls whose values have been large
        stretches.carries = self._is_carried
        self._scheduler.is_used_up = self._is_used_up
        self._values: Values | None = None
        calls.is_needed = self._scheduler.state.__getitem__

    def _make_scheduler(self, **policy: Any) -> RerunningScheduler:
        return RerunningScheduler(self.plan, self._output, keep=self._keep, **policy)

    def value(self, index: int) -> Any:
        """The value of a call that is done; None when it was dropped.

        Raises:
            ResultError: it can't be read.
        """
        assert self._values is not None
        return self._values.load(index)

    def close(self) -> None:
        """Drop all values."""
        if self._values is not None:
            self._values.close()

    def _start(self) -> None:
        if self._telling:
            self._scheduler.look_at_all()
        self._workers = self._room(self._workers, fds=2)
        self._equip(self._workers)
        if self._equipment is None:
            return  # a signal handler has ended the run
        self._table = Table(len(self._calls), self._workers)
        self._values = Values(self.plan, self._table, get_system(), self._workers)
        self._keep_ledger(PlanLedger(self._calls, self._table, self._values.load))
        for outcome, skipped in settle(self.plan, self._scheduler):
            self.ledger.record(outcome)
            self._why = f"call {outcome.index} was marked as failed"
            self._skip(skipped)
        self._turn(0)

    # ------------------------------------------------------------ handing out

    def _fill(self, equipment: Equipment) -> None:
        scheduler = self._scheduler
        if not scheduler.complete:
            scheduler.look_further()
        self.drop_unneeded()
        self._take_rests(nothing_waits=not scheduler.next_stretch(1, time.monotonic()))
        while True:
            with HeldBack():  # what the scheduler knows of, a child has
                self._hand_out()
            missing = min(self._workers - len(self._reused), scheduler.ready)
            if missing <= 0 or not scheduler.next_stretch(1, time.monotonic()):
                break
            if not self._fork_some(missing, equipment):
                break
        while not scheduler.next_stretch(1, time.monotonic()) and self._take_back():
            pass
        self._have_yield()
        if not scheduler.queued and scheduler.complete:
            self._let_go()

    def _have_yield(self) -> None:
        """Have no child stay with a chain for a value's sake while what goes before it waits."""
        if not self._bulky:
            return
        for reused in self._reused.values():
            if not reused.given or reused.asked or reused.ending:
                continue
            at = reused.at
            stays = at + 1 < reused.given[0].stop and self._is_carried(at)
            if stays and self._scheduler.is_outranked(at + 1):
                reused.ask_for_rest()

    def _could_yield(self, reused: ReusedChild) -> bool:
        # What waits for the call that it is at, others can't do either.
        if not super()._could_yield(reused):
            return False
        return len(reused.given) > 1 or self._scheduler.could_start(reused.rest)

    def _next_stretch(self) -> range:
        stretch = super()._next_stretch()
        if self._scheduler.reopened:
            self._reopen()
        return stretch

    def _fitting(self, reused: ReusedChild, stretch: range) -> range:
        files = self._files_of(stretch)
        if reused.given and (files or not self._is_short(reused.given[0], stretch)):
            return range(0)
        assert isinstance(reused, PlanChild)
        if not all(reused.send_file(each, self._is_single(each)) for each in files):
            reused.leaving = True  # it has died: its end will be seen
            return range(0)
        return stretch

    def _reopen(self) -> None:
        """Forget of the calls that are made again how they ended."""
        assert self._values is not None
        assert self._table is not None
        self.drop_unneeded()
        reopened, self._scheduler.reopened = self._scheduler.reopened, []
        for index in reopened:
            self.ledger.reopen(index)
            self._values.reopen(index)
            self._forget(index)
        self._telling.planned(reopened)

    def _size(self) -> int:
        return max(_FEW, -(-self._scheduler.queued // (2 * self._workers)))

    def _cost(self, index: int) -> float | None:
        return self._costs.get(self.plan.calls[index].name)

    def _is_carried(self, index: int) -> bool:
        """True for a value that may stay in its child, and is large, or may be."""
        name = self.plan.calls[index].name
        return (name in self._bulky or name not in self._costs) and index in self._links

    def _is_single(self, index: int) -> bool:
        return not self._retried and self._scheduler.uses.is_single(index)

    def _is_used_up(self, index: int) -> bool:
        return self._values is not None and self._values.is_used_up(index)

    def _is_short(self, *stretches: range) -> bool:
        """True when to wait for the first of these is to wait for no time to speak of."""
        costs = [self._cost(stretch.start) for stretch in stretches]
        return all(cost is not None and cost < STRETCH for cost in costs)

    def _files_of(self, stretch: range) -> list[int]:
        """The calls whose large values these need, and which are not among them."""
        assert self._values is not None
        files = self._values.files
        if not files:
            return []
        found: dict[int, None] = {}
        for index in stretch:
            stack = list(self.plan.needs[index])
            while stack:
                vertex = stack.pop()
                if vertex >= 0:
                    if vertex in files:
                        found[vertex] = None
                else:
                    stack += [each for each in self._filed.get(vertex, ()) if each in files]
        return list(found)

    def _new_child(self, number: int) -> ReusedChild:
        assert self._table is not None
        assert self._values is not None
        # Another one goes on behind what the last one of this lane has written.
        counts = self._table.slot(number).counts
        written = counts[Slot.WRITTEN]
        child = PlanChild(number, self._plan_calls, self._table, self._values, self._links)
        counts[Slot.WRITTEN] = max(written, counts[Slot.WRITTEN])
        return child

    # ------------------------------------------------------------ taking answers

    def _take(
        self,
        reused: ReusedChild,
        stop: int,
        values: list[object],
        errors: Mapping[int, BaseException],
    ) -> None:
        start, since = reused.at, reused.since
        super()._take(reused, stop, values, errors)
        assert isinstance(reused, PlanChild)
        self._note_large(reused)
        if since is not None:
            self._note_costs(start, stop, since)

    def _note_large(self, reused: PlanChild) -> None:
        came, reused.came = reused.came, []
        self._bulky.update(self.plan.calls[index].name for index in (*came, *reused.carried))
        reused.carried.clear()
        for index in came:
            stack = [vertex for vertex in self.plan.users[index] if vertex < 0]
            seen = set(stack)
            while stack:
                gather = stack.pop()
                self._filed.setdefault(gather, []).append(index)
                for user in self.plan.gather_users[~gather]:
                    if user < 0 and user not in seen:
                        seen.add(user)
                        stack.append(user)

    def _note_costs(self, start: int, stop: int, since: float) -> None:
        assert self._table is not None
        costs, calls, ended = self._costs, self.plan.calls, self._table.ended
        for index in range(start, stop):
            took, since = ended[index] - since, ended[index]
            name = calls[index].name
            # Quick to rise and slow to fall: what is held for short may be waited for.
            costs[name] = max(took, 0.9 * costs.get(name, 0.0))

    def _reason(self, index: int) -> str:
        return self._scheduler.reason(index) or self._why

    def drop_unneeded(self) -> None:
        """Drop the values that nothing needs any more."""
        assert self._values is not None
        uses = self._scheduler.uses
        dropped, uses.dropped = uses.dropped, []
        for index in dropped:
            self._values.drop(index)
