"""The parent's log handlers as a child uses them.

A file handler gets a file of its own, which its first record creates. A handler that works only
in the parent (it buffers records in memory, or sends them somewhere) forwards its records to the
parent. Handlers that write to the console are left unchanged.

The parent prepares all of this. Each page that a child touches has to be copied first, so a child
that logs nothing only installs the prepared attributes; everything else waits for the first record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

from pcall._logs.record_frames import pack_record, write_frame
from pcall._os.private_fds import above_streams

__all__ = [
    "ChildLogs",
    "LogFile",
    "RecordForwarder",
    "Whoami",
    "end_call",
    "file_of_call",
    "opened",
]

_open: Callable[..., Any] = open

#: Returns the child's process id, the index of the call that it runs, and whether another call ran
#: in it before. Works in the child and in the processes that the child has forked.
Whoami = Callable[[], tuple[int, int, bool]]


class ChildLogs(NamedTuple):
    """The logging set-up that a child takes over from its parent.

    Attributes:
        fd: descriptor of the file for forwarded records, or -1.
        changes: changes to the handlers: the method to call, and its argument.
        files: the handlers that write to files.
        paths: of the main logs.
    """

    fd: int
    changes: tuple[tuple[Callable[[dict[str, Any]], None], dict[str, Any]], ...]
    files: tuple[LogFile, ...]
    paths: tuple[str, ...]


class LogFile:
    """A file handler, with the attributes that it has in a child.

    Args:
        handler: the handler.
        path: of the parent's file.
        whoami: identifies the child and its call, see :data:`Whoami`.

    Attributes:
        handler: the handler.
        path: of the parent's file.
        fields: the handler's attributes.
        old: the parent's stream. The child keeps a reference to it: freeing the stream in the
            child would flush what another thread of the parent had in the buffer at the fork, or
            wait for that thread's lock.
        changes: attributes to set on the handler in a child.
    """

    def __init__(self, handler: logging.FileHandler, path: str, whoami: Whoami) -> None:
        self.handler = handler
        self.path = path
        self.fields = vars(handler)
        self.old: Any = handler.stream
        self._whoami = whoami
        self.changes: dict[str, Any] = {"stream": None, "_builtin_open": self.open}
        # Appending to a new file is harmless, and the file may be opened again: by the handler,
        # or by a process that the target starts.
        mode = handler.mode.replace("w", "a").replace("x", "a")
        if mode != handler.mode:
            self.changes["mode"] = mode
        if hasattr(handler, "shouldRollover"):
            self.changes["shouldRollover"] = _never_roll_over

    def keep_stream(self) -> None:
        """In the parent, before a fork: keep the current stream, which may have been replaced."""
        self.old = self.fields.get("stream")

    def name(self) -> str:
        """In the child: the path of the file for the current call."""
        return file_of_call(self.path, *self._whoami())

    def claim_name(self) -> str:
        """In the child: :meth:`name`, after moving aside a file of an older run with that name.

        Call it before this process forks another one, which may be the first to log. A file that
        an older run left, because its parent died, is renamed: this run must not append to it.
        """
        name = self.name()
        if name not in _claimed_names:
            _claimed_names.add(name)
            if os.path.lexists(name):
                _move_aside(name)
        return name

    def open(self, name: str, mode: str, *args: Any, **kwargs: Any) -> Any:
        """In the child: replaces ``open`` for the handler."""
        name = self.claim_name()
        # A handler may compare the file at its path with the file that it has open.
        self.fields["baseFilename"] = name
        if self not in opened:
            opened.append(self)
        try:
            return _open(name, mode, *args, **{"opener": self._open_private, **kwargs})
        except OSError:
            # A folder that is no longer writable, a name that is too long, a quota. The log must
            # not fail the call: write to the parent's file, as would happen without this library.
            if self.old is None:
                return _open(self.path, mode, *args, **kwargs)
            return _open(self.old.fileno(), mode, *args, closefd=False, **kwargs)

    def _open_private(self, name: str, flags: int) -> int:
        """In the child: open its file, which nobody may read who may not read the main log."""
        try:
            main = os.stat(self.path) if self.old is None else os.fstat(self.old.fileno())
            mode = stat.S_IMODE(main.st_mode) & 0o666
        except (OSError, ValueError):
            mode = 0o666  # there is no main log yet: as any new file
        # A link that somebody has put in this place is not followed.
        return above_streams(os.open(name, flags | os.O_NOFOLLOW, mode))

    def close(self) -> None:
        """In the child: close the file, so that the next record opens another one."""
        stream, self.fields["stream"] = self.fields.get("stream"), None
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


class RecordForwarder:
    """A handler whose records go to the parent, with the attributes that it has in a child.

    Args:
        handler: the handler.
        number: identifies the handler in the parent.
        fd: descriptor of the file for records.
        filtered: True to apply the handler's filters in the child, where the context is the
            call's.
        whoami: identifies the child and its call, see :data:`Whoami`.

    Attributes:
        fields: the handler's attributes.
        changes: attributes to set on the handler in a child.
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
        # The child must not send the records that the parent has in the handler's buffer.
        self.changes: dict[str, Any] = {
            "handle": self.handle,
            "flush": _do_nothing,
            "close": self.close,
        }

    def handle(self, record: logging.LogRecord) -> Any:
        """In the child: replaces the handler's ``handle``."""
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
        """In the child: replaces the handler's ``close``."""
        logging.Handler.close(self._handler)


# Names that belong to this process, or to one that it was forked from.
_claimed_names: set[str] = set()

#: The handlers whose file the current call has opened.
opened: list[LogFile] = []


def end_call() -> None:
    """In a child that runs several calls, between two of them: close the files of the last call.

    The next call then logs to files of its own. There is nothing to do unless the call has logged.
    """
    while opened:
        opened.pop().close()


def file_of_call(path: str, pid: int, call: int, later: bool) -> str:
    """The path of a call's own log file.

    Args:
        path: of the main log.
        pid: of the call's child.
        call: its index.
        later: True when another call ran before it in the same child.
    """
    return f"{path}:pid-{pid}.{call}" if later else f"{path}:pid-{pid}"


def _move_aside(name: str) -> None:
    for number in range(1, 1000):
        other = f"{name}.old-{number}"
        if not os.path.lexists(other):
            with contextlib.suppress(OSError):
                os.rename(name, other)
            return


def _never_roll_over(record: logging.LogRecord) -> bool:
    return False


def _do_nothing() -> None:
    pass
