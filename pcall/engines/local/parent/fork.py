"""Forking children, several at a time, and what each does first.

After a fork each page that the parent touches is copied, and that for each fork: so all that
can be done before the first or after the last of several forks is done there.
"""

from __future__ import annotations

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
from pcall._os.fork_warning import fork_warns, no_warning
from pcall._os.private_fds import private_fds, register_private_fd, unregister_private_fd
from pcall._os.signals import SIGCONT, SIGTERM, put_off, set_handler
from pcall._os.system import Steps
from pcall.engines.local.child.child_main import (
    ChildContext,
    Parts,
    Task,
    live,
    on_sigterm,
    on_wake,
)
from pcall.engines.local.parent.child_process import ChildProcess, ForkedProcess
from pcall.engines.local.std_streams import flush_std_streams

__all__ = ["fork_all", "make_steps", "unread_stdin"]

_LONGEST_BURST = 0.05  # seconds of forks after which ends and deadlines get a look
_ONCE: tuple[tuple[()], ...] = ((),)

# The parent's exit handlers are the parent's; those of the target run at the end, as
# multiprocessing has it since Python 3.13. To drop the former is to free many objects; so what
# runs after the target's own, where there are any, is what drops the others. From 3.14 on it
# would come too late: those that there are when the first one runs are run.
_EXITS_CAN_END = sys.version_info < (3, 14)
_own_exits = (register, _clear) if _EXITS_CAN_END else (_clear,)

# What the children of all runs do first: made here once, side by side.
_SAME: Steps = (
    _own_exits,
    # A group of its own: what the target starts is signalled with it, and a Ctrl-C
    # at the terminal goes to the parent alone, which decides.
    (setpgid, 0, 0),
    # What was there before the fork is not worth collecting, and to look at it
    # would copy its pages.
    (freeze,),
    # The parent's event loop must not be woken by signals of this process.
    (set_wakeup_fd, -1),
    (set_handler, SIGTERM, on_sigterm),
    (set_handler, SIGCONT, on_wake),
)

_stdin: io.TextIOBase | None = None


def unread_stdin() -> io.TextIOBase | None:
    """A text stream of descriptor 0 with nothing in its buffer; None where there is none.

    Made once, here, and put in place in each child, where descriptor 0 is /dev/null.
    """
    global _stdin
    if _stdin is None and sys.stdin is not None:
        try:
            _stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        except OSError:
            return None  # closed
    return _stdin if sys.stdin is not None else None


def make_steps(watch: Steps, null: int) -> Steps:
    """What every child of a run does first.

    All of it is C functions, called from C: these count no references to what they are and
    what they get, so that the pages of that are not copied.

    Args:
        watch: what it does in order to end when the parent does.
        null: descriptor of /dev/null.
    """
    return (*_SAME, *watch, (dup2, null, 0))


def fork_all(
    children: Sequence[ChildProcess],
    around: ChildContext,
    mask: tuple[int, ...],
    steps: Steps,
    shared: Iterable[int],
) -> None:
    """Fork these children, one right after the other, with signals held back by the caller.

    Where this raises, those that have a :attr:`ChildProcess.forked` were forked.

    Args:
        children: those to fork.
        around: what they are told.
        mask: the signals that were blocked before the caller held them back.
        steps: of :func:`make_steps`.
        shared: descriptors of this library's that all of them are to have.
    """
    system = around.system
    answers: list[int] = []
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
                pairs.append(system.before_fork())
                for fd in pairs[-1] or ():
                    register_private_fd(fd)
        except OSError:
            if len(pairs) == 0:
                raise  # else: no room for all of them, but for these
        flush_std_streams()
        around = around._replace(
            mask=mask,
            threads=threading.active_count() > 1,
            exits=_ncallbacks() + 1 if _EXITS_CAN_END else 0,
        )
        # What is put off here is not in a child, and is forgotten there.
        back = ((set_handler, *each) for each in put_off.items())
        steps = (*back, (put_off.clear,), *steps)
        others = list(_ranges(private_fds().difference(shared)))
        for child, answer, pair in zip(children, answers, pairs, strict=False):
            kept = (answer, *child.kept, *(pair or ())[1:])
            # A result that the parent has dropped would live on in a sibling's copy of
            # the descriptor; and where descriptors are few, the target needs them.
            closing = ((closerange, *each) for each in _without(kept, others))
            tasks.append(
                Task(
                    child,
                    child.job,
                    _parts(child.job),
                    answer,
                    child.attempt,
                    (*steps, *closing),
                    child.work,
                    around,
                )
            )
        _fork_each(tasks, pids, starts)
    finally:
        for child, answer, pair, pid, started in zip(
            children, answers, pairs, pids, starts, strict=False
        ):
            child.forked = child._popen = ForkedProcess(pid, started, rss, system, answer, pair)
        for fd in [
            *answers[len(pids) :],
            *(fd for pair in pairs[len(pids) :] for fd in pair or ()),
        ]:
            unregister_private_fd(fd)
            os.close(fd)


def _parts(job: Any) -> Parts | None:
    return (job.index, job.target, job.args, job.kwargs) if isinstance(job, Call) else None


def _ranges(fds: Iterable[int]) -> Iterator[tuple[int, int]]:
    """These numbers in runs without a gap: the first, and the one behind the last."""
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
    """The same with gaps where these are."""
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
    # A child leaves no block on its way to its own life: that would touch what ends it.
    if fork_warns():
        with no_warning():
            born = _fork_until_born(tasks, pids, starts)
    else:
        born = _fork_until_born(tasks, pids, starts)
    if born is None:
        return
    try:
        live(born)
    finally:
        # Whatever is raised in the last lines of its life, by a handler of a signal: nothing of
        # a child ever comes back to what is the parent's to do.
        os._exit(1)


def _fork_until_born(tasks: list[Task], pids: list[int], starts: list[float]) -> Task | None:
    """Fork as often as there are tasks; in a child, what is its own."""
    fork = os.fork  # here: somebody may have put another in its place
    for task in tasks:
        starts.append(monotonic())
        # In C from the system call to the list: a signal handler that raises between
        # two bytecodes can't lose the number of a child.
        pids.extend(starmap(fork, _ONCE))
        if not pids[-1]:
            return task
        if starts[-1] - starts[0] > _LONGEST_BURST:
            break
    return None
