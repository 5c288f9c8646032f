"""Everything that runs after the fork, and nothing that runs in the parent.

A child starts with a copy of whatever the parent's threads were doing. Before the target
runs, what would act for the parent (wake-up descriptors, exit handlers) is taken off, and
what another thread may have held at the fork (locks of streams and of half-done imports)
is renewed. Signals stay blocked from before the fork until the target's handler is in place,
so that none is lost and none is raised where nobody could answer for it.

Each page that a child touches is copied first, and for a short call that is most of the cost.
Therefore what children need is made in the parent, handed over in tuples, and functions
are imported by name: to look an attribute up writes to the interpreter's caches. To use an
object is to count a reference, and to free one is to write to what lies around it.
"""

from __future__ import annotations

import _thread
import contextvars
import io
import os
import signal
import sys
import threading
from atexit import _ncallbacks, _run_exitfuncs
from collections.abc import Callable, Mapping
from functools import partial
from itertools import starmap
from multiprocessing.process import BaseProcess
from operator import call
from os import _exit, access, getpid, getppid
from signal import SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGKILL, raise_signal
from types import CoroutineType, FrameType
from typing import Any, NamedTuple, NoReturn

from pcall._errors import TaskCancelled
from pcall._logs.child_logs import ChildLogs
from pcall._os.signals import SIGTERM, set_mask
from pcall._os.system import Steps, System
from pcall._wire.encode import write_error, write_value
from pcall.engines.invoke import log_failure, run_if_coroutine
from pcall.engines.local.child.bootstrap import Bootstrap, begin, end, whole
from pcall.engines.local.child.worker_main import Worker, copies
from pcall.engines.local.seeding import Seeds, seed
from pcall.engines.local.std_streams import flush_std_streams, renew_streams

__all__ = [
    "ChildContext",
    "Parts",
    "Task",
    "live",
    "on_sigterm",
    "on_wake",
    "perform",
    "serve",
    "whoami",
]


class ChildContext(NamedTuple):
    """What the children of a run are told alike, and nothing that they have no use for.

    Attributes:
        parent: process id of the parent.
        bootstrap: how to become a multiprocessing child.
        system: the operating system's services.
        context: the caller's context variables.
        run: calls something in it.
        seeds: what to seed random generators from.
        stdin: a text stream of descriptor 0 that nobody has read from, or None.
        logs: what becomes of log handlers, where there are any.
        mask: the signals that were blocked before the fork.
        threads: True when the parent has other threads at the fork.
        exits: how many exit handlers there are when the target has registered none.
    """

    parent: int
    bootstrap: Bootstrap
    system: System
    context: contextvars.Context
    run: Callable[..., Any]
    seeds: Seeds | None
    stdin: io.TextIOBase | None
    logs: ChildLogs | None = None
    mask: tuple[int, ...] = ()
    threads: bool = False
    exits: int = 0


#: Index, target, positional and keyword arguments of a call.
Parts = tuple[int, Any, tuple[Any, ...], Mapping[str, Any]]


class Task(NamedTuple):
    """What one child is told.

    Attributes:
        child: the process object that is to be this process.
        job: the call to make, or the lane in which calls come.
        parts: of that call: to take them from it touches more than they do.
        answer: descriptor of the file for the answer.
        attempt: the number of the call's attempt, from 1.
        steps: what to do first, see :mod:`pcall._steps`.
        work: does the job, and returns the status to exit with.
        around: the rest.
    """

    child: BaseProcess
    job: Any
    parts: Parts | None
    answer: int
    attempt: int
    steps: Steps
    work: Callable[[Task], int]
    around: ChildContext


# What SIGTERM does: cancel the target; nothing, while a failure is being answered; end the
# process, once it has answered. A variable in place of another handler, because to set a
# handler touches pages that would have to be copied.
_CANCELS, _WAITS, _ENDS = range(3)
_sigterm = _CANCELS
_pid = 0
_cancelled = False
# For logs, also of what this child forks: its number and its call, or where calls come from.
_leader = 0
_job: Any = None
_worker: Worker | None = None
_logs: ChildLogs | None = None


def live(task: Task) -> NoReturn:
    """The whole life of a child, from the fork to its end."""
    global _cancelled, _job, _leader, _logs, _pid, _sigterm, _worker
    child, _job, _, answer, _, steps, work, around = task
    parent, bootstrap, _, _, _, _, _, logs, _, threads, exits = around
    known, _, _, _, _ = bootstrap
    status, begun = 1, False
    try:
        _cancelled, _sigterm, _pid, _worker = False, _CANCELS, getpid(), None
        for _ in starmap(call, steps):
            pass
        if getppid() != parent:
            _exit(1)  # it died before it was watched
        if threads:
            renew_streams()
            _forget_unfinished_imports()
        _logs, _leader = logs, _pid
        if logs is not None:
            _, changes, files, paths = logs
            for change, new in changes:
                change(new)
            for path in paths:
                if access(f"{path}:pid-{_pid}", 0):
                    for file in files:
                        file.claim_name()
        if known:
            begin(child, bootstrap)
            begun = True
            status = work(task)
            end()
        else:
            # It would make a new stdin here; it makes none where there is none.
            sys.stdin = None
            child.task = task  # type: ignore[attr-defined]
            begun = True
            status = whole(child, bootstrap)
    except BaseException as error:
        # Somebody's after-fork hook, for one: it would be told of as an exit without a reason.
        if not begun and work is perform:
            write_error(answer, error)
        raise
    finally:
        try:
            if _ncallbacks() != exits:
                _run_exitfuncs()
            flush_std_streams()
        finally:
            if getppid() != parent:
                # Nobody is left to end what the target started: do it here, and go with it.
                os.killpg(0, SIGKILL)
            if _cancelled:
                # The status tells what ended it, although it had time to clean up.
                _die_of_sigterm()
            _exit(status)


