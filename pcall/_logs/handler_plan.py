"""Which log handlers there are, and what each is to be in the children of a run.

======================  =============================================================
a handler that          in a child
======================  =============================================================
moves to a file of its  is left alone, and asked to bring that file home (of several
own after a fork        those on the root logger are): it offers, as the task log of the
                        pyATS framework does, ``consolidate_next_forked_logfile()``, a
                        context manager to fork in
writes to a file        gets a file of its own
writes to another       stays as it is, so that what it shows is shown at once
descriptor (console)
is anything else        passes its records on to the parent
======================  =============================================================
"""

from __future__ import annotations

import io
import logging
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from pcall._logs.child_logs import LogFile, Whoami

__all__ = ["LogPlan", "plan_logs"]


class LogPlan(NamedTuple):
    """The handlers of this process, by what becomes of them.

    Attributes:
        asked: handlers that see to themselves when they are asked to.
        files: handlers to be given a file of their own.
        sent: handlers whose records come to this process.
    """

    asked: tuple[logging.Handler, ...]
    files: tuple[LogFile, ...]
    sent: tuple[logging.Handler, ...]


def plan_logs(whoami: Whoami) -> LogPlan | None:
    """The plan for the handlers that there are now; None where there is nothing to do.

    Args:
        whoami: what tells children who they are.
    """
    asked: list[logging.Handler] = []
    sent: list[logging.Handler] = []
    files: list[LogFile] = []
    for handler in _handlers():
        if isinstance(handler, logging.NullHandler):
            continue
        if callable(getattr(handler, "consolidate_next_forked_logfile", None)):
            asked.append(handler)
        elif isinstance(handler, logging.FileHandler) and (path := _own_file(handler)):
            if handler.stream is not None or not _drops_all(handler):
                files.append(LogFile(handler, path, whoami))
        elif not _has_descriptor(handler):
            sent.append(handler)
    # A framework may have more of the kind, for what it logs itself. To ask those, too, would
    # put one section into another.
    asked = [handler for handler in asked if handler in logging.getLogger().handlers] or asked
    if not (asked or files or sent):
        return None
    return LogPlan(tuple(asked), tuple(files), tuple(sent))


def _handlers() -> Iterator[logging.Handler]:
    """Every handler on any logger, once."""
    root = logging.getLogger()
    seen = set()
    for logger in [root, *root.manager.loggerDict.values()]:
        for handler in tuple(getattr(logger, "handlers", ())):
            if id(handler) not in seen and isinstance(handler, logging.Handler):
                seen.add(id(handler))
                yield handler


def _own_file(handler: logging.FileHandler) -> str | None:
    """The path of the regular file that it writes to, as text; else None."""
    stream: Any = handler.stream
    try:
        if stream is None:
            mode = os.stat(handler.baseFilename).st_mode
        elif type(stream) is io.TextIOWrapper and type(stream.buffer) is io.BufferedWriter:
            mode = os.fstat(stream.fileno()).st_mode
        else:
            # Who writes through something else (that compresses, perhaps) writes what
            # can't be put together from pieces.
            return None
    except FileNotFoundError:
        mode = stat.S_IFREG  # not made yet
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(mode):
        return None
    opener = getattr(vars(handler).get("_builtin_open"), "__self__", None)
    # In a child that has not logged yet it is not known to the handler.
    return opener.name() if isinstance(opener, LogFile) else handler.baseFilename


def _drops_all(handler: logging.FileHandler) -> bool:
    """True when it was closed and does not open its file again."""
    return handler.mode == "w" and getattr(handler, "_closed", False)


def _has_descriptor(handler: logging.Handler) -> bool:
    if not isinstance(handler, logging.StreamHandler):
        return False
    try:
        os.fstat(handler.stream.fileno())
    except Exception:  # whatever a stream that is not one of the system may raise
        return False
    return True
