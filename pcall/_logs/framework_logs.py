"""Handlers of frameworks, which switch to a file of their own in a child and merge it themselves.

A child merges its file at its exit, with all that its calls have logged. A child that is killed
does not. Where the handler offers ``concatenateLog(path)``, as the task log of the pyATS framework
does, this process has the handler take in such a file at the end of the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

from pcall._logs.section_merge import Section, concatenate_section
from pcall._wire.exception_codec import safe_str

__all__ = ["FrameworkLogs"]

_log = logging.getLogger("pcall")


class FrameworkLogs:
    """Has the files of children consolidated by the handlers that offer it.

    Args:
        handlers: the handlers.
    """

    def __init__(self, handlers: tuple[logging.Handler, ...]) -> None:
        self._handlers = handlers
        self._concatenating = [
            handler for handler in handlers if callable(getattr(handler, "concatenateLog", None))
        ]
        self._lock = threading.RLock()
        self._sections: dict[int, list[tuple[logging.Handler, Section]]] = {}  # by process id

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Fork a child in this block."""
        with contextlib.ExitStack() as stack:
            for handler in self._handlers:
                consolidating: Any = handler
                try:
                    block = consolidating.consolidate_next_forked_logfile()
                    if hasattr(block, "__enter__"):
                        stack.enter_context(block)
                except Exception as error:
                    _log.warning("the log handler %r could not be asked: %r", handler, error)
            yield

    def forked(self, pid: int) -> None:
        """Note a child that was forked, since the handler may log to another file later."""
        found = []
        for handler in self._concatenating:
            path = _main_file(handler)
            if path is not None:
                title = f"{path}:pid-{pid}"
                found.append((handler, Section(title, _file_of_child(handler, path, pid), None)))
        if found:
            self._sections[pid] = found

    def ended(self, pid: int, ending: str) -> None:
        """Note how a child ended that did not exit by itself."""
        for _, section in self._sections.get(pid, ()):
            section.ending = ending

    def merge(self) -> None:
        """Have the handlers take in the files that children have left, in the order of forks."""
        with self._lock:
            for pid in list(self._sections):
                for handler, section in self._sections[pid]:
                    _concatenate(handler, section)
                del self._sections[pid]


def _main_file(handler: logging.Handler) -> str | None:
    """The path of the file that the handler logs to."""
    for name in ("logfile", "baseFilename"):
        path = getattr(handler, name, None)
        if isinstance(path, str):
            return path
    return None


def _file_of_child(handler: logging.Handler, path: str, pid: int) -> str:
    pattern = getattr(handler, "forked_log_pattern", None)
    if isinstance(pattern, str):
        with contextlib.suppress(LookupError, ValueError):
            return pattern.format(parent=path, pid=pid)
    return f"{path}:pid-{pid}"


def _concatenate(handler: logging.Handler, section: Section) -> None:
    if section.written or not os.access(section.file, os.F_OK):
        return  # the child has merged its file
    try:
        concatenate_section(handler, section)
    except Exception as error:
        _log.error(
            "the log of a child stays in %s: the log handler %r could not take it in: %s",
            section.file,
            handler,
            safe_str(error),
        )
