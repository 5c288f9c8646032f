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
from signal import set_wakeup_fd
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
    "deferring",
    "deliver_due",
    "is_interrupt",
    "restore_handlers_in_child",
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
            # An event loop has read of these signals from its wake-up descriptor already.
            wakeup_fd = set_wakeup_fd(-1)
            try:
                # In C from the first to the last, so that an exception of one handler skips none.
                deque(map(_raise_in_main, due), 0)
            finally:
                if wakeup_fd >= 0:
                    set_wakeup_fd(wakeup_fd)


def restore_handlers_in_child() -> None:
    """In a child that another thread than the main one has forked: defer no handler any more.

    The main thread of the parent may have been about to defer its handlers, or to restore them,
    at the fork. A handler is recorded before it is replaced, and forgotten after it is restored.
    """
    for number, handler in list(deferred_handlers.items()):
        if _get_handler(number) is _note_signal:
            set_handler(number, handler)
    deferred_handlers.clear()


#: By thread, the outermost block that defers signals now.
deferring: dict[int, DeferSignals] = {}


class DeferSignals:
    """Run no signal handler of this thread within the block; run those that are due afterwards.

    It is for lines that no handler may break into: those between a system call that creates
    something (a process, a descriptor) and the line that records it, and those that change several
    things that belong together. A handler's exception can come between any two bytecodes, and a
    handler can use the very object that is being changed.

    Blocking signals is not enough: the kernel then gives them to another thread, and Python calls
    the handler in the main thread anyway. So in the main thread Python's handlers are replaced,
    too. A block within another one costs next to nothing.

    Attributes:
        mask: the signals that were blocked before.
    """

    mask: Collection[int] = ()
    _outer: DeferSignals | None = None
    _handlers = False  # True in the main thread

    def __enter__(self) -> DeferSignals:
        thread = _thread.get_ident()
        outer = deferring.get(thread)
        if outer is not None:
            self._outer, self.mask = outer, outer.mask
            return self
        self.mask = set_mask(_BLOCK, ())
        self._handlers = thread == main_thread().ident
        try:
            self.hold()
        except BaseException:
            # hold() blocks signals and then runs the handlers of those that came before that.
            self.deliver()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is None:
            self.deliver()

    def deliver(self) -> None:
        """Run the handlers that are due, and handle signals as usual until :meth:`hold`.

        In a block within another one, too: by then everything has to be in order, and afterwards
        everything may have changed.
        """
        if self._outer is not None:
            self._outer.deliver()
            return
        # First: a handler may have blocks of its own.
        deferring.pop(_thread.get_ident(), None)
        try:
            if self._handlers:
                _restore_handlers()
        finally:
            set_mask(_SETMASK, self.mask)

    def hold(self) -> None:
        """Defer signals again.

        It does so even if it raises, because the handler of an earlier signal has raised.
        """
        if self._outer is not None:
            self._outer.hold()
            return
        handled = list(compress(_others, map(callable, map(_get_handler, _others))))
        try:
            # Block no others: each time a mask is set, Python makes a set of all blocked signals.
            set_mask(_BLOCK, [SIGTERM, PARENT_DIED, *handled])
        finally:
            try:
                if self._handlers:
                    _defer_handlers(handled)
            finally:
                deferring[_thread.get_ident()] = self


def deliver_due() -> None:
    """Within a block that defers signals: run the handlers that are due."""
    block = deferring.get(_thread.get_ident())
    if block is not None:
        try:
            block.deliver()
        finally:
            block.hold()


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
