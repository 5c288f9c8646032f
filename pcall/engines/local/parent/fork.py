"""Forks children, several at a time, and makes the first steps that each takes.

After a fork each page that the parent touches is copied, and again after each further fork. So
as much as possible is done before the first or after the last of several forks.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import threading
from atexit import _clear, _ncallbacks, register
from collections.abc import Iterable, Iterator, Sequence
from gc import freeze
from itertools import starmap
from os import closerange, dup2, setpgid
from signal import set_wakeup_fd
from time import monotonic
from typing import Any

from pcall._core.records import Call
from pcall._os.capacity import resident_memory
from pcall._os.fork_warning import fork_warns, ignore_fork_warning
from pcall._os.private_fds import private_fds, register_private_fd, unregister_private_fd
from pcall._os.signals import (
    SIGCONT,
    SIGTERM,
    deferred_handlers,
    deferring,
    restore_handlers_in_child,
    set_handler,
)
from pcall._os.system import Steps, System
from pcall._tuning import LONGEST_FORK_BURST
from pcall.engines.local.child.child_context import CallParts, ChildContext, Task
from pcall.engines.local.child.child_main import run_child
from pcall.engines.local.child.child_state import on_sigterm, on_wake
from pcall.engines.local.parent.captured_output import make_output_files, redirect_steps
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.std_streams import flush_std_streams

__all__ = ["fork_all", "make_steps", "unread_stdin"]

__tracebackhide__ = True  # pytest shows the frames of its user

_ONCE: tuple[tuple[()], ...] = ((),)

# Run the target's exit handlers, as multiprocessing does since Python 3.13, and drop the parent's.
# Dropping them frees many objects, so it is done only if the target has registered a handler: the
# child registers one that clears the rest, and runs after the target's, since the last one runs
# first. Python 3.14 runs all handlers that exist when the first one runs, so there the child clears
# them at its start.
_CLEAR_AT_EXIT = sys.version_info < (3, 14)
_clear_exit_handlers = (register, _clear) if _CLEAR_AT_EXIT else (_clear,)

# The first steps of the children of all runs, made once, side by side in memory.
_COMMON_STEPS: Steps = (
    _clear_exit_handlers,
    # A process group of its own: signals then reach all that the target starts, and a Ctrl-C at
    # the terminal goes only to the parent, which decides.
    (setpgid, 0, 0),
    # The objects from before the fork are not worth collecting, and examining them would copy
    # their pages.
    (freeze,),
    # The signals of this process must not wake the parent's event loop.
    (set_wakeup_fd, -1),
    (set_handler, SIGTERM, on_sigterm),
    (set_handler, SIGCONT, on_wake),
)


@functools.cache
def _open_stdin() -> io.TextIOBase:
    return open(0, encoding="utf-8", closefd=False)


def unread_stdin() -> io.TextIOBase | None:
    """A text stream of descriptor 0 with an empty buffer; None if there is no stdin.

    It is made once, in the parent, and installed in each child, where descriptor 0 is /dev/null.
    """
    if sys.stdin is None:
        return None
    try:
        return _open_stdin()
    except OSError:
        return None  # closed


def make_steps(watch: Steps, null: int, closed: Iterable[int]) -> Steps:
    """The first steps of every child of a run.

    Args:
        watch: the steps by which a child exits when its parent does.
        null: descriptor of /dev/null.
        closed: the standard streams that are closed. A file that the child opens would get the
            number of one, and whatever is printed.
    """
    silent = ((dup2, null, fd, False) for fd in closed if fd != 0)
    return (*_COMMON_STEPS, *watch, *silent, (dup2, null, 0))


def fork_all(
    children: Sequence[ChildProcess],
    child_context: ChildContext,
    mask: tuple[int, ...],
    steps: Steps,
    shared: Iterable[int],
    capture: bool = False,
    profile: bool = False,
) -> None:
    """Fork these children in quick succession. The caller defers signals.

    If this raises, the children that have a :attr:`ChildProcess.forked` have been forked. It also
    returns early when forking takes long: then the remaining children have none.

    Args:
        children: the children to fork.
        child_context: shared by all of them.
        mask: the signals that were blocked before the caller deferred signals.
        steps: of :func:`make_steps`.
        shared: this library's descriptors that all of them keep open.
        capture: True to capture the output of each in files of its own.
        profile: True to give each a file for profiles.

    Raises:
        OSError: there is no room for one of the children.
    """
    system = child_context.system
    answers: list[int] = []
    outputs: list[tuple[int, int]] = []
    profiles: list[int] = []
    pairs: list[tuple[int, int] | None] = []
    tasks: list[Task] = []
    pids: list[int] = []
    starts: list[float] = []
    rss = resident_memory()
    try:
        try:
            for _ in children:
                answers.append(system.make_answer_file())
                register_private_fd(answers[-1])
                if capture:
                    outputs.append(make_output_files(system))
                    for fd in outputs[-1]:
                        register_private_fd(fd)
                if profile:
                    profiles.append(_make_profile_file(system))
                    register_private_fd(profiles[-1])
                pairs.append(system.before_fork())
                for fd in pairs[-1] or ():
                    register_private_fd(fd)
        except OSError:
            if len(pairs) == 0:
                raise  # else there is room for some of them: fork these
        flush_std_streams()
        child_context = child_context._replace(
            mask=mask,
            threads=threading.active_count() > 1,
            exits=_ncallbacks() + 1 if _CLEAR_AT_EXIT else 0,
        )
        steps = (*_restore_steps(), (deferring.clear,), *steps)
        others = list(_ranges(private_fds().difference(shared)))
        for number, (child, answer, pair) in enumerate(zip(children, answers, pairs, strict=False)):
            output = outputs[number] if capture else None
            profile_fd = profiles[number] if profile else None
            kept = (answer, *child.kept, *(pair or ())[1:], *(output or ()))
            if profile_fd is not None:
                kept = (*kept, profile_fd)
            # A sibling's copy of the descriptor would keep a result alive that the parent has
            # dropped. Also, the target needs the descriptors if few are allowed.
            closing = ((closerange, *each) for each in _without(kept, others))
            own = child.context
            if own is not None:
                own_run = own.run if child_context.profiled is None else child_context.run
            tasks.append(
                Task(
                    child,
                    child.job,
                    _call_parts(child.job),
                    answer,
                    child.attempt,
                    (*steps, *(redirect_steps(output) if output else ()), *closing),
                    child.work,
                    child_context
                    if own is None
                    else child_context._replace(context=own, run=own_run),
                    output,
                    profile_fd,
                )
            )
        _fork_each(tasks, pids, starts)
    finally:
        for child, answer, pair, pid, started in zip(
            children, answers, pairs, pids, starts, strict=False
        ):
            output = outputs.pop(0) if capture else None
            profile_fd = profiles.pop(0) if profile else None
            child.forked = child._popen = ForkedProcess(
                pid, started, rss, system, answer, pair, output, profile_fd
            )
        for fd in [
            *answers[len(pids) :],
            *(fd for output in outputs for fd in output),
            *profiles,
            *(fd for pair in pairs[len(pids) :] for fd in pair or ()),
        ]:
            unregister_private_fd(fd)
            os.close(fd)


def _make_profile_file(system: System) -> int:
    """A file for the profiles of one child."""
    fd = system.make_answer_file()
    os.ftruncate(fd, 0)  # some systems reserve room in it
    return fd


def _restore_steps() -> Steps:
    """The first steps of a child: handlers that are deferred here are not in a child."""
    if threading.current_thread() is threading.main_thread():
        restore = ((set_handler, *each) for each in deferred_handlers.items())
        return (*restore, (deferred_handlers.clear,))
    # Handlers are the main thread's, which goes on changing them until the fork.
    return ((restore_handlers_in_child,),)


def _call_parts(job: Any) -> CallParts | None:
    return (job.index, job.target, job.args, job.kwargs) if isinstance(job, Call) else None


def _ranges(fds: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Group the numbers into ranges without gaps: the first number, and the last plus one."""
    start = stop = -1
    for fd in sorted(fds):
        if fd != stop:
            if start >= 0:
                yield start, stop
            start = fd
        stop = fd + 1
    if start >= 0:
        yield start, stop


