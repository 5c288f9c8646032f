"""The log records of calls at a node: children write them to one file, and they go home."""

from __future__ import annotations

import fcntl
import logging
import os
from collections import deque
from contextlib import suppress
from typing import Any

from pcall._logs.child_logs import ChildLogs
from pcall._logs.record_frames import Frame, FrameReader, pack_record, write_frame
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.system import System
from pcall.engines.local.child.child_state import state

__all__ = ["NodeLogs", "index_of_call"]


def index_of_call() -> int:
    """In a child: the index of the call that runs."""
    worker, task = state["worker"], state["task"]
    if worker is not None:
        return int(getattr(worker, "call_index", worker.current))
    assert task is not None
    return int(task.job.index)


class _Sender(logging.Handler):
    """Writes all records to the file of the run.

    Args:
        fd: descriptor of the file, opened for appending.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def handle(self, record: logging.LogRecord) -> Any:
        """Write a record."""
        try:
            write_frame(self._fd, index_of_call(), 0, pack_record(record))
        except Exception:
            with suppress(Exception):
                self.handleError(record)
        return True


class NodeLogs:
    """Collects what the calls of a run log.

    Args:
        levels: by the name of a logger, its level at the caller; "" for the root.
        system: makes the file.

    Attributes:
        child: the set-up of logging in children.
    """

    def __init__(self, levels: dict[str, int], system: System) -> None:
        self._fd = system.make_answer_file()
        register_private_fd(self._fd)
        os.ftruncate(self._fd, 0)
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_APPEND)
        self._reader = FrameReader(self._fd)
        self._waiting: dict[int, deque[Frame]] = {}
        sender = _Sender(self._fd)

        def set_up(levels: dict[str, Any]) -> None:
            logging.root.handlers[:] = [sender]
            for name, level in levels.items():
                logger = logging.getLogger(name)
                logger.setLevel(level)
                logger.propagate = True
                if name:
                    logger.handlers.clear()
            logging.disable(logging.NOTSET)

        self.child: ChildLogs = ChildLogs(self._fd, ((set_up, levels),), (), ())

    def take(self, call: int) -> tuple[bytes, ...]:
        """The records of a call that has ended, packed."""
        for frame in self._reader.new_frames(False):
            self._waiting.setdefault(frame.call, deque()).append(frame)
        frames = self._waiting.pop(call, ())
        return tuple(bytes(self._reader.payload(frame)) for frame in frames)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            unregister_private_fd(fd)
            os.close(fd)
