"""The sections of calls in the main logs: which there are, and merging them in call order."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pcall._core.records import Outcome
from pcall._logs.child_logs import LogFile, file_of_call
from pcall._logs.section_merge import Section, merge_section
from pcall._wire.exception_codec import safe_str

__all__ = ["CallSections"]

_log = logging.getLogger("pcall")


@dataclass
class _Execution:
    """An execution of a call in one child, whose sections have not been merged.

    Attributes:
        index: of the call.
        pid: process id of the child.
        later: True when another call ran before it in the same child.
        order: it ended after the executions with a smaller number.
        outcome: the outcome of the execution; None if the call was executed again since.
        ending: how the child ended, if it did not exit by itself.
        sections: its sections, by the path of the main log.
    """

    index: int
    pid: int
    later: bool
    order: int
    outcome: Outcome | None
    ending: str | None = None
    sections: dict[str, Section] = field(default_factory=dict)

    def file(self, file: LogFile) -> str:
        """The path of its own log file."""
        return file_of_call(file.path, self.pid, self.index, self.later)

    def section(self, file: LogFile) -> Section:
        """Its section in the main log."""
        if file.path not in self.sections:
            title = f"{file.path}:pid-{self.pid}"
            self.sections[file.path] = Section(title, self.file(file), self.ending)
        return self.sections[file.path]


class CallSections:
    """Merges the children's files into the main logs.

    A call that is executed several times, in several children, has a section for each. All that is
    noted here is kept until it has been merged, so that an interrupted merge can be continued.

    Args:
        files: the handlers of the main logs.
        outcome: returns the outcome of a call that ended well.
    """

    def __init__(
        self, files: tuple[LogFile, ...], outcome: Callable[[int], Outcome | None]
    ) -> None:
        self._files = files
        self._outcome = outcome
        self._lock = threading.RLock()
        self._executions: dict[tuple[int, int], _Execution] = {}  # by process id and call
        self._chunks: list[tuple[range, int, int, int]] = []
        self._noted = 0  # what was noted so far, which gives the order of executions

    def ended(self, outcome: Outcome, ending: str | None, later: bool) -> None:
        """Note that a call has ended, or an attempt that failed.

        Args:
            outcome: of the call. Its ``log`` is set here.
            ending: how the child ended, if it did not exit by itself.
            later: True when another call ran before it in the same child.
        """
        if outcome.pid is None or not self._files:
            return
        key = outcome.pid, outcome.index
        self._noted += 1
        execution = _Execution(outcome.index, outcome.pid, later, self._noted, None)
        known = self._executions.setdefault(key, execution)
        known.outcome = outcome
        known.ending = ending or known.ending
        for file in self._files:
            path = known.file(file)
            if os.access(path, os.F_OK):
                _set_log(outcome, path)
                break

    def ended_well(self, calls: range, pid: int, first: int) -> None:
        """Note that consecutive calls have ended well, which one child ran one after another.

        Args:
            calls: indices of the calls.
            pid: process id of their child.
            first: index of the first call of this child.
        """
        if self._files:
            self._noted += 1
            self._chunks.append((calls, pid, first, self._noted))

    def merge(self) -> None:
        """Merge the files, in call order. One that can't be merged stays, and is reported."""
        with self._lock:
            self._find()
            for key, execution in sorted(self._executions.items(), key=_place):
                # The first of several handlers with the same file has merged it.
                files = {file.path: file for file in reversed(self._files)}
                kept = [path for file in files.values() if (path := _merge(file, execution))]
                if execution.outcome is not None:
                    _set_log(execution.outcome, kept[0] if kept else None)
                del self._executions[key]

    def _find(self) -> None:
        """Find out which of the many calls that ended well have logged.

        Listing the folders is cheaper than a look for each call's file: most calls log nothing.
        """
        if not self._chunks:
            return
        names: set[str] = set()
        for file in self._files:
            folder, name = os.path.split(file.path)
            with contextlib.suppress(OSError):
                found = os.listdir(folder or ".")
                names.update(each for each in found if each.startswith(f"{name}:pid-"))
        firsts = {pid: first for _, pid, first, _ in self._chunks}
        for name in names:
            pid, _, number = name.rpartition(":pid-")[2].partition(".")
            if not pid.isdigit() or int(pid) not in firsts or not (number or "0").isdigit():
                continue  # of another run
            first = firsts[int(pid)]
            key = int(pid), int(number or first)
            if key not in self._executions:
                outcome = self._outcome(key[1])
                # Of a call that was executed again, the outcome is that of the last execution.
                current = outcome if outcome is not None and outcome.pid == key[0] else None
                execution = _Execution(key[1], key[0], key[1] != first, self._noted, current)
                self._executions[key] = execution
        self._order_repeated()
        # Only now, since an interrupted search is repeated.
        self._chunks = []

    def _order_repeated(self) -> None:
        """Give the calls that were executed several times the order of these executions."""
        times = Counter(index for _, index in self._executions)
        repeated = [index for index, count in times.items() if count > 1]
        for calls, pid, _, order in self._chunks if repeated else ():
            for index in repeated:
                if index in calls and (pid, index) in self._executions:
                    self._executions[pid, index].order = order


def _place(item: tuple[tuple[int, int], _Execution]) -> tuple[int, int]:
    """Where the sections of an execution stand in the main log."""
    _, execution = item
    return execution.index, execution.order


def _merge(file: LogFile, execution: _Execution) -> str | None:
    """Merge one file; return its path if that fails, else None."""
    section = execution.section(file)
    path, ending = section.file, section.ending
    if section.written:
        return None  # by a merge that was interrupted later
    if not os.access(path, os.F_OK) and (ending is None or not _gets_our_log(file.handler)):
        return None
    try:
        merge_section(file.handler, section)
    except Exception as error:
        if os.access(path, os.F_OK):
            _log.error(
                "the log of call %d stays in %s: it could not be put into %s: %s",
                execution.index,
                path,
                file.path,
                safe_str(error),
            )
            return path
    return None


def _set_log(outcome: Outcome, path: str | None) -> None:
    # The only field of an outcome that changes: the file is created, merged and removed.
    object.__setattr__(outcome, "log", path)


def _gets_our_log(handler: logging.Handler) -> bool:
    """True when this library's own log messages go to this handler."""
    logger: logging.Logger | None = _log
    while logger is not None:
        if handler in logger.handlers:
            return True
        logger = logger.parent if logger.propagate else None
    return False
