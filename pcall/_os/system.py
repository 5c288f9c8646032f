"""The interface to the operating system, with one implementation for Linux, one for any POSIX.

======================  ==============================  ================================
purpose                 Linux                           elsewhere
======================  ==============================  ================================
store an answer         ``memfd_create``                an unlinked temporary file
notice a child's end    ``pidfd_open``                  a pipe that the child holds, and
                                                        polling every few milliseconds
wait for many           ``epoll``                       ``poll``
exit with the parent    ``prctl(PR_SET_PDEATHSIG)``     a thread in the child that polls
                                                        the parent
======================  ==============================  ================================

:func:`pcall._os.current.get_system` returns the one in use.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ROOM", "Poller", "Steps", "System"]

#: Functions, each with its arguments, to call one after another.
Steps = tuple[tuple[Any, ...], ...]

# Bytes that a file for an answer may reserve when it is made.
ROOM = 4096


class Poller(Protocol):
    """Waits until any of many descriptors is readable."""

    def register(self, fd: int) -> None: ...
    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float | None) -> list[int]:
        """The readable descriptors, after waiting up to ``timeout`` seconds; None: no limit."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when one of them is, or None."""

    def close(self) -> None: ...


class System(Protocol):
    """The services of an operating system that the engines and their children use."""

    #: Seconds between two polls of the children, whose end no descriptor reports in time; None if
    #: their sentinels suffice.
    exit_poll_interval: float | None
    #: Descriptors that the parent holds for each living child.
    fds_per_child: int

    def make_answer_file(self) -> int:
        """Descriptor of an empty file without a name, closed by exec."""

    def free_range(self, fd: int, start: int, length: int) -> None:
        """Free the memory of a part of such a file, which reads as zeros from then on."""

    def make_poller(self) -> Poller: ...

    def before_fork(self) -> tuple[int, int] | None:
        """A pair of descriptors for the parent and the child, or None if none is needed.

        Each process closes the other's, and the child keeps its own as long as it lives.
        """

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        """In the parent: a descriptor that becomes readable at the child's end, or None.

        Args:
            pid: process id of the child.
            pair: of :meth:`before_fork`.
        """

    def parent_sentinel(self) -> tuple[int, ...]:
        """In the parent: a descriptor that becomes readable, in its children, at its own end.

        The other descriptors of the tuple, if any, must be open only in the parent.
        """

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        """In the parent: the steps by which a child exits when the parent does.

        The child itself has to check whether the parent has died before these steps.

        Args:
            parent: process id of the parent.
            grace_period: seconds from SIGTERM to SIGKILL.
        """

    def exit_code(self, sentinel: int | None) -> int | None:
        """The exit code of a child that was reaped elsewhere, if the kernel still has it."""
