"""The system calls of Linux: memfd, pidfd, epoll and the signal at the parent's death."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct

from pcall._os.private_fds import above_streams, duplicate
from pcall._os.process_groups import kill_own_group_later
from pcall._os.signals import PARENT_DIED, set_handler
from pcall._os.system import Poller, Steps
from pcall._os.waiting import EPOLLIN, epoll

__all__ = ["LinuxSystem"]

_PR_SET_PDEATHSIG = 1
_KEEP_SIZE_PUNCH_HOLE = 1 | 2
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15


class _Epoll:
    def __init__(self) -> None:
        with epoll() as made:
            # The object closes its own descriptor, which may be that of a standard stream.
            self._epoll = epoll.fromfd(duplicate(made.fileno()))
        self._fds = 0

    def register(self, fd: int) -> None:
        self._epoll.register(fd, EPOLLIN)
        self._fds += 1

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._fds -= 1

    def poll(self, timeout: float | None) -> list[int]:
        # Ask for no more events than there can be: epoll allocates memory for that many.
        return [fd for fd, _ in self._epoll.poll(timeout, min(self._fds + 1, 256))]

    def fileno(self) -> int | None:
        fd: int = self._epoll.fileno()
        return fd

    def close(self) -> None:
        self._epoll.close()


class LinuxSystem:
    """Linux 5.3 and later."""

    exit_poll_interval: float | None = None
    fds_per_child = 2

    def __init__(self) -> None:
        # Imported here and not above: it takes longer to import than the rest of the library, and
        # PortableSystem does not need it. It is an optional dependency of this class.
        import ctypes

        libc = ctypes.CDLL(None)
        self._prctl = libc.prctl
        # Some C libraries have only one of the names, for offsets of 64 bits.
        self._fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
        self._fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        # Try these calls, since a sandbox may refuse them although the kernel has them.
        os.close(os.memfd_create("pcall", os.MFD_CLOEXEC))
        os.close(os.pidfd_open(os.getpid()))

    def make_answer_file(self) -> int:
        return above_streams(os.memfd_create("pcall", os.MFD_CLOEXEC))

    def free_range(self, fd: int, start: int, length: int) -> None:
        # If the call is refused, the memory is freed at the end of the run.
        self._fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, length)

    def make_poller(self) -> Poller:
        return _Epoll()

    def before_fork(self) -> tuple[int, int] | None:
        return None

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        try:
            return above_streams(os.pidfd_open(pid))
        except ProcessLookupError:
            return None  # ended and reaped: by another wait, or because SIGCHLD is ignored
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                return None  # no room now: the engine polls this child
            raise

    def parent_sentinel(self) -> tuple[int, ...]:
        return (above_streams(os.pidfd_open(os.getpid())),)

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        def parent_died(signum: int, frame: object) -> None:
            if os.getppid() == parent:
                return  # only the thread that forked this child has ended
            # Act as the parent would have: SIGTERM now, SIGKILL later.
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
