"""The logs of a run, as its parent sees them: what children are told, and what comes home."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pcall._core.call_failures import ChildDied, PcallTimeout
from pcall._core.records import Outcome
from pcall._logs.child_logs import ChildLogs, LogFile, SentRecords, Whoami, file_of_call
from pcall._logs.handler_plan import LogPlan, plan_logs
from pcall._logs.record_frames import Frame, FrameReader, unpack_record
from pcall._logs.section_merge import Section, merge_section
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._os.system import System
from pcall._wire.exception_codec import safe_str

__all__ = ["RunLogs", "make_run_logs"]

_log = logging.getLogger("pcall")


def make_run_logs(
    system: System, size: int, outcome: Callable[[int], Outcome], whoami: Whoami
) -> RunLogs | None:
    """What a run with so many calls needs for its logs; None where nothing logs."""
    plan = plan_logs(whoami)
    return None if plan is None else RunLogs(plan, system, size, outcome, whoami)


class _Over(NamedTuple):
    """A call that is over and whose sections have not been merged."""

    outcome: Outcome
    ending: str | None
    later: bool

    def file(self, file: LogFile) -> str:
        """Where it logged."""
        assert self.outcome.pid is not None
        return file_of_call(file.path, self.outcome.pid, self.outcome.index, self.later)

    def title(self, file: LogFile) -> str:
        """What its section is called."""
        return f"{file.path}:pid-{self.outcome.pid}"


class RunLogs:
    """Sections of files, and records, of the calls of one run.

    Args:
        plan: the handlers.
        system: the operating system's services.
        size: how many calls the run has.
        outcome: makes the outcome of a call that ended well.

    Attributes:
        child: what children are told.
        asks: True when each fork has to be made in :meth:`forking`, by itself.
    """

    def __init__(
        self,
        plan: LogPlan,
        system: System,
        size: int,
        outcome: Callable[[int], Outcome],
        whoami: Whoami,
    ) -> None:
        self._plan = plan
        self._outcome = outcome
        self._size = size
        self._lock = threading.RLock()
        self._fd = -1
        self._reader: FrameReader | None = None
        if plan.sent:
            with DeferSignals():
                self._fd = system.make_answer_file()
                register_private_fd(self._fd)  # children of other runs have no business with it
            os.ftruncate(self._fd, 0)
            # What a child writes goes to the end at that moment, wherever that is then.
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_APPEND)
            self._reader = FrameReader(self._fd)
        sent = [
            SentRecords(handler, number, self._fd, _plainly_handled(handler), whoami)
            for number, handler in enumerate(plan.sent)
        ]
        changed: list[LogFile | SentRecords] = [*plan.files, *sent]
        self.child = ChildLogs(
            self._fd,
            tuple((each.fields.update, each.changes) for each in changed),
            plan.files,
            tuple(file.path for file in plan.files),
        )
        self.asks = bool(plan.asked)
        self._over: dict[tuple[int, int], _Over] = {}  # by call and attempt
        self._chunks: list[tuple[range, int, int]] = []
        self._ended: set[int] = set()
        self._next = 0  # the first call in order whose records have not all been handed on
        self._waiting: dict[int, list[Frame]] = {}
        self._delivering = False

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Fork in this block, so that handlers which see to themselves do."""
        for file in self._plan.files:
            file.keep_stream()
        with contextlib.ExitStack() as stack:
            for handler in self._plan.asked:
                asked: Any = handler
                try:
                    block = asked.consolidate_next_forked_logfile()
                    if hasattr(block, "__enter__"):
                        stack.enter_context(block)
                except Exception as error:
                    _log.warning("the log handler %r could not be asked: %r", asked, error)
            yield

    # ------------------------------------------------------------ while calls end

    def ended(self, outcome: Outcome, died: bool, later: bool, retried: bool = False) -> None:
        """A call is over.

        Args:
            outcome: how it ended; its ``log`` is set.
            died: True when its child died or its time was up.
            later: True when its child had another call before it.
            retried: True when it will be tried again.
        """
        if not retried:
            self._ended.add(outcome.index)
        if outcome.pid is None or not self._plan.files:
            return
        over = _Over(outcome, _ending(outcome, died), later)
        # An attempt that was to be tried again, and is not after all, has been told of before.
        over = self._over.setdefault((outcome.index, outcome.attempts), over)
        for file in self._plan.files:
            path = over.file(file)
            if os.access(path, os.F_OK):
                _set_log(outcome, path)
                break

    def ended_well(self, calls: range, pid: int, first: int) -> None:
        """Consecutive calls are over that one child ran one after another.

        Args:
            calls: the calls.
            pid: their child.
            first: the call that this child had first.
        """
        if self._reader is not None:
            self._ended.update(calls)
        if self._plan.files:
            self._chunks.append((calls, pid, first))

    def grow(self, count: int) -> None:
        """The run has so many further calls."""
        self._size += count

    def deliver(self, final: bool) -> None:
        """Hand the records on, in call order, of calls that are over and follow no other.

        Args:
            final: the run is over, and so nothing is left to wait for.
        """
        reader = self._reader
        if reader is None or self._delivering:
            return
        with self._lock:
            if self._reader is None:
                return  # another thread was faster
            if not final and self._next not in self._ended:
                return
            self._delivering = True
            try:
                for frame in reader.new_frames(final):
                    self._waiting.setdefault(frame.call, []).append(frame)
                while self._next in self._ended or (final and self._next < self._size):
                    self._hand_on(reader, self._next)
                    self._next += 1
                for call in sorted(self._waiting):
                    # Of calls handed on before: something that they left has logged.
                    if final or call < self._next:
                        self._hand_on(reader, call)
            finally:
                self._delivering = False
            if final:
                self._reader = None
                fd, self._fd = self._fd, -1
                unregister_private_fd(fd)
                os.close(fd)

    def _hand_on(self, reader: FrameReader, call: int) -> None:
        frames = self._waiting.get(call, [])
        # From the end: what an interrupt leaves here is handed on later, and nothing twice.
        frames.reverse()
        while frames:
            frame = frames.pop()
            try:
                record = unpack_record(reader.payload(frame))
            except Exception as error:  # a class that only the child has, perhaps
                _log.warning("a log record of call %d could not be read: %r", call, error)
                continue
            record.pcall_index = call
            _show(self._plan.sent[frame.handler], record)
        self._waiting.pop(call, None)

    # ------------------------------------------------------------ when the run is over

    def merge(self) -> None:
        """Put what children wrote to files into the main logs, in call order.

        What can't be put there stays where it is, and is reported.
        """
        with self._lock:
            self._find_sections()
            for key in sorted(self._over):
                over = self._over[key]
                # Of several handlers with the same file the first one has brought it home.
                files = {file.path: file for file in reversed(self._plan.files)}
                kept = [path for file in files.values() if (path := self._merge(file, over))]
                _set_log(over.outcome, kept[0] if kept else None)
                del self._over[key]

    def _find_sections(self) -> None:
        """See which of the many calls that ended well have logged.

        By the names that there are, and not by a look for each call: most log nothing.
        """
        chunks, self._chunks = self._chunks, []
        if not chunks:
            return
        names: set[str] = set()
        for file in self._plan.files:
            folder, name = os.path.split(file.path)
            with contextlib.suppress(OSError):
                found = os.listdir(folder or ".")
                names.update(each for each in found if each.startswith(f"{name}:pid-"))
        firsts = {pid: first for _, pid, first in chunks}
        known = {(over.outcome.pid, over.outcome.index) for over in self._over.values()}
        for name in names:
            pid, _, call = name.rpartition(":pid-")[2].partition(".")
            if not pid.isdigit() or int(pid) not in firsts or not (call or "0").isdigit():
                continue  # another run's
            first = firsts[int(pid)]
            index = int(call or first)
            if (int(pid), index) not in known:
                outcome = self._outcome(index)
                self._over[index, outcome.attempts] = _Over(outcome, None, index != first)

    def _merge(self, file: LogFile, over: _Over) -> str | None:
        """Merge one file; where that fails, its path."""
        path, ending = over.file(file), over.ending
        if not os.access(path, os.F_OK) and (ending is None or not _reached(file.handler)):
            return None
        try:
            merge_section(file.handler, Section(over.title(file), path, ending))
        except Exception as error:
            if os.access(path, os.F_OK):
                _log.error(
                    "the log of call %d stays in %s: it could not be put into %s: %s",
                    over.outcome.index,
                    path,
                    file.path,
                    safe_str(error),
                )
                return path
        return None


def _ending(outcome: Outcome, died: bool) -> str | None:
    """How a child ended, in words, when it did not end by itself."""
    code, error = outcome.exitcode, outcome.error
    if not died and (code is None or code >= 0):
        return None
    how = str(ChildDied(code)).removesuffix(" before returning")
    if isinstance(error, PcallTimeout) and died:
        how = f"{error}; {how}" if code is not None and code < 0 else str(error)
    return f"call {outcome.index}, {outcome.call}, process {outcome.pid}: {how}"


def _set_log(outcome: Outcome, path: str | None) -> None:
    # The one thing about an outcome that changes: the file comes and goes.
    object.__setattr__(outcome, "log", path)


def _reached(handler: logging.Handler) -> bool:
    """True when what this library tells goes to this handler."""
    logger: logging.Logger | None = _log
    while logger is not None:
        if handler in logger.handlers:
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _plainly_handled(handler: logging.Handler) -> bool:
    """True when its ``handle()`` is that of logging: filter, then emit under the lock."""
    return getattr(handler.handle, "__func__", None) is logging.Handler.handle


def _show(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Give a record to a handler of this process."""
    try:
        if _plainly_handled(handler):
            # Its filters have seen it, in the child.
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
