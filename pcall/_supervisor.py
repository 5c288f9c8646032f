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

import contextvars
import errno
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Sequence

from pcall._bootstrap import make_bootstrap
from pcall._capacity import capacity, processes_exhausted
from pcall._child import Surroundings
from pcall._exception_pickling import safe_str
from pcall._forking import disown, own
from pcall._guard import Guard, group_lives
from pcall._options import Options
from pcall._process import (
    ChildProcess,
    Forked,
    fork_all,
    unread_stdin,
)
from pcall._randomness import read_seeds
from pcall._records import Call, Outcome
from pcall._scheduler import Scheduler
from pcall._signals import PARENT_DIED, SIGTERM, HeldBack, signal_group
from pcall._system import Poller, get_system
from pcall._transport import Answer, read_answer
from pcall.exceptions import ChildDied, NotStarted, PcallTimeout, ResultError

__all__ = ["Supervisor"]

_log = logging.getLogger("pcall")

# The longest wait at a time. A signal handler or another thread may have set an earlier
# deadline (terminate() does) since the wait began, and does not end it.
_LONGEST_WAIT = 0.25
# Seconds between two nudges of a child that was sent SIGTERM.
_NUDGE_EVERY = 0.1
# Seconds between two looks at what outlived its leader: no descriptor tells of its end.
_LEFTOVERS_EVERY = 0.02
# Seconds after which a run gets a guard: most are over before.
_UNGUARDED = 0.2
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

    Attributes:
        outcomes: by call; None for one that is not over.
        completed: indices of the calls that are over, in the order in which they were.
        timed_out: the outcomes of calls that were running when the time of one was up.
        ended_by_us: indices of calls that :meth:`stop` ended.
    """

    def __init__(self, calls: Sequence[Call], options: Options, timeout: float | None) -> None:
        self._calls = calls
        self._options = options
        self._timeout = timeout
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._scheduler = Scheduler(
            len(calls),
            max_workers=options.max_workers,
            max_errors=options.max_errors,
            timeout=timeout,
        )
        self._children: dict[int, ChildProcess] = {}
        self._alive: dict[int, Forked] = {}
        self._by_sentinel: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._to_collect: dict[int, None] = {}
        self._kill_at: dict[int, float] = {}
        self._nudge_at = 0.0
        self._overdue: set[int] = set()
        self._lost: set[int] = set()
        # Calls whose answers were begun to be read: one that breaks off the run when it is
        # unpickled would do so for ever.
        self._read: set[int] = set()
        # Groups that outlived their leader, when they are killed, and when looked at.
        self._leftovers: dict[int, tuple[float, float]] = {}
        self._poller: Poller | None = None
        self._around: Surroundings | None = None
        self._null: int | None = None
        self._in_place_of_std: list[int] = []
        self._parent_sentinel: int | None = None
        self._waiting = 0
        self._started = 0
        self._started_at = 0.0
        self._guard: Guard | None = None
        self.outcomes: list[Outcome | None] = [None] * len(calls)
        self.completed: list[int] = []
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
        return self._scheduler.over and not self._leftovers

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """The child of each call, started or not."""
        with self._lock:
            return tuple(self._child(index) for index in range(len(self._calls)))

    @property
    def living(self) -> tuple[ChildProcess, ...]:
        """The children that are alive."""
        with self._lock:
            return tuple(self._children[index] for index in self._alive)

    def check_owner(self) -> None:
        """Raise unless this is the process that started the run."""
        if os.getpid() != self._owner:
            raise AssertionError("this run belongs to the parent of this process")

    def start(self) -> None:
        """Fork what may start now."""
        if not self._calls:
            return
        try:
            self._start()
        except BaseException:
            self.abandon()
            raise

    def _start(self) -> None:
        self._started_at = time.monotonic()
        system = get_system()
        workers = self._options.max_workers
        many = len(self._calls) if workers is None else min(workers, len(self._calls))
        if many > _FEW and (room := capacity(system.fds_per_child)) < many:
            self._scheduler.limit(room)
        with HeldBack():
            # Where stdin, stdout or stderr is closed, a descriptor of ours would else get
            # its number, and whatever is printed.
            while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
                self._in_place_of_std.append(fd)
            self._null = fd
            self._poller = system.make_poller()
            polled = self._poller.fileno()
            if polled is not None:
                own(polled)
            self._parent_sentinel = system.parent_sentinel()
        self._around = Surroundings(
            parent=self._owner,
            bootstrap=make_bootstrap(self._parent_sentinel),
            system=system,
            watch_parent=system.parent_watch(self._owner, self._options.grace_period),
            context=contextvars.copy_context(),
            seeds=read_seeds(),
            null=self._null,
            stdin=unread_stdin(),
        )
        self._turn(0)

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
            queued = self._scheduler.stop()
            self.ended_by_us.update(queued)
            self._skip(queued, "the run was ended before its turn came")
            if self._poller is not None:
                # What ended by itself until now was not ended by us.
                self._collect(self._poller.poll(0))
            for index in list(self._alive):
                self.ended_by_us.add(index)
                self._signal(index, number)
            if number == signal.SIGKILL:
                self._leftovers = dict.fromkeys(self._leftovers, (0.0, 0.0))

    def terminate(self) -> None:
        """SIGTERM to all."""
        self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all."""
        self.stop(signal.SIGKILL)

    def abandon(self) -> None:
        """End everything, and wait for that. Interrupted, it kills and still waits."""
        number: int = signal.SIGTERM
        for _ in range(100):  # no more than one Ctrl-C after another can be
            try:
                self.stop(number)
                while not self.over:
                    self._turn(None)
                break
            except BaseException:
                number = signal.SIGKILL
        with self._lock:
            if not self._waiting:
                self._release()

    def abandon_if_owner(self) -> None:
        """:meth:`abandon`, but nothing in a child that inherited this object."""
        if os.getpid() == self._owner and not self.over:
            self.abandon()

    def fileno(self) -> int | None:
        """A descriptor that is readable when :meth:`turn` has something to do, or None."""
        return None if self._poller is None else self._poller.fileno()

    def pause(self, wait: float | None = None) -> float:
        """Seconds until :meth:`turn` is due although nothing has ended."""
        now = time.monotonic()
        system = self._around.system if self._around else None
        pause = _LONGEST_WAIT if wait is None else min(wait, _LONGEST_WAIT)
        if system is not None and (system.look_every or self._unwatched):
            pause = min(pause, system.look_every or 0.02)
        if self._leftovers:
            pause = min(pause, _LEFTOVERS_EVERY)
        if self._kill_at:
            pause = min(pause, _NUDGE_EVERY)
        deadlines = [self._scheduler.next_deadline, min(self._kill_at.values(), default=None)]
        for deadline in deadlines:
            if deadline is not None:
                pause = min(pause, deadline - now)
        return max(pause, 0.0)

    # ------------------------------------------------------------ the steps of a turn

    def _turn(self, wait: float | None) -> None:
        poller = self._poller
        if poller is None:
            return  # not started, or over and released
        with self._lock:
            self._collect_known()
            self._fill()
            pause = 0.0 if self.over else self.pause(wait)
            if pause and self._guard is None and self._alive:
                pause = self._guard_in(pause)
            self._waiting += 1
        try:
            # Without the lock: other threads may look at the run, or end it.
            ready = poller.poll(pause)
        finally:
            with self._lock:
                self._waiting -= 1
        with self._lock:
            if self._poller is None:
                return  # another thread has seen the end of it
            self._look()
            self._collect(ready)
            self._expire()
            self._kill()
            self._fill()
            if self.over and not self._waiting:
                self._release()

    def _guard_in(self, pause: float) -> float:
        """Have the children guarded, once the run has lasted for a moment."""
        left = self._started_at + _UNGUARDED - time.monotonic()
        if left > 0:
            return min(pause, left)
        self._started_at = math.inf  # once, also if it fails
        try:
            guard = Guard(len(self._calls), self._parent_sentinel, self._options.grace_period)
        except OSError:
            return pause  # no process, no memory to be had: the run goes on without
        for index, forked in self._alive.items():
            guard.watch(index, forked.pid)
        self._guard = guard
        return pause

    def _fill(self) -> None:
        """Start what may start."""
        while indices := self._scheduler.next_starts(_BURST):
            assert self._around is not None
            assert self._poller is not None
            children = [self._child(index) for index in indices]
            failed: OSError | None = None
            with HeldBack() as held_back:
                # A child unblocks what it has handlers for, whatever was blocked here.
                mask = tuple(set(held_back.mask) - {SIGTERM, PARENT_DIED})
                try:
                    fork_all(children, self._around._replace(mask=mask))
                except OSError as error:
                    if all(child.forked is not None for child in children):
                        raise
                    failed = error
                finally:
                    for index, child in zip(indices, children, strict=True):
                        if child.forked is not None:
                            self._watch(index, child.forked)
            if failed is not None:
                if self._is_full(failed) and self._scheduler.no_room():
                    return
                raise self._fork_error(failed) from failed
            # Between two bursts: what has ended gives its descriptors and its memory
            # back, and nobody's deadline waits for the last of many forks.
            if self._scheduler.queued:
                self._collect(self._poller.poll(0))
                self._expire()

    def _fork_error(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"{error.strerror}: call {self._started} of {len(self._calls)} could not be "
            f"forked; the {self._started} that had been started were ended",
        )

    def _watch(self, index: int, forked: Forked) -> None:
        self._started += 1
        self._alive[index] = forked
        if self._guard is not None:
            self._guard.watch(index, forked.pid)
        self._scheduler.started(index, forked.started)
        if forked.sentinel is None:
            self._unwatched.add(index)
        else:
            assert self._poller is not None
            self._by_sentinel[forked.sentinel] = index
            self._poller.register(forked.sentinel)

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

    def _look(self) -> None:
        """Look at the children whose end no descriptor tells, or not in time."""
        assert self._around is not None
        unwatched = self._alive if self._around.system.look_every else self._unwatched
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
        answer: Answer | None = None
        failure: Exception | None = None
        try:
            if index in self._read:
                raise InterruptedError("interrupted before")
            self._read.add(index)
            answer = read_answer(forked.answer)
        except Exception as error:  # no memory to map it, perhaps
            failure = ResultError(
                f"the answer could not be read: {type(error).__name__}: {safe_str(error)}"
            )
            failure.__cause__ = error
        with HeldBack():
            self._record(self._outcome(index, forked, answer, failure))
            self._strike_off(index, forked)

    def _strike_off(self, index: int, forked: Forked) -> None:
        if forked.sentinel is not None and self._by_sentinel.pop(forked.sentinel, None) is not None:
            # Before it is closed: other children hold copies of it, and for epoll it
            # would stay open, and ready, until the last of them has gone.
            assert self._poller is not None
            self._poller.unregister(forked.sentinel)
        self._unwatched.discard(index)
        kill_at = self._kill_at.pop(index, None)
        if forked.leftovers:
            now = time.monotonic()
            grace = now + self._options.grace_period
            self._leftovers[forked.pid] = grace if kill_at is None else kill_at, now
        forked.release()
        outcome = self.outcomes[index]
        assert outcome is not None
        skipped = self._scheduler.ended(index, outcome.ok)
        self._skip(skipped, f"call {index} failed, and max_errors is {self._options.max_errors}")
        del self._alive[index]
        if self._guard is not None:
            self._guard.watch(index, 0)

    def _outcome(
        self, index: int, forked: Forked, answer: Answer | None, failure: Exception | None
    ) -> Outcome:
        call = self._calls[index]
        exitcode = forked.returncode
        error: BaseException | None = failure
        if answer is not None:
            error = answer.error
            if exitcode is None:  # taken by another wait, but the answer tells enough
                exitcode = 1 if error else 0
        elif error is None:
            error = ChildDied(exitcode)
            self._lost.add(index)
            if exitcode == -signal.SIGKILL and index not in self._kill_at:
                error.add_note(
                    "pcall did not send that signal; the kernel does when memory runs out"
                )
        if index in self._overdue:
            how = error
            error = PcallTimeout(
                f"{call} (call {index}, pid {forked.pid}) ran longer than "
                f"the timeout of {self._timeout:g} s",
                timeout=self._timeout,
            )
            error.__cause__ = how
        finished = answer.finished if answer else time.monotonic()
        growth = None if forked.max_rss is None else max(0, forked.max_rss - forked.rss)
        return Outcome(
            index=index,
            call=call,
            ok=error is None,
            value=answer.value if answer and error is None else None,
            error=error,
            pid=forked.pid,
            exitcode=exitcode,
            attempts=1,
            started=time.time() - (time.monotonic() - forked.started),
            duration=finished - forked.started,
            cpu_time=forked.cpu_time,
            max_rss=forked.max_rss,
            rss_growth=growth,
        )

    def _record(self, outcome: Outcome) -> None:
        if self.outcomes[outcome.index] is None:
            self.outcomes[outcome.index] = outcome
            self.completed.append(outcome.index)

    def _skip(self, indices: tuple[int, ...], why: str) -> None:
        for index in indices:
            call = self._calls[index]
            error = NotStarted(f"{call} (call {index}) was not started: {why}")
            self._record(Outcome(index=index, call=call, ok=False, error=error))

    def _expire(self) -> None:
        """End the calls whose time is up."""
        expiry = self._scheduler.expire(time.monotonic())
        if not expiry.stop:
            return
        for index in expiry.stop:
            _log.error(
                "timeout of %g s: call %d, %s, is still running in process %d",
                self._timeout,
                index,
                self._calls[index],
                self._alive[index].pid,
            )
        self._overdue.update(expiry.overdue)
        if len(expiry.stop) > len(expiry.overdue) or self._options.max_errors == 0:
            self.timed_out = tuple(sorted(expiry.stop))
            self._skip(self._scheduler.stop(), f"call {expiry.overdue[0]} ran out of time")
        for index in expiry.stop:
            self._signal(index, signal.SIGTERM)

    def _signal(self, index: int, number: int) -> None:
        if number == signal.SIGTERM and index in self._kill_at:
            return  # once: a second one would break into what the first made it clean up
        self._alive[index].signal(number)
        grace = time.monotonic() + self._options.grace_period
        self._kill_at[index] = grace if number == signal.SIGTERM else math.inf

    def _kill(self) -> None:
        """SIGKILL to what has outlived its grace period."""
        now = time.monotonic()
        nudge = now >= self._nudge_at
        if nudge:
            self._nudge_at = now + _NUDGE_EVERY
        for index, kill_at in self._kill_at.items():
            if kill_at <= now:
                self._alive[index].signal(signal.SIGKILL)
                self._kill_at[index] = math.inf
            elif nudge and kill_at < math.inf:
                self._alive[index].nudge()
        for group, (kill_at, look_at) in list(self._leftovers.items()):
            if kill_at <= now:
                signal_group(group, signal.SIGKILL)
                kill_at = math.inf
            elif now < look_at:
                continue
            if _group_lives(group):
                self._leftovers[group] = kill_at, now + _LEFTOVERS_EVERY
            else:
                del self._leftovers[group]

    # ------------------------------------------------------------ what it holds

    def _child(self, index: int) -> ChildProcess:
        child = self._children.get(index)
        if child is None:
            child = self._children[index] = ChildProcess(self._calls[index])
        return child

    def _release(self) -> None:
        with HeldBack():
            self._release_all()

    def _release_all(self) -> None:
        if self._guard is not None:
            self._guard.end()
            self._guard = None
        if self._poller is not None:
            fd = self._poller.fileno()
            if fd is not None:
                disown(fd)
            self._poller.close()
            self._poller = None
        for fd in (self._null, self._parent_sentinel, *self._in_place_of_std):
            if fd is not None:
                os.close(fd)
        self._in_place_of_std.clear()
        self._null = self._parent_sentinel = self._around = None


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
