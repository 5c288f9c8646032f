"""Means that every POSIX has."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

from pcall._os.process_groups import kill_own_group_later
from pcall._os.system import ROOM, Poller, Steps

__all__ = ["PortableSystem"]


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
