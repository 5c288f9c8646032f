"""Everything that runs after the fork, and nothing that runs in the parent.

A child starts with a copy of whatever the parent's threads were doing. Before the target
runs, what would act for the parent (wake-up descriptors, exit handlers) is taken off, and
what another thread may have held at the fork (locks of streams and of half-done imports)
is renewed. Signals stay blocked from before the fork until the target's handler is in place,
so that none is lost and none is raised where nobody could answer for it.
"""

from __future__ import annotations

import atexit
import contextvars
import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing import util
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from pcall._exception_pickling import users_part
from pcall._invoke import invoke
from pcall._randomness import Seeds, seed
from pcall._records import Call
from pcall._system import System, set_handler, set_mask
from pcall._transport import write_error, write_value
from pcall.exceptions import TaskCancelled

__all__ = ["Surroundings", "Task", "live", "perform"]

_log = logging.getLogger("pcall")


@dataclass(slots=True)
class Surroundings:
    """What the children of a run are told alike.

    Attributes:
        system: the operating system's services.
        context: the caller's context variables.
        seeds: what to seed random generators from.
        grace_period: seconds that remain after SIGTERM.
        parent: process id of the parent.
        parent_sentinel: descriptor that tells of the parent's end, or None.
        stdin: a text stream of descriptor 0 that nobody has read from, or None.
        others: descriptors that belong to the parent and to other children.
        threads: True when the parent has other threads at the fork.
        mask: the signals that were blocked before the fork.
    """

    system: System
    context: contextvars.Context
    seeds: Seeds
    grace_period: float
    parent: int
    parent_sentinel: int | None
    stdin: io.TextIOBase | None
    others: Collection[int] = ()
    threads: bool = False
    mask: Collection[int] = ()


@dataclass(slots=True)
class Task:
    """What one child is told.

    Attributes:
        call: what to call.
        answer: descriptor of the file for the answer.
        pair: the pair of descriptors behind the parent's sentinel, where there is one.
        around: the rest.
    """

    call: Call
    answer: int
    pair: tuple[int, int] | None
    around: Surroundings


# What SIGTERM does: cancel the target; nothing, while a failure is being answered; end the
# process, once it has answered. A variable in place of another handler, because to set a
# handler touches pages that would have to be copied.
_CANCELS, _WAITS, _ENDS = range(3)
_sigterm = _CANCELS
_cancelled = False


def live(child: BaseProcess, task: Task) -> NoReturn:
    """The whole life of a child, from the fork to its end."""
    around = task.around
    status = 1
    try:
        # A group of its own: what the target starts is signalled with it, and a Ctrl-C
        # at the terminal goes to the parent alone, which decides.
        os.setpgid(0, 0)
        # What was there before the fork is not worth collecting, and to look at it
        # would copy its pages.
        gc.freeze()
        # The parent's event loop must not be woken by signals of this process.
        signal.set_wakeup_fd(-1)
        set_handler(signal.SIGTERM, _on_sigterm)
        around.system.hold_sentinel(task.pair)
        around.system.end_with_parent(around.parent, around.grace_period)
        _close_others(task)
        _no_input()
        # The parent's handlers are the parent's; those of the target run at the end, as
        # multiprocessing has it since Python 3.13.
        atexit._clear()
        atexit.register(util._exit_function)  # type: ignore[attr-defined]
        if around.threads:
            _renew_streams()
            _forget_unfinished_imports()
        status = child._bootstrap(parent_sentinel=around.parent_sentinel)  # type: ignore[attr-defined]
    finally:
        try:
            atexit._run_exitfuncs()
            util._flush_std_streams()  # type: ignore[attr-defined]
        finally:
            _end(status, around.parent)


def _no_input() -> None:
    """Give descriptor 0 to /dev/null.

    ``_bootstrap`` would make a new ``sys.stdin`` here, in each child, which costs more
    than anything else of a short one; it makes none where there was none.
    """
    sys.stdin = None
    fd = os.open(os.devnull, os.O_RDONLY)
    if fd != 0:  # it is 0 when the parent's was closed
        os.dup2(fd, 0)
        os.close(fd)


