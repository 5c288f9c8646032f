"""The one event loop: start children, see them end, keep deadlines, kill what must be killed.

It has no thread of its own. Each use of a run (waiting, polling, awaiting) takes *turns*:

1. start what the scheduler lets start;
2. wait for an end, a deadline, or as long as the caller wants;
3. collect the children that ended: reap, read the answer, make the outcome;
4. end the calls whose time is up, and kill what has outlived its grace period.

Whatever breaks into a turn (Ctrl-C, a signal handler that raises, a fork that fails) ends all
children before it goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress

from pcall._calls import Calls
from pcall._capacity import capacity, processes_exhausted
from pcall._ending import Ending
from pcall._equipment import Equipment
from pcall._ledger import Ledger
from pcall._logs import RunLogs, make_run_logs
from pcall._options import Options
from pcall._outcome import not_started, outcome_of, take_answer
from pcall._process import ChildProcess, Forked, fork_all
from pcall._randomness import chance
from pcall._records import Outcome
from pcall._scheduler import Scheduler
from pcall._signals import PARENT_DIED, SIGTERM, HeldBack
from pcall._system import get_system
from pcall._telling import Telling

__all__ = ["Supervisor"]

_log = logging.getLogger("pcall")

# The longest wait at a time. A signal handler or another thread may have set an earlier
# deadline (terminate() does) since the wait began, and does not end it.
_LONGEST_WAIT = 0.25
# Seconds between two looks at a child for which no descriptor was to be had.
_LOOK_EVERY = 0.02
# Children that are forked one right after the other.
_BURST = 32
# Up to so many calls are started without a look at what the machine can hold.
_FEW = 16


class Supervisor:
    """Runs calls, each in a child of its own.

    Args:
        calls: what to run.
        options: the policy.
        timeout: seconds that each may take; None: no limit.
        max_workers: what the scheduler takes it to be; None: what the policy says.

    Attributes:
        ledger: the outcomes.
        timed_out: the outcomes of calls that were running when the time of one was up.
        ended_by_us: indices of calls that :meth:`stop` ended.
    """

    def __init__(
        self,
        calls: Calls,
        options: Options,
        timeout: float | None,
        max_workers: int | None = None,
    ) -> None:
        self._calls = calls
        self._options = options
        self._timeout = timeout
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._scheduler = Scheduler(
            len(calls),
            max_workers=max_workers or options.max_workers,
            max_errors=options.max_errors,
            timeout=timeout,
            retry=options.rule,
        )
        self._tried: dict[int, Outcome] = {}  # how a call failed that waits for another attempt
        self._children: dict[int, ChildProcess] = {}
        self._alive: dict[int, Forked] = {}
        self._by_sentinel: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._to_collect: dict[int, None] = {}
        self._ending = Ending(self._alive, options.grace_period)
        self._overdue: set[int] = set()
        self._lost: set[int] = set()
        self._read: set[int] = set()  # calls whose answers were begun to be read
        self._equipment: Equipment | None = None  # while it runs
        self._turns: set[object] = set()  # those being taken, by threads or signal handlers
        self._logs: RunLogs | None = None
        self._started = 0
        self._stopped_by_us = False
        self._why = ""  # nothing more is started
        self._telling = Telling(calls, options.observers())
        self.ledger = Ledger(calls)
        self.timed_out: tuple[int, ...] = ()
        self.ended_by_us: set[int] = set()

    # ------------------------------------------------------------ what is asked of it

    @property
    def ended_from_outside(self) -> set[int]:
        """Indices of the calls whose child died, or whose time was up."""
        return self._lost | self._overdue

    @property
    def done(self) -> bool:
        """True once no call runs or waits to run."""
        return self._scheduler.over

    @property
    def over(self) -> bool:
        """True once, beyond that, nothing is left of what the calls started."""
        return self._scheduler.over and not self._ending.leftovers

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The child of each call, started or not."""
        with self._lock:
            return tuple(self._child(index) for index in range(len(self._calls)))

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """The children that are alive."""
        with self._lock:
            return tuple(self._children[key] for key in self._alive)

    def check_owner(self) -> None:
        """Raise unless this is the process that started the run."""
        if os.getpid() != self._owner:
            raise AssertionError("this run belongs to the parent of this process")

    def start(self) -> None:
        """Fork what may start now."""
        if not self._calls:
            return
        try:
            self._telling.begin()
            self._start()
        except BaseException:
            self.abandon()
            raise

    def _start(self) -> None:
        workers = self._options.max_workers
        many = len(self._calls) if workers is None else min(workers, len(self._calls))
        if self._room(many) < many:
            self._scheduler.limit(self._room(many))
        self._equip(len(self._calls))
        self._turn(0)

    def _room(self, many: int, fds: int = 0) -> int:
        """How many children this machine can hold, if that is fewer.

        Args:
            many: how many there are to be.
            fds: descriptors that each takes beyond those of every child.
        """
        return many if many <= _FEW else min(many, capacity(get_system().fds_per_child + fds))

    def _equip(self, children: int) -> None:
        system = get_system()
        with HeldBack():
            if self._options.tasklog:
                self._logs = make_run_logs(system, len(self._calls), self.ledger.__getitem__)
            told = None if self._logs is None else self._logs.child
            self._equipment = Equipment(system, children, self._options.grace_period, told)

    def turn(self, wait: float | None) -> None:
        """Do what is to be done now, after waiting up to so many seconds for something to do.

        None waits as long as it takes, though never long at a time: call it again.
        """
        self.check_owner()
        try:
            self._turn(wait)
        except BaseException:
            self.abandon()
            raise

    def stop(self, number: int) -> None:
        """End all calls: signal those that run, drop those that wait. Does not wait.

        What has not ended a grace period later is killed, in a later turn.
        """
        self.check_owner()
        with self._lock:
            with HeldBack():
                self._stopped_by_us = True
                self._stop("the run was ended before its turn came")
            if self._equipment is not None:
                # What ended by itself until now was not ended by us.
                self._collect(self._equipment.poller.poll(0))
            for key in list(self._alive):
                self._end(key, number)
            if number == signal.SIGKILL:
                self._ending.kill_leftovers()
            self._release_if_over()  # where calls only waited for another attempt

    def _end(self, key: int, number: int) -> None:
        """End one child on request."""
        self.ended_by_us.add(key)
        self._ending.signal(key, number)

    def terminate(self) -> None:
        """SIGTERM to all."""
        self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all."""
        self.stop(signal.SIGKILL)

    def abandon(self) -> None:
        """End everything, and wait for that. Interrupted, it kills and still waits."""
        number: int = signal.SIGTERM
        # What interrupts is let in only where it is caught.
        with HeldBack() as held_back:
            for _ in range(100):  # no more than one Ctrl-C after another can be
                try:
                    held_back.let_in()
                    self.stop(number)
                    while self._alive or self._ending.leftovers:
                        self._turn(None)
                    held_back.hold()
                    break
                except BaseException:
                    number = signal.SIGKILL
                    with suppress(BaseException):
                        held_back.hold()
            with self._lock:
                if not self._turns:
                    self._release()
        self.finish()

    def abandon_if_owner(self) -> None:
        """:meth:`abandon`, but nothing in a child that inherited this object."""
        if os.getpid() == self._owner:
            if not (self.over and self._equipment is None):
                self.abandon()
            self.finish()

    def finish(self) -> None:
        """Once all is over: put what children logged where it belongs, and tell of the end."""
        if not self.over:
            return
        if self._logs is not None:
            self._logs.deliver(final=True)
            self._logs.merge()
        self._telling.end()

    def fileno(self) -> int | None:
        """A descriptor that is readable when :meth:`turn` has something to do, or None."""
        return None if self._equipment is None else self._equipment.poller.fileno()

    def pause(self, wait: float | None = None) -> float:
        """Seconds until :meth:`turn` is due although nothing has ended."""
        pause = _LONGEST_WAIT if wait is None else min(wait, _LONGEST_WAIT)
        if self._equipment is not None:
            look_every = self._equipment.around.system.look_every
            if look_every or self._unwatched:
                pause = min(pause, look_every or _LOOK_EVERY)
        deadline = self._scheduler.next_deadline
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
        due = self._scheduler.next_retry
        if due is not None:
            pause = min(pause, due - time.monotonic())
        return max(0.0, min(pause, self._ending.pause(), self._telling.pause()))

    # ------------------------------------------------------------ the steps of a turn

    def _turn(self, wait: float | None) -> None:
        this_turn = object()
        try:
            with self._lock:
                equipment = self._equipment
                if equipment is None:
                    return  # not started, or over and released
                self._turns.add(this_turn)
            self._take_turn(equipment, wait)
        finally:
            # At once, and by one call in C: nothing can come between that would lose it.
            self._turns.discard(this_turn)
            self._release_if_over()

    def _take_turn(self, equipment: Equipment, wait: float | None) -> None:
        with self._lock:
            self._collect_known()
            self._fill(equipment)
            pause = 0.0 if self.over else self.pause(wait)
            if pause and self._alive:
                pause = min(pause, equipment.guard_in(self._alive))
        # Without the lock: other threads may look at the run, or end it.
        ready = equipment.poller.poll(pause)
        with self._lock:
            self._look(equipment)
            self._collect(ready)
            self._expire()
            self._ending.take_turn()
            self._fill(equipment)
        # Without the lock: neither handlers nor observers are ours.
        if self._logs is not None:
            self._logs.deliver(final=self.over)
        if self.over:
            self._telling.end()
        else:
            self._telling.turn()

    def _fill(self, equipment: Equipment) -> None:
        """Start what may start."""
        asks = self._logs is not None and self._logs.asks
        while indices := self._scheduler.next_starts(1 if asks else _BURST, time.monotonic()):
            if not self._fork({index: self._child(index) for index in indices}, equipment):
                return
            # Between two bursts: what has ended gives its descriptors and its memory
            # back, and nobody's deadline waits for the last of many forks.
            if self._scheduler.queued:
                self._collect(equipment.poller.poll(0))
                self._expire()

    def _fork(self, children: Mapping[int, ChildProcess], equipment: Equipment) -> bool:
        """Fork these children; False when there was no room for all of them."""
        failed: OSError | None = None
        with HeldBack() as held_back:
            # A child unblocks what it has handlers for, whatever was blocked here.
            mask = tuple(set(held_back.mask) - {SIGTERM, PARENT_DIED})
            try:
                with nullcontext() if self._logs is None else self._logs.forking():
                    fork_all(list(children.values()), equipment.around._replace(mask=mask))
            except OSError as error:
                if all(child.forked is not None for child in children.values()):
                    raise
                failed = error
            finally:
                for key, child in children.items():
                    if child.forked is not None:
                        self._watch(key, child.forked, equipment)
        if failed is None:
            return True
        if self._is_full(failed) and self._no_room():
            return False
        raise self._fork_error(failed) from failed

    def _no_room(self) -> bool:
        """There is no room for another child now; False when waiting would not help."""
        return self._scheduler.no_room()

    def _fork_error(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"{error.strerror}: call {self._started} of {len(self._calls)} could not be "
            f"forked; the {self._started} that had been started were ended",
        )

    def _watch(self, index: int, forked: Forked, equipment: Equipment) -> None:
        self._hold(index, forked, equipment)
        self._scheduler.started(index, forked.started)
        self._telling.started(index, forked.started)

    def _hold(self, key: int, forked: Forked, equipment: Equipment) -> None:
        """See to it that the end of a child is noticed."""
        self._started += 1
        self._alive[key] = forked
        equipment.watch(key, forked.pid)
        if forked.sentinel is None:
            self._unwatched.add(key)
        else:
            self._by_sentinel[forked.sentinel] = key
            equipment.poller.register(forked.sentinel)

    def _is_full(self, error: OSError) -> bool:
        """True when the machine has no room now, so that waiting for an end may help."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        return error.errno == errno.EAGAIN and processes_exhausted(len(self._alive))

    def _collect(self, ready: list[int]) -> None:
        """Take the answers of children that have ended."""
        for fd in ready:
            if fd in self._by_sentinel:
                self._to_collect[self._by_sentinel[fd]] = None
        self._collect_known()

    def _look(self, equipment: Equipment) -> None:
        """Look at the children whose end no descriptor tells, or not in time."""
        everywhere = equipment.around.system.look_every
        unwatched = self._alive if everywhere else self._unwatched
        self._to_collect.update(dict.fromkeys(unwatched))

    def _collect_known(self) -> None:
        # One is struck off only when it is done with: an interrupt in between leaves it
        # for the next turn.
        while self._to_collect:
            index = next(iter(self._to_collect))
            forked = self._alive.get(index)
            if forked is not None:
                forked.poll()
                if forked.ended:
                    self._finish(index, forked)
            self._to_collect.pop(index, None)

    def _finish(self, index: int, forked: Forked) -> None:
        again = index in self._read
        self._read.add(index)
        answer = take_answer(forked, again)
        outcome = outcome_of(
            self._calls[index],
            forked,
            answer,
            signalled=self._ending.was_signalled(index),
            overdue=self._timeout if index in self._overdue else None,
            attempt=self._scheduler.attempt(index),
        )
        with HeldBack():
            if answer is None:
                self._lost.add(index)
            self._strike_off(index, forked)
            self._conclude(outcome)
            # The last of it: until then an interrupt has it done again.
            del self._alive[index]

    def _conclude(self, outcome: Outcome, later: bool = False) -> None:
        """Record the outcome, or have the call tried again.

        Args:
            outcome: of the call's last attempt.
            later: True when its child had another call before it.
        """
        index = outcome.index
        ended = self._scheduler.ended(index, outcome.error, time.monotonic(), chance())
        if self._logs is not None:
            died = index in self._lost or index in self._overdue
            self._logs.ended(outcome, died, later, ended.retried)
        self._telling.ended(outcome, ended.retried)
        if ended.retried:
            self._tried[index] = outcome
            self._forget(index)
            return
        self._tried.pop(index, None)
        self.ledger.record(outcome)
        if ended.skipped:
            self._why = f"call {index} failed, and max_errors is {self._options.max_errors}"
            self._skip(ended.skipped)

    def _strike_off(self, index: int, forked: Forked) -> None:
        equipment = self._equipment
        assert equipment is not None
        if forked.sentinel is not None and self._by_sentinel.pop(forked.sentinel, None) is not None:
            # Before it is closed: other children hold copies of it, and for epoll it
            # would stay open, and ready, until the last of them has gone.
            equipment.poller.unregister(forked.sentinel)
        self._unwatched.discard(index)
        self._ending.ended(index, forked)
        forked.release()
        equipment.watch(index, 0)

    def _forget(self, index: int) -> None:
        """Another attempt has another child, and is judged anew."""
        self._children.pop(index, None)
        for about in (self._lost, self._overdue, self._read):
            about.discard(index)

    def _stop(self, why: str) -> None:
        """Start nothing more."""
        self._why = self._why or why
        self._skip(self._scheduler.stop())

    def _skip(self, indices: tuple[int, ...]) -> None:
        """Record the end of calls that will not start, or not again."""
        if self._stopped_by_us:
            self.ended_by_us.update(indices)
        self._telling.skipped(indices)
        for index in indices:
            tried = self._tried.pop(index, None)
            outcome = tried or not_started(self._calls[index], self._why)
            if self._logs is not None:
                self._logs.ended(outcome, False, False)
            self.ledger.record(outcome)

    def _expire(self) -> None:
        """End the calls whose time is up."""
        expiry = self._scheduler.expire(time.monotonic())
        if not expiry.stop:
            return
        running = {index: self._forked(index) for index in expiry.stop}
        stop = {index: forked for index, forked in running.items() if forked is not None}
        for index, forked in stop.items():
            _log.error(
                "timeout of %g s: call %d, %s, is still running in process %d",
                self._timeout,
                index,
                self._calls[index],
                forked.pid,
            )
        self._overdue.update(expiry.overdue)
        if expiry.fatal:
            self.timed_out = tuple(sorted(stop))
            with HeldBack():
                self._stop(f"call {expiry.overdue[0]} ran out of time")
        for index in stop:
            self._end_call(index, expiry.fatal)

    def _forked(self, index: int) -> Forked | None:
        """The process that runs a call, if any does."""
        return self._alive.get(index)

    def _end_call(self, index: int, fatal: bool) -> None:
        """End a call for the time that it took, or, ``fatal``, that another one took."""
        self._ending.signal(index, signal.SIGTERM)

    # ------------------------------------------------------------ what it holds

    def _child(self, index: int) -> ChildProcess:
        child = self._children.get(index)
        if child is None:
            call = self._calls[index]
            child = self._children[index] = ChildProcess(f"{call.name}-{index}", call)
            child.attempt = self._scheduler.attempt(index)
        return child

    def _release_if_over(self) -> None:
        """The last turn, or what ends the run while none is taken, gives everything back."""
        with self._lock:
            if self.over and not self._turns:
                self._release()

    def _release(self) -> None:
        with HeldBack():
            equipment, self._equipment = self._equipment, None
            if equipment is not None:
                equipment.close()
