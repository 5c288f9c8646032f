"""Delivers the records that children have forwarded to the handlers of this process."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence

from pcall._logs.handler_plan import handle_record
from pcall._logs.printed import Printed
from pcall._logs.record_frames import Frame, FrameReader, unpack_record
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals
from pcall._os.system import System

__all__ = ["RecordDelivery"]

_log = logging.getLogger("pcall")


class RecordDelivery:
    """Passes records to handlers, in call order or as calls end.

    Args:
        handlers: the handlers, in the order of their numbers.
        system: the operating system's services.
        printed: the objects of this process that get what children print; in a frame, their numbers
            follow those of the handlers.
        ordered: False: the records of a call are delivered once it has ended.

    Attributes:
        fd: descriptor of the file that children write records to; -1 where there are no handlers,
            and once the last record has been delivered.
    """

    def __init__(
        self,
        handlers: tuple[logging.Handler, ...],
        system: System,
        printed: Sequence[Printed] = (),
        ordered: bool = True,
    ) -> None:
        self._ordered = ordered
        self.fd = -1
        self._handlers = handlers
        self._printed = printed
        self._lock = threading.RLock()
        self._reader: FrameReader | None = None
        self._ended: set[int] = set()  # calls from `_next` on that have ended
        self._next = 0  # the first call in order whose records have not all been delivered
        self._waiting: dict[int, deque[Frame]] = {}
        self._delivering = False
        self._final = False  # True once the records of all calls are to be delivered
        if handlers or printed:
            with DeferSignals():
                self.fd = system.make_answer_file()
                register_private_fd(self.fd)  # keep it out of the children of other runs
            os.ftruncate(self.fd, 0)
            # Each write of a child then goes to the end that the file has at that moment.
            flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_APPEND)
            self._reader = FrameReader(self.fd)

    def ended(self, index: int) -> None:
        """Note that a call has ended."""
        if self._reader is not None:
            self._ended.add(index)

    def ended_well(self, calls: range) -> None:
        """Note that these calls have ended."""
        if self._reader is not None:
            self._ended.update(calls)

    def deliver(self, final: bool) -> None:
        """Pass records to the handlers, in call order, unless another thread is at it.

        The records of a call are delivered once it and all calls before it have ended.

        Args:
            final: True when the run is over: deliver the records of all calls.
        """
        self._final = self._final or final
        if self._reader is None or self._delivering:
            return
        if self._final or self._next in self._ended or (self._ended and not self._ordered):
            self._deliver()

    def finish(self) -> None:
        """Deliver the records of all calls, and close the file.

        If another thread is at it, inside a handler perhaps, this waits. A handler that calls this
        while it is given a record gets the others when it has returned.
        """
        self._final = True
        if self._reader is not None:
            self._deliver()

    def _deliver(self) -> None:
        with self._lock:
            if self._delivering:
                return  # this thread is within a handler
            self._delivering = True
            try:
                complete = False
                # Another call may ask for the last records while the others are delivered.
                while self._reader is not None and not complete:
                    complete = self._final
                    self._deliver_ended(self._reader, complete)
                    if not self._final:
                        return
            finally:
                self._delivering = False
            self._close()

    def _deliver_ended(self, reader: FrameReader, final: bool) -> None:
        # First, since more calls may end meanwhile, whose frames are not read then.
        stop, ended = self._next, list(self._ended)
        while stop in self._ended and self._ordered:
            stop += 1
        with DeferSignals():  # a frame that has been read is known, whatever interrupts
            for frame in reader.new_frames(final):
                self._waiting.setdefault(frame.call, deque()).append(frame)
        if not self._ordered:
            for call in [*ended, *(each for each in self._waiting if final)]:
                self._deliver_call(reader, call)
                self._ended.discard(call)
            return
        while self._next < stop:
            self._deliver_call(reader, self._next)
            self._next += 1
            self._ended.discard(self._next - 1)
        # Calls delivered before may have left something running that has logged since.
        late = sorted(call for call in self._waiting if call < self._next)
        rest = sorted(call for call in self._waiting if call >= self._next and final)
        for call in [*rest, *late]:
            self._deliver_call(reader, call)

    def _deliver_call(self, reader: FrameReader, call: int) -> None:
        frames = self._waiting.get(call, deque())
        while frames:
            record: logging.LogRecord | None = None
            number = frames[0].handler - len(self._handlers)
            if number >= 0:
                payload = reader.payload(frames.popleft())
                self._printed[number].deliver(payload)
                continue
            try:
                record = unpack_record(reader.payload(frames[0]))
                record.pcall_index = call
            except Exception as error:  # perhaps a class that exists only in the child
                _log.warning("a log record of call %d could not be read: %r", call, error)
            # Taken out before the handler gets it: after an interrupt the remaining ones are
            # delivered later, and none twice.
            frame = frames.popleft()
            if record is not None:
                handle_record(self._handlers[frame.handler], record)
        self._waiting.pop(call, None)

    def _close(self) -> None:
        with DeferSignals():
            if self._reader is not None:
                self._reader = None
                fd, self.fd = self.fd, -1
                unregister_private_fd(fd)
                os.close(fd)