def _die_of_sigterm() -> None:
    signal.signal(SIGTERM, signal.SIG_DFL)
    raise_signal(SIGTERM)


def on_sigterm(signum: int, frame: FrameType | None) -> None:
    if getpid() != _pid:  # another process, which the target made with a fork of its own
        _die_of_sigterm()
    if _forking or (frame is not None and frame.f_code in _hooks):
        _postponed[:] = [SIGTERM]
        return
    _postponed.clear()
    if _worker is not None:
        _worker.on_sigterm()
    elif _sigterm == _CANCELS:
        raise TaskCancelled("SIGTERM")
    elif _sigterm == _ENDS:
        _die_of_sigterm()


# In the processes that the target forks (a Process, the workers of a Pool) SIGTERM does what it
# does in any. It is blocked until then: the interpreter forgets at their start what a handler
# of Python's was to be called for, and who waits for their end would wait for ever.
_forking: dict[int, bool] = {}  # by thread that forks, whether SIGTERM was blocked before
_postponed: list[int] = []


def _before_fork() -> None:
    if _pid:
        thread = threading.get_ident()
        _forking[thread] = True
        _forking[thread] = SIGTERM in set_mask(SIG_BLOCK, (SIGTERM,))
        if _logs is not None:
            for file in _logs.files:
                file.claim_name()


def _after_fork_in_parent() -> None:
    if _pid and not _forking.pop(threading.get_ident(), True):
        set_mask(SIG_UNBLOCK, (SIGTERM,))


def _after_fork_in_child() -> None:
    global _pid
    if _pid:
        _pid = 0
        copies.append(1)
        _postponed.clear()
        if signal.getsignal(SIGTERM) is on_sigterm:
            signal.signal(SIGTERM, signal.SIG_DFL)
        if not _forking.pop(threading.get_ident(), True):
            set_mask(SIG_UNBLOCK, (SIGTERM,))
        _forking.clear()


_hooks = {_before_fork.__code__, _after_fork_in_parent.__code__}
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
# What is raised in a hook is lost. So a SIGTERM that comes in one is handled after the last, which
# is this: C from end to end, it has each signal that was put off seen as if it had just come.
os.register_at_fork(after_in_parent=partial(_postponed.sort, key=_thread.interrupt_main))


def on_wake(signum: int, frame: object) -> None:
    """Nothing; but a system call that waited has been broken off for it."""


def whoami() -> tuple[int, int, bool]:
    """For logs: this child's process id, the index of its call, and whether it had another."""
    if _worker is None:
        return _leader, _job.index, False
    index = _worker.current
    return _leader, index, index != _worker.first


def perform(task: Task) -> int:
    """Call the target, answer, and return the status for the process to end with."""
    global _sigterm
    _, _, parts, answer, attempt, _, _, around = task
    assert parts is not None
    index, target, args, kwargs = parts
    _, _, _, _, run, seeds, stdin, _, mask, _, _ = around
    pid = getpid()
    failure: BaseException | None = None
    try:
        try:
            sys.stdin = stdin
            set_mask(SIG_SETMASK, mask)
            if seeds is not None:
                seed(seeds, index, attempt)
            value = run(target, *args, **kwargs)
            if isinstance(value, CoroutineType):
                value = run(run_if_coroutine, value)
            if getpid() != pid:
                _exit(0)  # a copy that the target forked has come back from it
            write_value(answer, value)
            _sigterm = _ENDS
        except BaseException as error:
            # A second SIGTERM must not cost the answer; a stuck one ends by SIGKILL.
            _sigterm = _WAITS
            failure = error
    except TaskCancelled as error:  # it came between the lines above
        _sigterm = _WAITS
        failure = error
    if getpid() != pid:
        _exit(0)
    return 0 if failure is None else _fail(failure, task)


def serve(task: Task) -> int:
    """Make call after call, and return the status for the process to end with."""
    global _cancelled, _worker
    around = task.around
    sys.stdin = around.stdin
    copies.clear()
    _worker = worker = task.job.make(task.job, task.answer, around.system, around.seeds, on_sigterm)
    _cancelled = worker.serve(around.context, around.mask)
    return 1 if _cancelled else 0


def _fail(failure: BaseException, task: Task) -> int:
    """Answer with the failure, tell the log, and return the status to exit with."""
    global _cancelled, _sigterm
    # Before anything that can block or fail, such as a handler of the user's.
    write_error(task.answer, failure)
    log_failure(task.job, failure)
    _cancelled = isinstance(failure, TaskCancelled)
    _sigterm = _ENDS
    if isinstance(failure, SystemExit) and (failure.code is None or type(failure.code) is int):
        return failure.code or 0
    return 1


def _forget_unfinished_imports() -> None:
    """Let this process import anew what another thread was importing at the fork.

    That thread holds the module's lock, for ever here. The interpreter renews its global
    import lock after a fork, but not those of modules.
    """
    locks: dict[str, Any] = sys.modules["_frozen_importlib"]._module_locks
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            locks.pop(name, None)
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if getattr(spec, "_initializing", False):
                del sys.modules[name]