def _without(kept: Iterable[int], ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut the kept numbers out of the ranges."""
    gaps = sorted(kept)
    for start, stop in ranges:
        for fd in gaps:
            if start <= fd < stop:
                if start < fd:
                    yield start, fd
                start = fd + 1
        if start < stop:
            yield start, stop


def _fork_each(tasks: list[Task], pids: list[int], starts: list[float]) -> None:
    born = _fork_until_born(tasks, pids, starts, fork_warns())
    if born is None:
        return
    try:
        run_child(born)
    finally:
        # Even if a signal handler raises in the last lines of a child, the child never returns to
        # the parent's code.
        os._exit(1)


def _fork_until_born(
    tasks: list[Task], pids: list[int], starts: list[float], warns: bool
) -> Task | None:
    """Fork once for each task. Returns None in the parent, and its task in a child."""
    fork = os.fork  # looked up here, since it may have been replaced
    for task in tasks:
        starts.append(monotonic())
        if warns:
            ignore_fork_warning()  # another thread may have changed the filters since the last one
        # In C from the system call to the list: a signal handler that raises between two
        # bytecodes can't lose the process id of a child.
        pids.extend(starmap(fork, _ONCE))
        if not pids[-1]:
            return task
        if starts[-1] - starts[0] > LONGEST_FORK_BURST:
            break
    return None
