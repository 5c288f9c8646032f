"""One child as its parent sees it: sentinel, signals, and reaping with its figures."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing.process import _dangling  # type: ignore[attr-defined]
from typing import Any

from pcall._os.capacity import RSS_UNIT
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.process_groups import signal_group
from pcall._os.signals import DeferSignals
from pcall._os.system import System
from pcall.engines.local.child.child_context import Task
from pcall.engines.local.child.child_main import perform

__all__ = ["ChildProcess", "ForkedProcess"]

_log = logging.getLogger("pcall")


class ForkedProcess:
    """A forked process, until and after its end. multiprocessing calls this a ``Popen``.

    Attributes:
        pid: its process id.
        sentinel: descriptor that becomes readable at its end; None when there is none.
        answer: descriptor of the file that it answers in.
        started: when it was forked, on the monotonic clock.
        rss: bytes of resident memory that it was forked with.
        ended: True once it is known to be over.
        returncode: how it ended, as multiprocessing has it; None when that is unknown.
        cpu_time: seconds of processor time that it took, or None.
        max_rss: bytes of its peak resident memory, or None.
        leftovers: True when processes that it started were still there at its end.
    """

    def __init__(
        self,
        pid: int,
        started: float,
        rss: int,
        system: System,
        answer: int,
        pair: tuple[int, int] | None,
    ) -> None:
        self.pid = pid
        self.started = started
        self.rss = rss
        self.answer = answer
        self._system = system
        # A signal handler of the user's may come in between, and end the run.
        self._lock = threading.RLock()
        self._lent = False
        self.ended = self.leftovers = False
        self.returncode: int | None = None
        self.cpu_time: float | None = None
        self.max_rss: int | None = None
        if pair is not None:
            unregister_private_fd(pair[1])
        self.sentinel = system.sentinel(pid, pair)
        if self.sentinel is not None:
            register_private_fd(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Reap it if it has ended; how it ended, or None."""
        with self._lock:
            if not self.ended:
                self._reap(flag)
            return self.returncode

    def _reap(self, flag: int) -> None:
        try:
            pid, status, usage = os.wait4(self.pid, flag)
        except ChildProcessError:
            if self.ended:
                return
            # Over, but another wait of this process was faster, or SIGCHLD is ignored
            # and the kernel keeps nothing.
            self.returncode = self._system.exit_code(self.sentinel)
        else:
            if pid == 0:
                return
            self.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_time = usage.ru_utime + usage.ru_stime
            self.max_rss = usage.ru_maxrss * RSS_UNIT
        self.ended = True
        # The group outlives its leader while anything of it runs, and keeps the number
        # from being given to another. An empty one is gone with the leader.
        self.leftovers = signal_group(self.pid, signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; how it ended, or None."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None and not self.ended:
            left = 0.05 if end is None else min(0.05, end - time.monotonic())
            if left <= 0:
                break
            if self.sentinel is None:
                time.sleep(left)
            else:
                poller = select.poll()
                poller.register(self.sentinel, select.POLLIN)
                poller.poll(left * 1000)
        return self.returncode

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it has started, unless it is over."""
        with self._lock:  # nobody else may reap it now and free its number
            if not self.ended:
                self._reap(os.WNOHANG)
            if self.ended:
                return
            try:
                if not signal_group(self.pid, number):
                    os.kill(self.pid, number)  # it has not made its group yet
                if number == signal.SIGTERM:
                    # A stopped process can't act on it. As timeout(1) does.
                    signal_group(self.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            except PermissionError:
                _log.warning(
                    "process %d could not be sent signal %d: it has become another "
                    "user's; end it by hand",
                    self.pid,
                    number,
                )

    def wake(self) -> None:
        """Have it look at the SIGTERM that it was sent.

        A Python handler runs between two bytecodes. Where the signal came after the last of
        these before a system call that waits, the handler would wait with it: any other
        handled signal ends that wait. Nobody else minds a SIGCONT.
        """
        with self._lock:
            if not self.ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def lend_sentinel(self) -> int:
        """The sentinel for the user, valid for as long as this object lives."""
        if self.sentinel is None:
            # Over, or no descriptor was to be had: one that is readable for good.
            with DeferSignals():
                self.sentinel, other = os.pipe()
                os.close(other)
        if not self._lent:
            self._lent = True
            weakref.finalize(self, _close_in, os.getpid(), self.sentinel).atexit = False
        return self.sentinel

    def release(self) -> None:
        """Close what it needed while it lived."""
        answer, self.answer = self.answer, -1
        if answer >= 0:  # else: done before
            unregister_private_fd(answer)
            os.close(answer)
        if self.sentinel is not None:
            unregister_private_fd(self.sentinel)
            if not self._lent:
                os.close(self.sentinel)
                self.sentinel = None

    def close(self) -> None:
        """Nothing to do: it is released when it is over."""


class ChildProcess(multiprocessing.Process):
    """A child, with the interface of ``multiprocessing.Process``.

    It is started by its run alone, with :func:`pcall.engines.local.parent.fork.fork_all`.

    Args:
        name: see ``multiprocessing.Process``.
        job: the call that it is for, or the lane in which it gets its calls.
        work: does the job, in the child.
        kept: descriptors of the parent's own that this child is to have.

    Attributes:
        attempt: the number of the call's attempt, from 1.
    """

    _start_method = None
    _popen: ForkedProcess | None

    def __init__(
        self,
        name: str,
        job: Any,
        work: Callable[[Task], int] = perform,
        kept: tuple[int, ...] = (),
    ) -> None:
        super().__init__(name=name)
        # A set of multiprocessing's own tests. Its entry's end would call a function of Python's
        # when this object goes, and what a signal handler raises in that is lost.
        _dangling.discard(self)
        self._sentinel = None  # multiprocessing deletes it in close()
        self.job = job
        self.work = work
        self.kept = kept
        self.attempt = 1
        self.task: Task | None = None
        #: The process itself, once there is one; also after close().
        self.forked: ForkedProcess | None = None

    def start(self) -> None:
        raise AssertionError("a child of pcall is started by Pcall.start()")

    def run(self) -> None:
        """In the child, where it is multiprocessing that runs it: do the job."""
        assert self.task is not None
        raise SystemExit(self.work(self.task))

    def is_alive(self) -> bool:
        if self._popen is None:
            return super().is_alive()
        self._popen.poll()
        return not self._popen.ended

    @property
    def sentinel(self) -> int:
        if self._popen is None:
            raise ValueError("process not started")
        return self._popen.lend_sentinel()


def _close_in(pid: int, fd: int) -> None:
    if os.getpid() == pid:  # a child that frees its copy has closed the number long ago
        os.close(fd)
