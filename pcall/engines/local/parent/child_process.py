"""A child in its parent: sentinel, signals, and reaping with resource usage."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from multiprocessing.process import _dangling  # type: ignore[attr-defined]
from typing import Any

from pcall._os.capacity import RSS_UNIT
from pcall._os.private_fds import above_streams, register_private_fd, unregister_private_fd
from pcall._os.process_groups import signal_group
from pcall._os.signals import DeferSignals
from pcall._os.system import System
from pcall._os.waiting import POLLIN, poll
from pcall.engines.local.child.child_context import Task
from pcall.engines.local.child.child_main import perform

__all__ = ["ChildProcess", "ForkedProcess"]

_log = logging.getLogger("pcall")


class ForkedProcess:
    """A forked process, until and after its end. multiprocessing calls this a ``Popen``.

    Args:
        pid: process id.
        started: time of the fork, on the monotonic clock.
        rss: bytes of resident memory at the fork.
        system: the operating system's services.
        answer: descriptor of the file for its answer.
        pair: of :meth:`~pcall._os.system.System.before_fork`.
        output: descriptors of the files for its stdout and stderr; None: they are not captured.
        profile: descriptor of the file for profiles; None: its calls are not profiled.

    Attributes:
        pid: process id.
        sentinel: descriptor that becomes readable at its end, or None.
        answer: descriptor of the file for its answer.
        output: descriptors of the files for its stdout and stderr, or None.
        output_end: of a worker: where the output of its last recorded call ends in these files.
        profile: descriptor of the file for profiles, or None.
        started: time of the fork, on the monotonic clock.
        rss: bytes of resident memory at the fork.
        ended: True once it is known to have ended.
        ended_by_itself: True if it is known that no signal has ended it.
        returncode: exit code as in multiprocessing; None if it is unknown.
        cpu_time: seconds of processor time that it used, or None.
        max_rss: bytes of its peak resident memory, or None.
        leftovers: True if processes that it started were still alive at its end.
    """

    def __init__(
        self,
        pid: int,
        started: float,
        rss: int,
        system: System,
        answer: int,
        pair: tuple[int, int] | None,
        output: tuple[int, int] | None = None,
        profile: int | None = None,
    ) -> None:
        self.pid = pid
        self.started = started
        self.rss = rss
        self.answer: int = answer
        self.output = output
        self.output_end: tuple[int, int] = (0, 0)
        self.profile = profile
        self._system = system
        # Reentrant, since a signal handler of the user's may interrupt a method and end the run.
        self._lock = threading.RLock()
        self._lent = False
        self.ended: bool = False
        self.ended_by_itself: bool = False
        self.leftovers: bool = False
        self.returncode: int | None = None
        self.cpu_time: float | None = None
        self.max_rss: int | None = None
        if pair is not None:
            unregister_private_fd(pair[1])
        self.sentinel = system.sentinel(pid, pair)
        if self.sentinel is not None:
            register_private_fd(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Reap it if it has ended; returns its exit code, or None."""
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
            # It has ended, but another wait of this process has reaped it, or SIGCHLD is ignored
            # and the kernel keeps no status.
            self.returncode = self._system.exit_code(self.sentinel)
        else:
            if pid == 0:
                return
            self.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_time = usage.ru_utime + usage.ru_stime
            self.max_rss = usage.ru_maxrss * RSS_UNIT
        self.ended = True
        # The group outlives its leader while one of its processes runs, and its number is not
        # reused until then. An empty group ends with the leader. The programs of a child that has
        # ended by itself have time to do the same; those of one that was killed are ended.
        self.ended_by_itself = self.returncode is not None and self.returncode >= 0
        self.leftovers = signal_group(self.pid, 0 if self.ended_by_itself else signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; returns its exit code, or None.

        Args:
            timeout: seconds to wait at most; None: no limit.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None and not self.ended:
            left = 0.05 if end is None else min(0.05, end - time.monotonic())
            if left <= 0:
                break
            if self.sentinel is None:
                time.sleep(left)
            else:
                poller = poll()
                poller.register(self.sentinel, POLLIN)
                poller.poll(left * 1000)
        return self.returncode

    def signal(self, number: int) -> None:
        """Send a signal to it and to the processes that it has started, unless it has ended.

        Args:
            number: of the signal.
        """
        with self._lock:  # no other thread may reap it meanwhile and free its process id
            if not self.ended:
                self._reap(os.WNOHANG)
            if self.ended:
                return
            try:
                if not signal_group(self.pid, number):
                    os.kill(self.pid, number)  # it has no group of its own yet
                if number == signal.SIGTERM:
                    # A stopped process can't handle it. timeout(1) does the same.
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
        """Make it run the handler of the SIGTERM that it was sent.

        A Python handler runs between two bytecodes. If the signal came after the last bytecode
        before a blocking system call, the handler would run only after that call. Another handled
        signal interrupts the call. Nothing else reacts to a SIGCONT.
        """
        with self._lock:
            if not self.ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM, as :meth:`signal` does."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, as :meth:`signal` does."""
        self.signal(signal.SIGKILL)

    def lend_sentinel(self) -> int:
        """The sentinel for the user, valid as long as this object lives."""
        if self.sentinel is None:
            # It has ended, or no descriptor could be had: make one that is always readable.
            with DeferSignals():
                reader, writer = os.pipe()
                os.close(writer)
                self.sentinel = above_streams(reader)
        if not self._lent:
            self._lent = True
            weakref.finalize(self, _close_in, os.getpid(), self.sentinel).atexit = False
        return self.sentinel

    def release(self) -> None:
        """Close its descriptors; a sentinel that the user has stays open."""
        answer, self.answer = self.answer, -1
        if answer >= 0:  # else it was released before
            unregister_private_fd(answer)
            os.close(answer)
        output, self.output = self.output, None
        profile, self.profile = self.profile, None
        for fd in (*(output or ()), *(() if profile is None else (profile,))):
            unregister_private_fd(fd)
            os.close(fd)
        if self.sentinel is not None:
            unregister_private_fd(self.sentinel)
            if not self._lent:
                os.close(self.sentinel)
                self.sentinel = None

    def close(self) -> None:
        """Do nothing: the engine releases it at its end."""


class ChildProcess(multiprocessing.Process):
    """A child, with the interface of ``multiprocessing.Process``.

    Only its run starts it, with :func:`pcall.engines.local.parent.fork.fork_all`.

    Args:
        name: see ``multiprocessing.Process``.
        job: the call to make, or the specification of a worker.
        work: does the job, in the child.
        kept: private descriptors of the parent that stay open in this child.

    Attributes:
        job: the call to make, or the specification of a worker.
        work: does the job, in the child.
        kept: private descriptors of the parent that stay open in this child.
        attempt: the number of the call's attempt, from 1.
        context: the context variables that the call sees; None: those of the run.
        task: in the child, if multiprocessing runs it: the task.
        forked: the process itself, once it has been forked; also after ``close()``.
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
        # multiprocessing's own tests use this set. Removing the entry when this object is freed
        # would call a Python function, and an exception of a signal handler in it would be lost.
        _dangling.discard(self)
        self._sentinel = None  # multiprocessing deletes it in close()
        self.job = job
        self.work = work
        self.kept = kept
        self.attempt = 1
        self.context: Context | None = None
        self.task: Task | None = None
        self.forked: ForkedProcess | None = None

    def start(self) -> None:
        raise AssertionError("a child of pcall is started by Pcall.start()")

    def run(self) -> None:
        """In the child, if multiprocessing runs it: do the job."""
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
    if os.getpid() == pid:  # a child that frees its copy has closed the descriptor before
        os.close(fd)
