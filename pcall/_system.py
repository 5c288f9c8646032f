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

:data:`system` is the one in use. Its choice is made when it is first needed, by trying:
a kernel may be too old, and a sandbox may refuse.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import sys
import threading
import time
from typing import Any, Protocol

from pcall._guard import kill_own_group_later
from pcall._signals import PARENT_DIED, HeldBack, set_handler

__all__ = [
    "ROOM",
    "LinuxSystem",
    "Poller",
    "PortableSystem",
    "Steps",
    "System",
    "get_system",
    "use_system",
]

#: Functions, each with its arguments: to be called one after the other.
Steps = tuple[tuple[Any, ...], ...]

# Bytes of a file for an answer that it may be given at once.
ROOM = 4096

_PR_SET_PDEATHSIG = 1
_KEEP_SIZE_PUNCH_HOLE = 1 | 2
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15


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


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._fds = 0

    def register(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._fds += 1

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._fds -= 1

    def poll(self, timeout: float | None) -> list[int]:
        # No more than there can be: memory is taken for as many, whatever comes.
        return [fd for fd, _ in self._epoll.poll(timeout, min(self._fds + 1, 256))]

    def fileno(self) -> int | None:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()


class _Poll:
    def __init__(self) -> None:
        self._fds: set[int] = set()

    def register(self, fd: int) -> None:
        self._fds.add(fd)

    def unregister(self, fd: int) -> None:
        self._fds.remove(fd)

    def poll(self, timeout: float | None) -> list[int]:
        # One for each call: several threads can't use the same.
        poller = select.poll()
        for fd in tuple(self._fds):
            poller.register(fd, select.POLLIN)
        # Rounded up: rounded down, the last millisecond would be spent spinning.
        milliseconds = None if timeout is None else int(timeout * 1000 + 0.999)
        return [fd for fd, _ in poller.poll(milliseconds)]

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        pass


class LinuxSystem:
    """Linux 5.3 and later."""

    look_every: float | None = None
    fds_per_child = 2

    def __init__(self) -> None:
        # Imported here and not above: it takes longer than the rest of the library, and
        # the portable way does without. It is the optional dependency of this class.
        import ctypes

        libc = ctypes.CDLL(None)
        self._prctl = libc.prctl
        # Some C libraries have it under one name alone, for offsets of 64 bits.
        self._fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
        self._fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        # Tried out, since a sandbox may refuse what the kernel has.
        os.close(os.memfd_create("pcall", os.MFD_CLOEXEC))
        os.close(os.pidfd_open(os.getpid()))

    def make_answer_file(self) -> int:
        return os.memfd_create("pcall", os.MFD_CLOEXEC)

    def free_range(self, fd: int, start: int, length: int) -> None:
        # Where it is refused, memory is given back at the end of the run.
        self._fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, length)

    def make_poller(self) -> Poller:
        return _Epoll()

    def before_fork(self) -> tuple[int, int] | None:
        return None

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            return None  # over, and reaped: by another wait, or where SIGCHLD is ignored
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                return None  # busy now: this child is looked at now and then
            raise

    def parent_sentinel(self) -> tuple[int, ...]:
        return (os.pidfd_open(os.getpid()),)

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        def parent_died(signum: int, frame: object) -> None:
            if os.getppid() == parent:
                return  # only the thread that forked this child has ended
            # What the parent would have done: SIGTERM, and SIGKILL later.
            kill_own_group_later(grace_period)
            signal.raise_signal(signal.SIGTERM)

        return (
            (set_handler, PARENT_DIED, parent_died),
            (self._prctl, _PR_SET_PDEATHSIG, PARENT_DIED, 0, 0, 0),
        )

    def exit_code(self, sentinel: int | None) -> int | None:
        if sentinel is None:
            return None
        info = bytearray(64)
        struct.pack_into("Q", info, 0, _PIDFD_INFO_EXIT)
        try:
            fcntl.ioctl(sentinel, _PIDFD_GET_INFO, info)
        except OSError:
            return None
        (mask,) = struct.unpack_from("Q", info, 0)
        (status,) = struct.unpack_from("i", info, 60)
        return os.waitstatus_to_exitcode(status) if mask & _PIDFD_INFO_EXIT else None


class PortableSystem:
    """Any POSIX."""

    look_every: float | None = 0.02
    fds_per_child = 3

    def make_answer_file(self) -> int:
        # Imported here: it brings the random module, which has every fork seed itself anew.
        import tempfile

        with tempfile.TemporaryFile(prefix="pcall-") as file:
            # Room for a short answer: on a full disk, too, a child can say what is wrong.
            os.posix_fallocate(file.fileno(), 0, ROOM)
            return os.dup(file.fileno())

    def free_range(self, fd: int, start: int, length: int) -> None:
        pass  # it is on the disk, and there is no way that all systems have

    def make_poller(self) -> Poller:
        return _Poll()

    def before_fork(self) -> tuple[int, int] | None:
        return os.pipe()

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        assert pair is not None
        os.close(pair[1])
        return pair[0]

    def parent_sentinel(self) -> tuple[int, ...]:
        return os.pipe()

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        def look() -> None:
            while os.getppid() == parent:
                time.sleep(0.1)
            kill_own_group_later(grace_period)
            os.kill(os.getpid(), signal.SIGTERM)

        def watch() -> None:
            try:
                threading.Thread(target=look, name="pcall-parent-watch", daemon=True).start()
            except RuntimeError:
                pass  # no thread to be had: the guard of the run is left

        return ((watch,),)

    def exit_code(self, sentinel: int | None) -> int | None:
        return None


_system: System | None = None


def get_system() -> System:
    """The system in use; chosen at the first call."""
    global _system
    if _system is None:
        _system = _choose()
    return _system


def use_system(system: System | None) -> None:
    """Use this one from now on; None: choose again."""
    global _system
    _system = system


def _choose() -> System:
    if sys.platform == "linux":
        try:
            with HeldBack():
                return LinuxSystem()
        except OSError as error:
            # "No room now" says nothing about what the system can do.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
        except (AttributeError, ImportError):
            pass  # a build of Python, or a C library, without them
    return PortableSystem()
