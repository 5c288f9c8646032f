"""Signals: the numbers that this library uses, and deferring signals where one would do harm."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import os
import signal
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from itertools import compress
from threading import main_thread
from types import FrameType
from typing import Any

from pcall._errors import TaskCancelled

__all__ = [
    "PARENT_DIED",
    "SIGCONT",
    "SIGTERM",
    "DeferSignals",
    "deferred_handlers",
    "is_interrupt",
    "set_handler",
    "set_mask",
]

SIGTERM, SIGCONT = int(signal.SIGTERM), int(signal.SIGCONT)

# The kernel sends this signal to a child whose parent has died. It is a separate signal, because
# the kernel sends it also when only the *thread* that forked has ended, and the child must be able
# to distinguish that from a real SIGTERM. Linux itself never sends this one.
PARENT_DIED = int(getattr(signal, "SIGSTKFLT", signal.SIGUSR2))

# The functions of the signal module without its enums: looking up enum members in a child copies
# more pages than the rest of the child's start.
set_handler: Callable[[int, Any], Any] = _signal.signal
set_mask: Callable[[int, Collection[int]], Collection[int]] = _signal.pthread_sigmask
_get_handler: Callable[[int], Any] = _signal.getsignal
_raise_in_main: Callable[[int], None] = _thread.interrupt_main  # type: ignore[assignment]

_BLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
# All signals but those that a thread causes by a fault of its own: if one of these is blocked when
# it is raised, the kernel kills the process.
_FAULTS = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
_faults = {int(getattr(signal, name)) for name in _FAULTS if hasattr(signal, name)}
_others = [int(number) for number in signal.valid_signals() if number not in _faults]


#: By signal, the Python handler that is deferred in the main thread at present.
deferred_handlers: dict[int, Any] = {}
_due: dict[int, None] = {}  # the signals that arrived meanwhile
_owners: list[int] = []  # the process that has deferred them, as the last and only entry


def _note_signal(number: int, frame: FrameType | None) -> None:
    """The handler of each signal whose own handler is deferred."""
    if os.getpid() in _owners:
        _due[number] = None
        return
    # Another thread has forked this process while handlers were deferred.
    _due.clear()
    _restore_handlers()
    _raise_in_main(number)


def _restore_handlers() -> None:
    """Install the deferred handlers again, and have those called whose signal is due."""
    try:
        for number in list(deferred_handlers):
            if _get_handler(number) is _note_signal:
                # A handler that has just been restored may run, and raise, here.
                set_handler(number, deferred_handlers[number])
            del deferred_handlers[number]
    finally:
        if deferred_handlers:
            _restore_handlers()
        elif _due:
            due = list(_due)
            _due.clear()
            # In C from the first to the last, so that an exception of one handler skips none.
            deque(map(_raise_in_main, due), 0)


class DeferSignals:
    """Run no signal handler of this thread within the block; run those that are due afterwards.

    It is for the lines between a system call that creates something (a process, a descriptor) and
    the line that records it. A handler's exception can come between any two bytecodes, and would
    lose the new object.

    Blocking signals is not enough: the kernel then gives them to another thread, and Python calls
    the handler in the main thread anyway. So in the main thread Python's handlers are replaced,
    too.

    Attributes:
        mask: the signals that were blocked before.
    """

    mask: Collection[int] = ()
    _handlers = False  # deferred by this block, and not by an enclosing one

    def __enter__(self) -> DeferSignals:
        self.mask = set_mask(_BLOCK, ())
        self._handlers = not deferred_handlers and _thread.get_ident() == main_thread().ident
        try:
            self.hold()
        except BaseException:
            # hold() blocks signals and then runs the handlers of those that came before that.
            self.deliver()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.deliver()

    def deliver(self) -> None:
        """Run the handlers that are due, and handle signals as usual until :meth:`hold`."""
        try:
            if self._handlers:
                _restore_handlers()
        finally:
            set_mask(_SETMASK, self.mask)

    def hold(self) -> None:
        """Defer signals again.

        It does so even if it raises, because the handler of an earlier signal has raised.
        """
        handled = list(compress(_others, map(callable, map(_get_handler, _others))))
        try:
            # Block no others: each time a mask is set, Python makes a set of all blocked signals.
            set_mask(_BLOCK, [SIGTERM, PARENT_DIED, *handled])
        finally:
            if self._handlers:
                _defer_handlers(handled)


def _defer_handlers(numbers: list[int]) -> None:
    _owners[:] = [os.getpid()]
    try:
        for number in numbers:
            handler = _get_handler(number)
            if handler is not _note_signal:
                deferred_handlers[number] = handler
                set_handler(number, _note_signal)
    except BaseException:  # raised by the handler of an earlier signal
        _defer_handlers(numbers)
        raise


def is_interrupt(problem: BaseException) -> bool:
    """True for an exception that interrupts this process, rather than the current work's failure.

    That is Ctrl-C, a SIGTERM in a child, or anything else that a signal handler has raised: for an
    alarm, for example.
    """
    if isinstance(problem, (KeyboardInterrupt, TaskCancelled)):
        return True
    codes = set(map(_code_of, filter(callable, map(_get_handler, _others))))
    tb = problem.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code in codes:
            return True
        tb = tb.tb_next
    return False


def _code_of(handler: Any) -> Any:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = getattr(type(handler), "__call__", None)  # noqa: B004 - its code is needed
    return getattr(function, "__code__", None)
