"""The seam to the operating system: what Linux does best, and a way for every POSIX.

=====================  ==============================  ================================
what is needed         Linux                           elsewhere
=====================  ==============================  ================================
a place for an answer  ``memfd_create``                an unlinked temporary file
to see a child's end   ``pidfd_open``                  a pipe that the child holds, and
                                                       a look every few milliseconds
to wait for many       ``epoll``                       ``poll``
to end with the        ``prctl(PR_SET_PDEATHSIG)``     a thread in the child that looks
parent                                                 for it now and then
=====================  ==============================  ================================

:func:`pcall._os.current.get_system` gives the one in use.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ROOM", "Poller", "Steps", "System"]

#: Functions, each with its arguments: to be called one after the other.
Steps = tuple[tuple[Any, ...], ...]

# Bytes of a file for an answer that it may be given at once.
ROOM = 4096


class Poller(Protocol):
    """Tells which of many descriptors are readable."""

    def register(self, fd: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float | None) -> list[int]: ...
    def fileno(self) -> int | None: ...
    def close(self) -> None: ...


class System(Protocol):
    """What the supervisor and the child need of an operating system."""

    #: Seconds between two looks at children whose end no descriptor tells; None: no need.
    look_every: float | None
    #: Descriptors that the parent holds for each living child.
    fds_per_child: int

    def make_answer_file(self) -> int:
        """Descriptor of an empty file without a name, closed by exec."""

    def free_range(self, fd: int, start: int, length: int) -> None:
        """Give back what a part of such a file takes: it reads as zeros from now on."""

    def make_poller(self) -> Poller: ...

    def before_fork(self) -> tuple[int, int] | None:
        """A pair of descriptors for the parent and the child, where one is needed.

        Each closes the other's, and the child keeps its own as long as it lives.
        """

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        """In the parent: a descriptor that becomes readable at the child's end."""

    def parent_sentinel(self) -> tuple[int, ...]:
        """In the parent: a descriptor that tells its children of its own end.

        What else there is in the tuple must be open in the parent, and nowhere else.
        """

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        """In the parent: what a child does in order to end when the parent does.

        A child whose parent has died before that has to see so by itself.
        """

    def exit_code(self, sentinel: int | None) -> int | None:
        """How a child ended whose status somebody else took, if the kernel still says."""
