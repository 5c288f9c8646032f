"""The runs of an executor, and its queue.

.. code-block:: text

    submit() ─► pending ─► pump() ─► a WatchedRun ─► its thread sets the future
                             ▲                              │
                             └────────── a slot is free ────┘

An executor has one run at a time, for each way to capture output. A run of fresh children ends
when nothing is in flight, and a run of reused workers with the executor. A run is also followed by
another after many calls. The crew does not refer to the executor, which may be collected while its
calls run.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._faces.use_profiles import make_profiles
from pcall._os.signals import DeferSignals
from pcall._tuning import BATCH_CALLS, CHUNKS_PER_WORKER, ROWS, RUN_CALLS
from pcall.engines.local.seeding import Draw, draw
from pcall.executor.executor_errors import InitializerFailed
from pcall.executor.exit_hook import exiting, register_crew
from pcall.executor.watched_run import WatchedRun
from pcall.executor.work import CallPolicy, Work

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["Crew"]


class Crew:
    """Runs the calls of one executor.

    Args:
        options: the policy.
        policy: what holds for a call that has no policy of its own.
        observers: of its runs.
        idle_timeout: seconds after which an idle reused worker exits; None: it stays.

    Attributes:
        lock: guards everything here. No future is set while it is held.
        closing: True once no call will be submitted.
        broken: why no call can run, or None.
        profiles: of all calls; None without the option ``profile``.
    """

    def __init__(
        self,
        options: Options,
        policy: CallPolicy,
        observers: Observers,
        idle_timeout: float | None,
    ) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.closing: bool = False
        self.broken: InitializerFailed | None = None
        self._options = options
        self._policy = policy
        self._observers = observers
        self._idle_timeout = idle_timeout
        self.profiles: RunProfile | None = None
        if options.profile is not None:
            self.profiles = make_profiles(options)
        pooled = options.max_tasks_per_child != 1
        workers = options.max_workers or 1
        self._limit = workers * (CHUNKS_PER_WORKER if pooled else 1)
        self._pooled = pooled
        # Observers see one run, if possible.
        self._calls_per_run: float = inf if observers else RUN_CALLS
        if pooled:
            self._calls_per_run = ROWS - self._limit
        self._pending: deque[Work] = deque()
        self._current: dict[object, WatchedRun] = {}
        self._runs: dict[WatchedRun, None] = {}
        self._threads: set[threading.Thread] = set()
        self._calls = 0
        self._drawn: dict[object, Draw] = {}
        self._pid = os.getpid()
        register_crew(self)

    # ------------------------------------------------------------ calls

    def submit(self, works: Sequence[Work]) -> None:
        """Queue calls, and start as many as there are free slots.

        Raises:
            RuntimeError: it takes no more calls.
        """
        self.check_owner()
        # In this order: since Python 3.14 a handler may raise between the call that takes a lock
        # and the block that gives it back.
        with DeferSignals(), self.lock:
            if self.broken is not None:
                raise self._brokenness()
            if exiting():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self.closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            for work in works:
                work.future.bind(partial(self._cancelled, work), partial(self._pid_of, work))
                self._append(work)
                self._pending.append(work)
                if self._observers and work.run is not None:
                    work.run.note("planned", work)
            self.pump()

    def check_owner(self) -> None:
        """Raise in a child that inherited this object."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this executor belongs to the parent of this process; make another one here"
            )

    def pump(self) -> None:
        """Start queued calls while there are free slots. The lock is held."""
        while self._pending:
            run = self._pending[0].run
            if self._pooled and self._pending[0].pickled is None:
                if len(run.fed) > BATCH_CALLS // 2:
                    return
                self._take_batch(run)
                continue
            if sum(each.busy for each in self._runs) >= self._limit:
                return
            work = self._pending.popleft()
            future = work.future
            if future.cancelled() if self._pooled else not future.mark_running():
                run.skip(work)
            else:
                run.take((work,))

    def _take_batch(self, run: WatchedRun) -> None:
        """Start the next calls, which workers inherit: these go in chunks, so there are many."""
        works: list[Work] = []
        while self._pending and len(works) < BATCH_CALLS:
            work = self._pending[0]
            if work.run is not run or work.pickled is not None:
                break
            works.append(self._pending.popleft())
        run.take(works)
        for work in works:
            if work.future.cancelled():
                run.cancel(work)

    def _append(self, work: Work) -> None:
        capture = work.policy.capture
        run = self._current.get(capture)
        if run is not None and run.used >= self._calls_per_run:
            self.retire(run)
            run.retire()
            run = None
        if run is None:
            # Runs for each way to capture output number their calls independently, and random
            # numbers follow from the number.
            if capture not in self._drawn:
                self._drawn[capture] = draw()
            options = self._options
            if capture != options.capture_output:
                options = options.but({"capture_output": capture})
            # A view's calls that have a run of their own are not shown.
            shown = capture == self._policy.capture
            run = WatchedRun(
                self,
                options,
                self._policy,
                self._calls,
                self._drawn[capture],
                self._observers if shown else Observers(),
                self._idle_timeout,
                self.profiles,
            )
            self._current[capture] = run
            self._runs[run] = None
        run.append(work)
        if work.number < 0:
            work.number = self._calls
        self._calls += 1

    def inherits(self, policy: CallPolicy) -> bool:
        """True if each process that runs a call submitted now is forked later."""
        run = self._current.get(policy.capture)
        return not self._pooled or run is None or not run.has_workers

    def _cancelled(self, work: Work) -> None:
        with self.lock:
            run = work.run
            if run is not None and run.fed.get(work.index) is work:
                run.cancel(work)
                return
            if run is not None and self._observers:
                run.note("skipped", work)
        work.future.notify_cancelled()

    def _pid_of(self, work: Work) -> int | None:
        with self.lock:
            run = work.run
            fed = run is not None and run.fed.get(work.index) is work
            return run.pid(work.index) if run is not None and fed else None

    # ------------------------------------------------------------ for its runs

    def retire(self, run: WatchedRun) -> None:
        """Give this run no more calls. The lock is held."""
        for key, current in list(self._current.items()):
            if current is run:
                del self._current[key]

    def started(self, thread: threading.Thread) -> None:
        """This thread watches one of its runs. The lock is held."""
        self._threads = {each for each in self._threads if each.is_alive()} | {thread}

    def ended(self, run: WatchedRun) -> None:
        """This run is over. Another one gets the calls whose turn has not come."""
        self.retire(run)
        self._runs.pop(run, None)
        if run.owed:
            for work in self._pending:
                if work.run is run:
                    self._append(work)

    def failed(self, error: BaseException) -> None:
        """A call has failed. If it was the initializer that failed, no call can run."""
        if not isinstance(error, InitializerFailed):
            return
        with self.lock:
            self.broken = self.broken or error
            pending = list(self._pending)
            self._pending.clear()
            for work in pending:
                if work.run is not None:
                    work.run.skip(work)
        for work in pending:
            work.future.conclude(None, None, self._brokenness())

    def _brokenness(self) -> BrokenExecutor:
        assert self.broken is not None
        error = InitializerFailed(str(self.broken))
        error.__cause__ = self.broken.__cause__
        return error

    # ------------------------------------------------------------ the end

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: True: wait until all calls are over, and all processes have ended.
            cancel: True: cancel the calls that have not started.
        """
        if os.getpid() != self._pid:
            return
        with self.lock:
            self.closing = True
            waiting = list(self._pending) if cancel else []
            unwatched = []
            for run in list(self._runs):
                waiting += run.fed.values() if cancel else ()
                if run.watch():
                    run.wake()
                else:
                    unwatched.append(run)
        for work in waiting:
            work.future.cancel_if_pending()
        for run in unwatched:
            run.end_idle()
        if wait:
            self.join()

    def join(self) -> None:
        """Wait for the threads of all runs, but for the one that calls this."""
        while True:
            with self.lock:
                threads = [each for each in self._threads if each is not threading.current_thread()]
                self._threads.difference_update(threads)
            if not threads:
                return
            try:
                while threads:
                    threads[-1].join()
                    threads.pop()
            finally:  # interrupted: another join() waits for the others
                self._threads.update(threads)

    def stop(self, number: int) -> None:
        """Take no more calls, cancel those that wait, and send this signal to those that run."""
        if os.getpid() != self._pid:
            return
        self.shutdown(wait=False, cancel=True)
        with self.lock:
            for run in list(self._runs):
                run.stop(number)

    def abandon(self) -> None:
        """The executor was collected: what was submitted is run, and then everything ends."""
        # The collector may have come in anywhere: no thread is started here, and no lock but
        # those that this thread may hold already is waited for long.
        if os.getpid() != self._pid:
            return
        self.closing = True
        for run in list(self._runs):
            if run.thread is not None:
                run.wake()
            else:
                with suppress(Exception):
                    run.end_idle()

    # ------------------------------------------------------------ looking

    @property
    def processes(self) -> dict[int, object]:
        """The children that are alive, by process id."""
        with self.lock:
            return {child.pid: child for run in self._runs for child in run.run.living}
