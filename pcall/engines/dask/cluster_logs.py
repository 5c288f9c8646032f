"""The log records of a cluster's calls, for the caller's handlers and the sections of its files.

Records come home with the outcome of their call. A handler that writes to a file gets them as a
section, when the run is over; every other handler gets them once their call and all calls before it
have ended.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.records import Outcome
from pcall._logs.record_frames import unpack_record
from pcall._logs.run_logs import ending_of
from pcall._logs.section_merge import Section, merge_section

__all__ = ["ClusterLogs", "levels_here"]

_log = logging.getLogger("pcall")


def levels_here() -> dict[str, int] | None:
    """By the name of a logger, its level; None if no handler would get a record."""
    loggers = {
        name: logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger)
    }
    handlers = [*logging.root.handlers]
    for logger in loggers.values():
        handlers += logger.handlers
    if all(isinstance(each, logging.NullHandler) for each in handlers):
        return None
    disabled = logging.root.manager.disable
    levels = {"": max(logging.root.level, disabled + 1 if disabled else 0)}
    for name, logger in loggers.items():
        if logger.disabled:
            levels[name] = logging.CRITICAL + 1000
        elif logger.level:
            levels[name] = max(logger.level, disabled + 1 if disabled else 0)
    return levels


class ClusterLogs:
    """Collects and delivers the records of a run.

    It is a :class:`~pcall._core.run_state.LogSink`.

    Args:
        count: returns the number of calls of the run.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._lock = threading.RLock()
        self._records: dict[int, list[bytes]] = {}
        self._unwritten: dict[int, list[bytes]] = {}  # of the last attempt
        self._workers: dict[int, tuple[str, int]] = {}
        self._ended: set[int] = set()
        self._next = 0
        self._delivering = False
        self._sections: dict[int, dict[str, tuple[logging.FileHandler, Section]]] = {}

    def add(self, outcome: Outcome, records: tuple[bytes, ...]) -> None:
        """Note the records of an attempt of a call, before its end is reported."""
        if records:
            self._records.setdefault(outcome.index, []).extend(records)
            self._unwritten.setdefault(outcome.index, []).extend(records)
        if outcome.worker is not None and outcome.pid is not None:
            self._workers[outcome.index] = outcome.worker, outcome.pid

    def ended(self, outcome: Outcome, died: bool, later: bool, retried: bool = False) -> None:
        """Note that a call has ended."""
        index = outcome.index
        self._write_sections(index, later)
        ending = ending_of(outcome, died)
        if ending is not None and outcome.attempts:
            self._note_ending(index, later, ending)
        for _, section in self._sections.get(index, {}).values():
            object.__setattr__(outcome, "log", section.file)
            break
        if not retried:
            self._ended.add(index)

    def ended_well(self, calls: range, pid: int, first: int) -> None:
        """Note that calls have ended: not on a cluster, where each is reported by itself."""
        self._ended.update(calls)

    def _write_sections(self, index: int, later: bool) -> None:
        """Write what goes to files into the call's own, beside the main log."""
        for content in self._unwritten.pop(index, ()):
            record = self._unpacked(index, content)
            if record is None:
                continue
            for handler in handlers_of(record):
                if _has_sections(handler):
                    self._append(index, later, handler, record)

    def _section(self, index: int, later: bool, handler: Any) -> Section:
        worker, pid = self._workers.get(index, ("", 0))
        title = f"{handler.baseFilename}:{worker}:pid-{pid}"
        file = f"{title}.{index}" if later else title
        sections = self._sections.setdefault(index, {})
        key = f"{id(handler)} {file}"
        if key not in sections:
            if os.path.lexists(file):
                file = f"{title}.{index}"
            sections[key] = handler, Section(title, file, None)
        return sections[key][1]

    def _append(self, index: int, later: bool, handler: Any, record: logging.LogRecord) -> None:
        try:
            passed = handler.filter(record)
            if not passed:
                return
            if isinstance(passed, logging.LogRecord):
                record = passed
            section = self._section(index, later, handler)
            with open(
                section.file,
                "a",
                encoding=handler.encoding,
                errors=handler.errors,
                opener=_open_private,
            ) as file:
                file.write(handler.format(record) + handler.terminator)
        except Exception:
            handler.handleError(record)

    def _note_ending(self, index: int, later: bool, ending: str) -> None:
        for handler in logging.root.handlers:
            if _has_sections(handler):
                self._section(index, later, handler).ending = ending
        for _, section in self._sections.get(index, {}).values():
            section.ending = ending

    def _unpacked(self, index: int, content: bytes) -> logging.LogRecord | None:
        try:
            record = unpack_record(content)
        except Exception as error:  # perhaps a class that exists only elsewhere
            _log.warning("a log record of call %d could not be read: %r", index, error)
            return None
        record.pcall_index = index
        return record

    def deliver(self, final: bool) -> None:
        """Pass records to the handlers that write to no file, in call order."""
        with self._lock:
            if self._delivering:
                return
            self._delivering = True
            try:
                while self._next in self._ended or (final and self._next < self._count()):
                    index = self._next
                    self._next += 1
                    self._ended.discard(index)
                    self._deliver_call(index)
            finally:
                self._delivering = False

    def _deliver_call(self, index: int) -> None:
        for content in self._records.pop(index, ()):
            record = self._unpacked(index, content)
            if record is None:
                continue
            for handler in handlers_of(record):
                if not _has_sections(handler):
                    self._handle(handler, record)

    def _handle(self, handler: logging.Handler, record: logging.LogRecord) -> None:
        try:
            handler.handle(record)
        except Exception:
            with suppress(Exception):
                handler.handleError(record)

    def merge(self) -> None:
        """Merge the sections into the main logs, in call order."""
        for index in sorted(self._sections):
            for handler, section in self._sections[index].values():
                if section.written:
                    continue
                try:
                    merge_section(handler, section)
                except OSError as error:
                    _log.warning("the log %s could not be merged: %s", section.file, error)
        self._sections.clear()


def handlers_of(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """The handlers of this process that get a record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    assert logger is not None
    if logger.disabled or not logger.filter(record):
        return
    while logger is not None:
        for handler in logger.handlers:
            if record.levelno >= handler.level:
                yield handler
        logger = logger.parent if logger.propagate else None


def _has_sections(handler: logging.Handler) -> bool:
    """True for a handler that writes to a file in which calls have sections."""
    if not isinstance(handler, logging.FileHandler):
        return False
    path = handler.baseFilename
    return os.path.isfile(path) or not os.path.lexists(path)


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o644)
