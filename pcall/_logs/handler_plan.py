"""Finds the log handlers of this process and decides how the children of a run treat each.

======================  =============================================================
a handler that          in a child
======================  =============================================================
switches to its own     is left unchanged, and consolidates that file itself. Such a
file after a fork       handler offers ``consolidate_next_forked_logfile()``, as the
                        task log of the pyATS framework does: a context manager to
                        fork in. Of several such handlers, those on the root logger
                        are used
writes to a file        gets a file of its own
writes to another       is left unchanged, so that its output appears at once
descriptor (console)
is of any other kind    forwards its records to the parent
======================  =============================================================
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from pcall._logs.child_logs import LogFile, Whoami

__all__ = ["LogPlan", "handle_record", "has_default_handle", "plan_logs"]


class LogPlan(NamedTuple):
    """The handlers of this process, by their treatment in a child.

    Attributes:
        consolidating: handlers that switch files by themselves and merge them on request.
        files: handlers that get a file of their own.
        forwarded: handlers whose records are sent to this process.
    """

    consolidating: tuple[logging.Handler, ...]
    files: tuple[LogFile, ...]
    forwarded: tuple[logging.Handler, ...]


def plan_logs(whoami: Whoami) -> LogPlan | None:
    """Plan for the handlers that exist now; None where there is nothing to do.

    Args:
        whoami: identifies a child and its call, see :data:`~pcall._logs.child_logs.Whoami`.
    """
    consolidating: list[logging.Handler] = []
    forwarded: list[logging.Handler] = []
    files: list[LogFile] = []
    for handler in _handlers():
        if isinstance(handler, logging.NullHandler):
            continue
        if callable(getattr(handler, "consolidate_next_forked_logfile", None)):
            consolidating.append(handler)
        elif isinstance(handler, logging.FileHandler) and (path := _regular_file(handler)):
            if handler.stream is not None or not _drops_all(handler):
                files.append(LogFile(handler, path, whoami))
        elif not _has_descriptor(handler):
            forwarded.append(handler)
    # A framework may have more handlers of this kind for its own messages. Using those as well
    # would nest one section in another.
    on_root = [handler for handler in consolidating if handler in logging.getLogger().handlers]
    consolidating = on_root or consolidating
    if not (consolidating or files or forwarded):
        return None
    return LogPlan(tuple(consolidating), tuple(files), tuple(forwarded))


def _handlers() -> Iterator[logging.Handler]:
    """Every handler on any logger, once."""
    root = logging.getLogger()
    seen = set()
    for logger in [root, *root.manager.loggerDict.values()]:
        for handler in tuple(getattr(logger, "handlers", ())):
            if id(handler) not in seen and isinstance(handler, logging.Handler):
                seen.add(id(handler))
                yield handler


def _regular_file(handler: logging.FileHandler) -> str | None:
    """The path of the regular file that the handler writes to as text; else None."""
    stream: Any = handler.stream
    try:
        if stream is None:
            mode = os.stat(handler.baseFilename).st_mode
        elif type(stream) is io.TextIOWrapper and type(stream.buffer) is io.BufferedWriter:
            mode = os.fstat(stream.fileno()).st_mode
        else:
            # The output of another kind of stream (one that compresses, for example) can't be
            # put together from pieces.
            return None
    except FileNotFoundError:
        mode = stat.S_IFREG  # not created yet
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(mode):
        return None
    opener = getattr(vars(handler).get("_builtin_open"), "__self__", None)
    # In a child that has not logged yet, `baseFilename` is still the parent's.
    return opener.name() if isinstance(opener, LogFile) else handler.baseFilename


def _drops_all(handler: logging.FileHandler) -> bool:
    """True when the handler has been closed and will not open its file again."""
    return handler.mode == "w" and getattr(handler, "_closed", False)


def _has_descriptor(handler: logging.Handler) -> bool:
    if not isinstance(handler, logging.StreamHandler):
        return False
    try:
        os.fstat(handler.stream.fileno())
    except Exception:  # a stream that is no file of the system may raise anything
        return False
    return True


def has_default_handle(handler: logging.Handler) -> bool:
    """True when its ``handle()`` is that of logging: filter, then emit under the lock."""
    return getattr(handler.handle, "__func__", None) is logging.Handler.handle


def handle_record(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Pass a record to a handler of this process."""
    try:
        if has_default_handle(handler):
            # The handler's filters have been applied in the child.
            handler.acquire()
            try:
                handler.emit(record)
            finally:
                handler.release()
        else:
            handler.handle(record)
    except Exception:
        with contextlib.suppress(Exception):
            handler.handleError(record)
