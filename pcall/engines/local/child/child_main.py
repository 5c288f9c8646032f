"""The main functions of a child: everything that runs between the fork and its exit.

A child starts as a copy of its parent, whatever the parent's threads were doing. Before the target
runs, the child removes what would act for the parent (wake-up descriptors, exit handlers), and
renews what another thread may have held at the fork (locks of streams, of numpy's generator and of
unfinished imports).
Signals stay blocked from before the fork until the target's handler is in place, so that none is
lost and none is raised where nothing could report it.

Each page that a child touches is copied first, and for a short call that is most of the cost. So
the parent prepares what children need and hands it over in tuples, and functions are imported by
name: an attribute look-up writes to the interpreter's caches. Using an object counts a reference,
and freeing one writes to the memory around it.
"""

from __future__ import annotations

import os
import sys
import threading
from atexit import _ncallbacks, _run_exitfuncs
from os import _exit, access, getpid, getppid
from signal import SIG_SETMASK, SIGKILL
from types import CoroutineType
from typing import Any, NoReturn

from pcall._errors import TaskCancelled
from pcall._os.signals import set_mask
from pcall._wire.encode import write_error, write_value
from pcall.engines.invoke import log_failure, run_if_coroutine
from pcall.engines.local.child.bootstrap import become_process, bootstrap_process, finish_process
from pcall.engines.local.child.child_context import Task
from pcall.engines.local.child.child_state import (
    SIGTERM_CANCELS,
    SIGTERM_ENDS,
    SIGTERM_WAITS,
    die_of_sigterm,
    on_sigterm,
    state,
)
from pcall.engines.local.child.worker_main import copies
from pcall.engines.local.seeding import free_lock, seed
from pcall.engines.local.std_streams import flush_std_streams, renew_streams

__all__ = ["perform", "run_child", "serve"]


def run_child(task: Task) -> NoReturn:
    """Run a child from the fork to its exit.

    Args:
        task: the work of this child.
    """
    child, _, _, answer, _, steps, work, child_context, _, _ = task
    parent, bootstrap, _, _, _, _, _, logs, _, threads, exits, _, _, _ = child_context
    known, _, _, _, _ = bootstrap
    status, begun = 1, False
    try:
        state["pid"] = state["leader"] = pid = getpid()
        state["task"] = task
        state["cancelled"], state["sigterm"], state["worker"] = False, SIGTERM_CANCELS, None
        for step in steps:
            step[0](*step[1:])
        if getppid() != parent:
            _exit(1)  # the parent died before this process could watch it
        if threads:
            renew_streams()
            free_lock()
            _forget_unfinished_imports()
        state["logs"] = logs
        if logs is not None:
            _, changes, files, paths = logs
            for change, new in changes:
                change(new)
            for path in paths:
                if access(f"{path}:pid-{pid}", 0):
                    for file in files:
                        file.claim_name()
        if known:
            become_process(child, bootstrap)
            begun = True
            status = work(task)
            finish_process()
        else:
            # multiprocessing would open a new stdin here; it opens none if there is none.
            sys.stdin = None
            child.task = task  # type: ignore[attr-defined]
            begun = True
            status = bootstrap_process(child, bootstrap)
    except BaseException as error:
        # A user's after-fork hook, for example: it would be reported as an exit without a reason.
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
                # No parent is left to kill the processes that the target started: kill the whole
                # group, and this process with it.
                os.killpg(0, SIGKILL)
            if state["cancelled"]:
                # The exit status names the signal, although the target had time to clean up.
                die_of_sigterm()
            _exit(status)


def perform(task: Task) -> int:
    """Run one call, write its answer, and return the exit status."""
    _, _, parts, answer, attempt, _, _, child_context, _, _ = task
    assert parts is not None
    index, target, args, kwargs = parts
    _, _, _, _, run, seeds, stdin, _, mask, _, _, _, initialize, _ = child_context
    pid = getpid()
    failure: BaseException | None = None
    try:
        try:
            sys.stdin = stdin
            set_mask(SIG_SETMASK, mask)
            if initialize is not None:
                child_context.context.run(initialize)  # not profiled
            if seeds is not None:
                seed(seeds, index, attempt)
            value = run(target, *args, **kwargs)
            if isinstance(value, CoroutineType):
                value = run(run_if_coroutine, value)
            if getpid() != pid:
                _exit(0)  # the target has forked a copy, which has returned from it
            write_value(answer, value)
            state["sigterm"] = SIGTERM_ENDS
        except BaseException as error:
            # A second SIGTERM must not lose the answer. If writing it hangs, SIGKILL ends it.
            state["sigterm"] = SIGTERM_WAITS
            failure = error
    except TaskCancelled as error:  # raised between the lines above
        state["sigterm"] = SIGTERM_WAITS
        failure = error
    if getpid() != pid:
        _exit(0)
    return 0 if failure is None else _fail(failure, task)


def serve(task: Task) -> int:
    """Run call after call as a worker, and return the exit status."""
    child_context = task.child_context
    sys.stdin = child_context.stdin
    copies.clear()
    state["worker"] = worker = task.job.make(
        task.job, task.answer, child_context.system, child_context.seeds, on_sigterm
    )
    worker.capture(task.output)
    worker.initialize = child_context.initialize
    if task.profile is not None:
        assert child_context.profiled is not None
        worker.profile(child_context.profiled, task.profile)
    state["cancelled"] = worker.serve(child_context.context, child_context.mask)
    return 1 if state["cancelled"] else 0


def _fail(failure: BaseException, task: Task) -> int:
    """Answer with the failure, log it, and return the exit status."""
    # First, since a handler of the user's, for example, can block or fail.
    write_error(task.answer, failure)
    log_failure(task.job, failure)
    state["cancelled"] = isinstance(failure, TaskCancelled)
    state["sigterm"] = SIGTERM_ENDS
    if isinstance(failure, SystemExit) and (failure.code is None or type(failure.code) is int):
        return failure.code or 0
    return 1


def _forget_unfinished_imports() -> None:
    """Let this process import again the modules that another thread was importing at the fork.

    That thread holds the module's lock, which is never released here. The interpreter renews its
    global import lock after a fork, but not those of modules.
    """
    locks: dict[str, Any] = sys.modules["_frozen_importlib"]._module_locks
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            locks.pop(name, None)
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if getattr(spec, "_initializing", False):
                del sys.modules[name]
