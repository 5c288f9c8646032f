"""What becomes of the parent's log handlers in a child.

A file handler gets a file of its own, which its first record creates. A handler that only the
parent can serve (it keeps records in memory, or sends them somewhere) passes its records on
to the parent. Handlers on the console are left as they are.

All of it is made in the parent. A child that logs nothing has only to put it in its place,
since each page that it touches is copied first: the rest waits for the first record.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from pcall._logs.record_frames import pack_record, write_frame

__all__ = ["ChildLogs", "LogFile", "SentRecords", "Whoami", "end_call", "file_of_call", "opened"]

_open: Callable[..., Any] = open

#: Tells, in a child or in what that has forked, the child's process id, the index of the call
#: that it runs, and whether another one came before that.
Whoami = Callable[[], tuple[int, int, bool]]


class ChildLogs(NamedTuple):
    """What a child is told about logging.

    Attributes:
        fd: descriptor of the file for records, or -1.
        changes: to be made to handlers: the method to call, and with what.
        files: those of them that write to files.
        paths: of the main logs.
    """

    fd: int
    changes: tuple[tuple[Callable[[dict[str, Any]], None], dict[str, Any]], ...]
    files: tuple[LogFile, ...]
    paths: tuple[str, ...]


class LogFile:
    """A file handler, with what changes about it in a child.

    Args:
        handler: the handler.
        path: of the parent's file.
        whoami: see there.

    Attributes:
        old: the parent's stream. It is kept: to free it in a child would be to flush what
            another thread of the parent had in its buffer at the fork, or to wait for that
            thread's lock.
        changes: to the handler.
    """

    def __init__(self, handler: logging.FileHandler, path: str, whoami: Whoami) -> None:
        self.handler = handler
        self.path = path
        self.fields = vars(handler)
        self.old: Any = handler.stream
        self._whoami = whoami
        self.changes: dict[str, Any] = {"stream": None, "_builtin_open": self.open}
        # To add to a new file does no harm, and it may be opened again: by the handler, or
        # by a process that the target makes.
        mode = handler.mode.replace("w", "a").replace("x", "a")
        if mode != handler.mode:
            self.changes["mode"] = mode
        if hasattr(handler, "shouldRollover"):
            self.changes["shouldRollover"] = _never

    def keep_stream(self) -> None:
        """In the parent before a fork: the stream may be another one than at first."""
        self.old = self.fields.get("stream")

    def name(self) -> str:
        """In the child: the file for what is logged now."""
        return file_of_call(self.path, *self._whoami())

    def settle(self) -> str:
        """In the child: the same, with no file of that name, unless it is this call's.

        It has to be called before this process forks another, which may be the first to log.
        What an older run left, whose parent died, is kept aside: it is not ours to add to.
        """
        name = self.name()
        if name not in _settled:
            _settled.add(name)
            if os.access(name, os.F_OK):
                _move_aside(name)
        return name

    def open(self, name: str, mode: str, *args: Any, **kwargs: Any) -> Any:
        """In the child: what the handler has in place of ``open``."""
        name = self.settle()
        # A handler may compare what its path leads to with what it has open.
        self.fields["baseFilename"] = name
        if self not in opened:
            opened.append(self)
        try:
            return _open(name, mode, *args, **kwargs)
        except OSError:
            # A folder that may not be written to any more, a name too long, a quota. The log
            # must not fail the call: write to the parent's file, as it would be without us.
            if self.old is None:
                return _open(self.path, mode, *args, **kwargs)
            return _open(self.old.fileno(), mode, *args, closefd=False, **kwargs)

    def close(self) -> None:
        """In the child: let the next record open another file."""
        stream, self.fields["stream"] = self.fields.get("stream"), None
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


class SentRecords:
    """A handler whose records go to the parent, with what changes about it in a child.

    Args:
        handler: the handler.
        number: what the parent knows it by.
        fd: descriptor of the file for records.
        filtered: True to let the handler's filters look at records in the child, where the
            context is the call's.
        whoami: see there.

    Attributes:
        changes: to the handler.
    """

    def __init__(
        self, handler: logging.Handler, number: int, fd: int, filtered: bool, whoami: Whoami
    ) -> None:
        self._handler = handler
        self._number = number
        self._fd = fd
        self._filtered = filtered
        self._whoami = whoami
        self.fields = vars(handler)
        # What the parent keeps in the handler's buffer must not be sent from the child.
        self.changes: dict[str, Any] = {
            "handle": self.handle,
            "flush": _nothing,
            "close": self.close,
        }

    def handle(self, record: logging.LogRecord) -> Any:
        """In place of the handler's own."""
        passed: Any = True
        if self._filtered:
            passed = self._handler.filter(record)
            if isinstance(passed, logging.LogRecord):  # since Python 3.12
                record = passed
        if passed:
            _, call, _ = self._whoami()
            try:
                write_frame(self._fd, call, self._number, pack_record(record))
            except Exception:
                with contextlib.suppress(Exception):
                    self._handler.handleError(record)
        return passed

    def close(self) -> None:
        """In place of the handler's own."""
        logging.Handler.close(self._handler)


# Names that are known to be this process's own, or of one that this one was forked from.
_settled: set[str] = set()

#: Those whose file this call has opened.
opened: list[LogFile] = []


def end_call() -> None:
    """In a child that takes several calls, between two of them: what is logged from now on
    goes to the files of the next one. Where nothing was logged there is nothing to do."""
    while opened:
        opened.pop().close()


def file_of_call(path: str, pid: int, call: int, later: bool) -> str:
    """Where a call logs.

    Args:
        path: of the main log.
        pid: of its child.
        call: its index.
        later: True when another call came before it in the same child.
    """
    return f"{path}:pid-{pid}.{call}" if later else f"{path}:pid-{pid}"


def _move_aside(name: str) -> None:
    for number in range(1, 1000):
        other = f"{name}.old-{number}"
        if not os.access(other, os.F_OK):
            with contextlib.suppress(OSError):
                os.rename(name, other)
            return


def _never(record: logging.LogRecord) -> bool:
    return False


def _nothing() -> None:
    pass
