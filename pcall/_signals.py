"""Signals: those that matter here, and holding them back where one would do harm."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import signal
from collections.abc import Callable, Collection
from itertools import compress
from typing import Any

__all__ = [
    "PARENT_DIED",
    "SIGCONT",
    "SIGTERM",
    "HeldBack",
    "set_handler",
    "set_mask",
    "signal_group",
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

_BLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
# All but what a thread brings upon itself: blocked, that would end the process.
_FAULTS = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
_faults = {int(getattr(signal, name)) for name in _FAULTS if hasattr(signal, name)}
_others = [int(number) for number in signal.valid_signals() if number not in _faults]


def _to_hold_back() -> list[int]:
    """The signals that a handler of Python's may be called for, and those that end a child.

    No others: each time a mask is set, Python makes a set of all that were blocked before.
    """
    handled = compress(_others, map(callable, map(_get_handler, _others)))
    return [SIGTERM, PARENT_DIED, *handled]


class HeldBack:
    """Within the block, no signal handler of this thread runs; afterwards, those that are due.

    For the lines between a system call that makes something (a process, a descriptor) and
    the one that writes down that it is there. An exception out of a handler can come
    between any two bytecodes, and would lose it.

    Attributes:
        mask: the signals that were blocked before.
    """

    mask: Collection[int] = ()

    def __enter__(self) -> HeldBack:
        self.mask = set_mask(_BLOCK, ())
        try:
            set_mask(_BLOCK, _to_hold_back())
        except BaseException:
            # It blocks first and then runs the handler of what had come before that.
            set_mask(_SETMASK, self.mask)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        set_mask(_SETMASK, self.mask)

    def let_in(self) -> None:
        """Run what is due now, and from now on what comes, until :meth:`hold`."""
        set_mask(_SETMASK, self.mask)

    def hold(self) -> None:
        """Hold back again; also where this raises, for what came before."""
        set_mask(_BLOCK, _to_hold_back())


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; False when there is no such group, or none that we may."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
