"""An implementation with the system calls that every POSIX system has."""

from __future__ import annotations

import os
import signal
import threading
import time

from pcall._os.private_fds import above_streams, duplicate
from pcall._os.process_groups import kill_own_group_later
from pcall._os.system import ROOM, Poller, Steps
from pcall._os.waiting import POLLIN, poll

__all__ = ["PortableSystem"]


class _Poll:
    def __init__(self) -> None:
        self._fds: set[int] = set()

    def register(self, fd: int) -> None:
        self._fds.add(fd)

    def unregister(self, fd: int) -> None:
        self._fds.remove(fd)

    def poll(self, timeout: float | None) -> list[int]:
        # One for each call: several threads can't share one.
        poller = poll()
        for fd in tuple(self._fds):
            poller.register(fd, POLLIN)
        # Round up: with a timeout rounded down, the last millisecond would be a busy loop.
        milliseconds = None if timeout is None else int(timeout * 1000 + 0.999)
        return [fd for fd, _ in poller.poll(milliseconds)]

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def _make_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    try:
        reader = above_streams(reader)
    except OSError:
        os.close(writer)
        raise
    try:
        return reader, above_streams(writer)
    except OSError:
        os.close(reader)
        raise


class PortableSystem:
    """Any POSIX."""

    exit_poll_interval: float | None = 0.02
    fds_per_child = 3

    def make_answer_file(self) -> int:
        # Imported here: it imports the random module, which reseeds itself at every fork.
        import tempfile

        with tempfile.TemporaryFile(prefix="pcall-") as file:
            # Reserve room for a short answer, so that a child can report a full disk.
            os.posix_fallocate(file.fileno(), 0, ROOM)
            return duplicate(file.fileno())

    def free_range(self, fd: int, start: int, length: int) -> None:
        pass  # the file is on the disk, and no call for this exists on all systems

    def make_poller(self) -> Poller:
        return _Poll()

    def before_fork(self) -> tuple[int, int] | None:
        return _make_pipe()

    def sentinel(self, pid: int, pair: tuple[int, int] | None) -> int | None:
        assert pair is not None
        os.close(pair[1])
        return pair[0]

    def parent_sentinel(self) -> tuple[int, ...]:
        return _make_pipe()

    def parent_watch(self, parent: int, grace_period: float) -> Steps:
        def wait_for_end() -> None:
            while os.getppid() == parent:
                time.sleep(0.1)
            kill_own_group_later(grace_period)
            os.kill(os.getpid(), signal.SIGTERM)

        def watch() -> None:
            try:
                threading.Thread(
                    target=wait_for_end, name="pcall-parent-watch", daemon=True
                ).start()
            except RuntimeError:
                pass  # no thread could be had: the run's orphan guard remains

        return ((watch,),)

    def exit_code(self, sentinel: int | None) -> int | None:
        return None
