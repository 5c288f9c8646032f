"""A child's own state, its handlers of signals, and its hooks for the forks of its target.

All state of a child that is assigned after the fork is in one object, :data:`state`.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from functools import partial
from os import getpid
from signal import SIG_BLOCK, SIG_UNBLOCK, raise_signal
from types import FrameType
from typing import TypedDict

from pcall._errors import TaskCancelled
from pcall._logs.child_logs import ChildLogs
from pcall._os.signals import SIGTERM, set_mask
from pcall.engines.local.child.child_context import Task
from pcall.engines.local.child.worker_main import Worker, copies

__all__ = [
    "SIGTERM_CANCELS",
    "SIGTERM_ENDS",
    "SIGTERM_WAITS",
    "die_of_sigterm",
    "on_sigterm",
    "on_wake",
    "state",
    "whoami",
]

__tracebackhide__ = True  # pytest shows the frames of its user

# The effects of SIGTERM: cancel the target; nothing, while a failure is being answered; end the
# process, once it has answered. The handler reads a variable and is never replaced, because setting
# a handler touches pages that would have to be copied.
SIGTERM_CANCELS, SIGTERM_WAITS, SIGTERM_ENDS = range(3)


class ChildState(TypedDict):
    """The state of this process as a child of this library.

    It is a dict: with it a child on CPython 3.11 touched about 6 pages more, of 320, than with
    variables of the module, and took the same time. With the attributes of an object it touched
    about 13 more, since the first look-up of each writes to the interpreter's type cache.

    Attributes:
        pid: process id of the child; 0 in the parent, and in processes that the target forks.
        leader: process id of the child, also in the processes that the target forks.
        sigterm: the effect of SIGTERM on a call, one of the constants above.
        cancelled: True once a SIGTERM has ended the target.
        task: the work of this process; None: it is no child of this library.
        worker: the worker in a child that runs several calls, else None.
        logs: the set-up of log handlers, or None.
    """

    pid: int
    leader: int
    sigterm: int
    cancelled: bool
    task: Task | None
    worker: Worker | None
    logs: ChildLogs | None


#: Of this process.
state: ChildState = {
    "pid": 0,
    "leader": 0,
    "sigterm": SIGTERM_CANCELS,
    "cancelled": False,
    "task": None,
    "worker": None,
    "logs": None,
}


def die_of_sigterm() -> None:
    """End this process by SIGTERM, with the default action."""
    signal.signal(SIGTERM, signal.SIG_DFL)
    raise_signal(SIGTERM)


def on_sigterm(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM.

    Raises:
        TaskCancelled: in the target, if the signal is meant for its call.
    """
    if getpid() != state["pid"]:  # another process, which the target has forked
        die_of_sigterm()
    if _forking or (frame is not None and frame.f_code in _hooks):
        _postponed[:] = [SIGTERM]
        return
    _postponed.clear()
    worker = state["worker"]
    if worker is not None:
        worker.on_sigterm()
    elif state["sigterm"] == SIGTERM_CANCELS:
        raise TaskCancelled("ended by SIGTERM")
    elif state["sigterm"] == SIGTERM_ENDS:
        die_of_sigterm()


def on_wake(signum: int, frame: object) -> None:
    """Do nothing: the signal has interrupted the system call that was waiting."""


def whoami() -> tuple[int, int, bool]:
    """The child's process id, the index of its call, and whether another call ran before it."""
    worker, task = state["worker"], state["task"]
    if worker is None:
        assert task is not None
        return state["leader"], task.job.index, False
    index = worker.current
    return state["leader"], index, index != worker.first


# In the processes that the target forks (a Process, the workers of a Pool) SIGTERM has its usual
# effect. It is blocked until then: at the start of such a process the interpreter forgets signals
# whose Python handler is due, and a caller that waits for the process's end would wait for ever.
_forking: dict[int, bool] = {}  # by thread that forks, whether SIGTERM was blocked before
_postponed: list[int] = []


def _before_fork() -> None:
    if state["pid"]:
        thread = threading.get_ident()
        _forking[thread] = True
        _forking[thread] = SIGTERM in set_mask(SIG_BLOCK, (SIGTERM,))
        logs = state["logs"]
        for file in logs.files if logs is not None else ():
            file.claim_name()


def _after_fork_in_parent() -> None:
    if state["pid"] and not _forking.pop(threading.get_ident(), True):
        set_mask(SIG_UNBLOCK, (SIGTERM,))


def _after_fork_in_child() -> None:
    if state["pid"]:
        state["pid"] = 0
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
# An exception raised in a hook is lost. So a SIGTERM that arrives in a hook is handled after the
# last one, which is this: in C from end to end, it makes each postponed signal due as if it had
# just arrived.
os.register_at_fork(after_in_parent=partial(_postponed.sort, key=_thread.interrupt_main))