def _close_others(task: Task) -> None:
    """Close what belongs to the parent and to other children.

    A result that the parent has dropped would live on in a sibling's copy of the
    descriptor; and where descriptors are few, the target needs them.
    """
    for fd in task.around.others:
        if fd != task.answer:
            try:
                os.close(fd)
            except OSError:
                pass  # another thread of the parent was just closing it


def _end(status: int, parent: int) -> NoReturn:
    if os.getppid() != parent:
        # Nobody is left to end what the target started: do it here, and go with it.
        os.killpg(0, signal.SIGKILL)
    if _cancelled:
        _die_of_sigterm()  # the status tells what ended it, although it had time to clean up
    os._exit(status)


def _die_of_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def _on_sigterm(signum: int, frame: object) -> None:
    if _sigterm == _CANCELS:
        raise TaskCancelled("SIGTERM")
    if _sigterm == _ENDS:
        _die_of_sigterm()


def perform(task: Task) -> NoReturn:
    """Call the target and answer.

    Raises:
        SystemExit: always, with the status for the process to end with.
    """
    global _sigterm
    around = task.around
    pid = os.getpid()
    failure: BaseException | None = None
    try:
        try:
            sys.stdin = around.stdin
            set_mask(signal.SIG_SETMASK, around.mask)
            seed(around.seeds, task.call.index)
            value = around.context.run(invoke, task.call)
            _only_in(pid)
            write_value(task.answer, value)
            _sigterm = _ENDS
        except BaseException as error:
            # A second SIGTERM must not cost the answer; a stuck one ends by SIGKILL.
            _sigterm = _WAITS
            failure = error
    except TaskCancelled as error:  # it came between the lines above
        _sigterm = _WAITS
        failure = error
    _only_in(pid)
    if failure is None:
        raise SystemExit(0)
    raise SystemExit(_fail(failure, task))


def _fail(failure: BaseException, task: Task) -> int:
    """Answer with the failure, tell the log, and return the status to exit with."""
    global _cancelled, _sigterm
    # Before anything that can block or fail, such as a handler of the user's.
    write_error(task.answer, failure)
    told = (type(failure), failure, users_part(failure.__traceback__))
    _log.error("call %d failed: %s", task.call.index, task.call, exc_info=told)
    _cancelled = isinstance(failure, TaskCancelled)
    _sigterm = _ENDS
    if isinstance(failure, SystemExit) and (failure.code is None or type(failure.code) is int):
        return failure.code or 0
    return 1


def _only_in(pid: int) -> None:
    """End a copy of this process that the target forked and that came back from it."""
    if os.getpid() != pid:
        os._exit(0)


# Streams that were replaced. To free one is to flush it, and that is what may block.
_old_streams: list[Any] = []


def _renew_streams() -> None:
    """Give this process stdout and stderr whose locks nobody holds.

    Another thread of the parent may have been writing at the fork; it does not exist
    here and will never release the buffer's lock. The parent has flushed its streams, so
    what the old buffers still hold is that thread's, and the parent writes it.
    """
    for name in ("stdout", "stderr"):
        old = getattr(sys, name, None)
        if type(old) is not io.TextIOWrapper or type(old.buffer) is not io.BufferedWriter:
            continue
        if type(old.buffer.raw) is not io.FileIO or old.closed:
            continue
        new = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(old.buffer.raw.fileno(), "w", closefd=False)),
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
        _old_streams.append(old)
        setattr(sys, name, new)
        if getattr(sys, f"__{name}__", None) is old:
            setattr(sys, f"__{name}__", new)
        for reference in list(logging._handlerList):  # type: ignore[attr-defined]
            handler = reference()
            if getattr(handler, "stream", None) is old:
                handler.stream = new  # not setStream(), which flushes the old one


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
