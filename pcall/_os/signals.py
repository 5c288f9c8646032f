"""Signals: those that matter here, and holding them back where one would do harm."""

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
    "is_interrupt",
    "put_off",
    "set_handler",
    "set_mask",
]

SIGTERM, SIGCONT = int(signal.SIGTERM), int(signal.SIGCONT)

# Sent by the kernel to a child whose parent has died. A signal of its own, because the
# kernel sends it also when only the *thread* that forked has ended, and the child must
# be able to tell that from a SIGTERM that is meant. Linux itself never sends this one.
PARENT_DIED = int(getattr(signal, "SIGSTKFLT", signal.SIGUSR2))

# The functions of the signal module without its enums: to look those up in each child copies
# more pages than the rest of its start.
set_handler: Callable[[int, Any], Any] = _signal.signal
set_mask: Callable[[int, Collection[int]], Collection[int]] = _signal.pthread_sigmask
_get_handler: Callable[[int], Any] = _signal.getsignal
_raise_in_main: Callable[[int], None] = _thread.interrupt_main  # type: ignore[assignment]

_BLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
# All but what a thread brings upon itself: blocked, that would end the process.
_FAULTS = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
_faults = {int(getattr(signal, name)) for name in _FAULTS if hasattr(signal, name)}
_others = [int(number) for number in signal.valid_signals() if number not in _faults]


# By signal, the handler of Python's that is put off in the main thread just now.
put_off: dict[int, Any] = {}
_due: dict[int, None] = {}  # the signals that came meanwhile
_process = 0  # whose they are


def _note(number: int, frame: FrameType | None) -> None:
    """The handler of each signal whose own one is put off."""
    if os.getpid() == _process:
        _due[number] = None
        return
    # Another thread has forked this process in that moment.
    _due.clear()
    _hand_back()
    _raise_in_main(number)


def _hand_back() -> None:
    """Put the handlers in place again, and have those called that are due."""
    try:
        for number in list(put_off):
            if _get_handler(number) is _note:
                # What the handler of one that is in place again raises may come here.
                set_handler(number, put_off[number])
            del put_off[number]
    finally:
        if put_off:
            _hand_back()
        elif _due:
            due = list(_due)
            _due.clear()
            # In C from the first to the last, so that what one raises costs none.
            deque(map(_raise_in_main, due), 0)


class DeferSignals:
    """Within the block, no signal handler of this thread runs; afterwards, those that are due.

    For the lines between a system call that makes something (a process, a descriptor) and
    the one that writes down that it is there. An exception out of a handler can come
    between any two bytecodes, and would lose it.

    To block signals is not enough: the kernel gives them to another thread then, and Python
    calls its handler in the main thread all the same. So in that one the handlers of Python's
    are put off, too.

    Attributes:
        mask: the signals that were blocked before.
    """

    mask: Collection[int] = ()
    _handlers = False  # put off by this block, and not by one around it

    def __enter__(self) -> DeferSignals:
        self.mask = set_mask(_BLOCK, ())
        self._handlers = not put_off and _thread.get_ident() == main_thread().ident
        try:
            self.hold()
        except BaseException:
            # It blocks first and then runs the handler of what had come before that.
            self.deliver()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.deliver()

    def deliver(self) -> None:
        """Run what is due now, and from now on what comes, until :meth:`hold`."""
        try:
            if self._handlers:
                _hand_back()
        finally:
            set_mask(_SETMASK, self.mask)

    def hold(self) -> None:
        """Hold back again; also where this raises, for what came before."""
        handled = list(compress(_others, map(callable, map(_get_handler, _others))))
        try:
            # No others: each time a mask is set, Python makes a set of all that were blocked.
            set_mask(_BLOCK, [SIGTERM, PARENT_DIED, *handled])
        finally:
            if self._handlers:
                _put_off(handled)


def _put_off(numbers: list[int]) -> None:
    global _process
    _process = os.getpid()
    try:
        for number in numbers:
            handler = _get_handler(number)
            if handler is not _note:
                put_off[number] = handler
                set_handler(number, _note)
    except BaseException:  # out of a handler, for what came before
        _put_off(numbers)
        raise


def is_interrupt(problem: BaseException) -> bool:
    """Whether this breaks into what this process does, and is no fault of what it does just now.

    Ctrl-C, a SIGTERM in a child, and whatever else a signal handler raised: an alarm, say.
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
        function = getattr(type(handler), "__call__", None)  # noqa: B004 - its code is wanted
    return getattr(function, "__code__", None)
