"""The logs of a run in its parent: set up the children's handlers, collect what they log."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pcall._core.call_failures import ChildDied, PcallTimeout
from pcall._core.records import Outcome
from pcall._logs.child_logs import ChildLogs, LogFile, RecordForwarder, Whoami, file_of_call
from pcall._logs.handler_plan import LogPlan, handle_record, has_default_handle, plan_logs
from pcall._logs.printed import Printed
from pcall._logs.record_frames import Frame, FrameReader, unpack_record
from pcall._logs.section_merge import Section, merge_section
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._os.system import System
from pcall._wire.exception_codec import safe_str

__all__ = ["RunLogs", "make_run_logs"]

_log = logging.getLogger("pcall")


_NO_HANDLERS = LogPlan((), (), ())


def make_run_logs(
    system: System,
    outcome: Callable[[int], Outcome],
    whoami: Whoami,
    *,
    tasklog: bool = True,
    printed: Sequence[Printed] = (),
) -> RunLogs | None:
    """Make the logs of a run; None if nothing needs any.

    Args:
        system: the operating system's services.
        outcome: returns the outcome of a call that ended well.
        whoami: identifies a child and its call, see :data:`~pcall._logs.child_logs.Whoami`.
        tasklog: False: leave the log handlers alone.
        printed: the objects of this process that children have to send something to.
    """
    plan = plan_logs(whoami) if tasklog else None
    if plan is None and not printed:
        return None
    return RunLogs(plan or _NO_HANDLERS, system, outcome, whoami, printed)


class _EndedCall(NamedTuple):
    """A call that has ended and whose sections have not been merged.

    Attributes:
        outcome: of the call's last attempt.
        ending: how the child ended, if it did not exit by itself.
        later: True when another call ran before it in the same child.
    """

    outcome: Outcome
    ending: str | None
    later: bool

    def file(self, file: LogFile) -> str:
        """The path of its own log file."""
        assert self.outcome.pid is not None
        return file_of_call(file.path, self.outcome.pid, self.outcome.index, self.later)

    def title(self, file: LogFile) -> str:
        """The title of its section."""
        return f"{file.path}:pid-{self.outcome.pid}"


class RunLogs:
    """Merges file sections and forwards records for the calls of one run.

    The run may grow: calls that did not exist at its start are logged like any other.

    Args:
        plan: the handlers.
        system: the operating system's services.
        outcome: returns the outcome of a call that ended well.
        whoami: identifies a child and its call, see :data:`~pcall._logs.child_logs.Whoami`.
        printed: the objects of this process that children have to send something to.

    Attributes:
        child: the logging set-up for the children.
        consolidates: True when handlers consolidate by themselves: then each fork needs a
            :meth:`forking` block of its own.
    """

    def __init__(
        self,
        plan: LogPlan,
        system: System,
        outcome: Callable[[int], Outcome],
        whoami: Whoami,
        printed: Sequence[Printed] = (),
    ) -> None:
        self._plan = plan
        self._printed = printed
        self._outcome = outcome
        self._lock = threading.RLock()
        self._fd = -1
        self._reader: FrameReader | None = None
        if plan.forwarded or printed:
            with DeferSignals():
                self._fd = system.make_answer_file()
                register_private_fd(self._fd)  # keep it out of the children of other runs
            os.ftruncate(self._fd, 0)
            # Each write of a child then goes to the end that the file has at that moment.
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_APPEND)
            self._reader = FrameReader(self._fd)
        forwarders = [
            RecordForwarder(handler, number, self._fd, has_default_handle(handler), whoami)
            for number, handler in enumerate(plan.forwarded)
        ]
        changed: list[LogFile | RecordForwarder] = [*plan.files, *forwarders]
        # In a frame, the numbers of these objects follow those of the handlers.
        replaced = (
            each.replace(self._fd, number, whoami)
            for number, each in enumerate(printed, len(forwarders))
        )
        self.child = ChildLogs(
            self._fd,
            (*((each.fields.update, each.changes) for each in changed), *replaced),
            plan.files,
            tuple(file.path for file in plan.files),
        )
        self.consolidates = bool(plan.consolidating)
        self._unmerged: dict[tuple[int, int], _EndedCall] = {}  # by call and attempt
        self._chunks: list[tuple[range, int, int]] = []
        self._ended: set[int] = set()  # calls from `_next` on that have ended
        self._next = 0  # the first call in order whose records have not all been delivered
        self._waiting: dict[int, list[Frame]] = {}
        self._delivering = False

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Fork in this block, so that handlers which consolidate by themselves take part."""
        for file in self._plan.files:
            file.keep_stream()
        with contextlib.ExitStack() as stack:
            for handler in self._plan.consolidating:
                consolidating: Any = handler
                try:
                    block = consolidating.consolidate_next_forked_logfile()
                    if hasattr(block, "__enter__"):
                        stack.enter_context(block)
                except Exception as error:
                    _log.warning("the log handler %r could not be asked: %r", handler, error)
            yield

    # ------------------------------------------------------------ while calls end

    def ended(self, outcome: Outcome, died: bool, later: bool, retried: bool = False) -> None:
        """Note that a call has ended.

        Args:
            outcome: of the call. Its ``log`` is set here.
            died: True when its child died or it ran out of time.
            later: True when another call ran before it in the same child.
            retried: True when it will be tried again.
        """
        if not retried:
            self._ended.add(outcome.index)
        if outcome.pid is None or not self._plan.files:
            return
        call = _EndedCall(outcome, _ending(outcome, died), later)
        # An attempt that was to be retried, and is not after all, has been noted before.
        call = self._unmerged.setdefault((outcome.index, outcome.attempts), call)
        for file in self._plan.files:
            path = call.file(file)
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
        if self._reader is not None:
            self._ended.update(calls)
        if self._plan.files:
            self._chunks.append((calls, pid, first))

    def deliver(self, final: bool) -> None:
        """Pass records to the parent's handlers, in call order.

        The records of a call are delivered once it and all calls before it have ended.

        Args:
            final: True when the run is over: deliver the records of all calls.
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
                while self._next in self._ended:
                    self._deliver_call(reader, self._next)
                    self._next += 1
                    self._ended.discard(self._next - 1)
                # Calls delivered before may have left something running that has logged since.
                late = sorted(call for call in self._waiting if call < self._next)
                rest = sorted(call for call in self._waiting if call >= self._next and final)
                for call in [*rest, *late]:
                    self._deliver_call(reader, call)
            finally:
                self._delivering = False
            if final:
                self._reader = None
                fd, self._fd = self._fd, -1
                unregister_private_fd(fd)
                os.close(fd)

    def _deliver_call(self, reader: FrameReader, call: int) -> None:
        frames = self._waiting.get(call, [])
        # Pop each frame before it is delivered: after an interrupt the remaining ones are
        # delivered later, and none twice.
        frames.reverse()
        while frames:
            frame = frames.pop()
            number = frame.handler - len(self._plan.forwarded)
            if number >= 0:
                self._printed[number].deliver(reader.payload(frame))
                continue
            try:
                record = unpack_record(reader.payload(frame))
            except Exception as error:  # perhaps a class that exists only in the child
                _log.warning("a log record of call %d could not be read: %r", call, error)
                continue
            record.pcall_index = call
            handle_record(self._plan.forwarded[frame.handler], record)
        self._waiting.pop(call, None)

    # ------------------------------------------------------------ when the run is over

    def merge(self) -> None:
        """Merge the children's files into the main logs, in call order.

        A file that can't be merged stays in its place, and is reported.
        """
        with self._lock:
            self._find_sections()
            for key in sorted(self._unmerged):
                call = self._unmerged[key]
                # The first of several handlers with the same file has merged it.
                files = {file.path: file for file in reversed(self._plan.files)}
                kept = [path for file in files.values() if (path := self._merge(file, call))]
                _set_log(call.outcome, kept[0] if kept else None)
                del self._unmerged[key]

    def _find_sections(self) -> None:
        """Find out which of the many calls that ended well have logged.

        Listing the folders is cheaper than a look for each call's file: most calls log nothing.
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
        known = {(call.outcome.pid, call.outcome.index) for call in self._unmerged.values()}
        for name in names:
            pid, _, number = name.rpartition(":pid-")[2].partition(".")
            if not pid.isdigit() or int(pid) not in firsts or not (number or "0").isdigit():
                continue  # of another run
            first = firsts[int(pid)]
            index = int(number or first)
            if (int(pid), index) not in known:
                outcome = self._outcome(index)
                ended = _EndedCall(outcome, None, later=index != first)
                self._unmerged[index, outcome.attempts] = ended

    def _merge(self, file: LogFile, call: _EndedCall) -> str | None:
        """Merge one file; return its path if that fails, else None."""
        path, ending = call.file(file), call.ending
        if not os.access(path, os.F_OK) and (ending is None or not _gets_our_log(file.handler)):
            return None
        try:
            merge_section(file.handler, Section(call.title(file), path, ending))
        except Exception as error:
            if os.access(path, os.F_OK):
                _log.error(
                    "the log of call %d stays in %s: it could not be put into %s: %s",
                    call.outcome.index,
                    path,
                    file.path,
                    safe_str(error),
                )
                return path
        return None


def _ending(outcome: Outcome, died: bool) -> str | None:
    """A line about how a child ended; None if it exited by itself."""
    code, error = outcome.exitcode, outcome.error
    if not died and (code is None or code >= 0):
        return None
    how = str(ChildDied(code)).removesuffix(" before returning")
    if isinstance(error, PcallTimeout) and died:
        how = f"{error}; {how}" if code is not None and code < 0 else str(error)
    return f"call {outcome.index}, {outcome.call}, process {outcome.pid}: {how}"


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
