"""A reused worker between its start and its end: the loop that makes call after call.

A call may take a microsecond, so the loop does very little for each. Once a millisecond it does
the rest: it measures, looks at its control block, and notifies the parent of answers.
"""

from __future__ import annotations

import sys
from _socket import MSG_DONTWAIT
from collections.abc import Callable
from contextvars import Context
from math import inf
from os import _exit
from signal import SIG_DFL, SIG_SETMASK, raise_signal, signal
from time import monotonic
from types import FrameType
from typing import Any

from pcall._core.calls import Calls
from pcall._core.failing_calls import FailingCalls
from pcall._core.records import Call
from pcall._errors import TaskCancelled
from pcall._logs.child_logs import end_call, opened
from pcall._os.signals import SIGTERM, set_handler, set_mask
from pcall._os.system import System
from pcall._tuning import LONGEST_CHUNK, LONGEST_SILENCE, WORKER_LOOK_INTERVAL
from pcall._wire.result_table import FALSE, FLOAT, HANDED_OFF, INT, NONE, TRUE
from pcall.engines.invoke import log_failure
from pcall.engines.local.child.answer_writer import AnswerWriter
from pcall.engines.local.child.output_marks import OutputMarks
from pcall.engines.local.child.usage_meter import UsageMeter
from pcall.engines.local.child.worker_spec import WorkerSpec
from pcall.engines.local.seeding import Seeds, seed
from pcall.engines.local.std_streams import flush_std_streams
from pcall.engines.local.worker_control import (
    ANSWERED,
    EVERY_CALL,
    LEAVE,
    NOTICE,
    RESUME,
    TOKEN,
    WorkerControl,
)

__all__ = ["Worker", "copies"]

__tracebackhide__ = True  # pytest shows the frames of its user

# Not empty in a process that a call of a worker has forked.
copies: list[int] = []

# What SIGTERM does depends on the worker's state. Idle: the process ends. Calling: the call is
# cancelled. Answering with an error: the worker exits once it has answered.
_IDLE, _CALLING, _ANSWERING = range(3)


class Worker:
    """Receives chunks of calls and makes them, until it is asked to leave.

    Args:
        spec: its calls and its shared memory, inherited by the fork.
        common_file: descriptor of the file for its short answers.
        system: makes further files.
        seeds: what to seed random generators from; None: no generator is in use.
        handler: the handler of SIGTERM, which calls :meth:`on_sigterm`.
        writer: writes its answers; None: a plain one.

    Attributes:
        first: the first call that it ran; -1 before.
        initialize: what it calls before its first call; None: nothing.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        common_file: int,
        system: System,
        seeds: Seeds | None,
        handler: Callable[[int, FrameType | None], None],
        writer: AnswerWriter | None = None,
    ) -> None:
        self._calls: Calls = spec.calls
        self._table, self._control = spec.table, spec.control
        self._socket, self._block = spec.socket, spec.block
        self._writer = writer or AnswerWriter(
            spec.table, spec.control, spec.socket, common_file, system
        )
        self._meter = UsageMeter(spec.table)
        self._seeds = seeds
        self._handler = handler
        self._start = self._stop = 0
        self._attempt = 1
        self._marks: OutputMarks | None = None
        self.first: int = -1
        self.initialize: Callable[[], object] | None = None
        self._failing = -1  # the call whose error is being logged
        self._held = False  # after a failure, until the parent sends RESUME
        self._state = _IDLE
        self._cancelled = False
        self._notified = monotonic()

    @property
    def current(self) -> int:
        """The call that runs."""
        if self._failing >= 0:
            return self._failing
        return self._table.unanswered(self._start, self._stop)

    @property
    def running(self) -> tuple[Call, int] | None:
        """The call that runs, and the number of its attempt; None between two chunks."""
        index = self.current
        if self._state == _IDLE or not self._start <= index < self._stop:
            return None
        return self._calls[index], self._attempt

    def capture(self, files: tuple[int, int] | None) -> None:
        """Mark where the output of each call lies in these files; None: it is not captured."""
        if files is not None and self._table.output is not None:
            self._marks = OutputMarks(self._table.output, files)

    def profile(self, profiled: Callable[..., Any], fd: int) -> None:
        """Have each call profiled.

        Args:
            profiled: makes profiled calls of the calls.
            fd: of the file for the profiles.
        """
        self._calls = profiled(self._calls, fd, lambda: self._attempt)

    def serve(self, context: Context, mask: tuple[int, ...]) -> bool:
        """Receive and make calls until the parent wants no more, or a SIGTERM ends it.

        Args:
            context: the caller's context variables.
            mask: the signals to block.

        Returns:
            True when a SIGTERM has ended it.
        """
        set_mask(SIG_SETMASK, mask)
        counts = self._control.counts
        while True:
            try:
                message = self._receive()
                if len(message) < TOKEN.size:
                    return False  # the parent has died
                start, stop, attempt, strict = TOKEN.unpack(message)
                if start == LEAVE:
                    return False
                if start == RESUME:
                    self._held = False
                    continue
                self._control.began[counts[WorkerControl.TAKEN] % 4] = monotonic()
                self._start, self._stop, self._attempt = start, stop, attempt
                self._state = _CALLING
                counts[WorkerControl.RUNNING] = -1  # the old number may be in this chunk, too
                counts[WorkerControl.TAKEN] += 1
                set_handler(SIGTERM, self._handler)  # a call may have left its own
                if self.initialize is not None:
                    self._initialize(context, self.initialize)
                if not self._held:
                    self._run(context, start, stop, attempt, strict)
                self._state = _IDLE
            except TaskCancelled as error:  # between two calls
                self._end_between_calls(error)
                return True
            flush_std_streams()
            counts[WorkerControl.FINISHED] += 1
            ending = counts[WorkerControl.PREEMPT] == WorkerControl.WORKER
            if self._cancelled or self._writer.full or ending:
                return self._cancelled
            self._notify()

    def _initialize(self, context: Context, initialize: Callable[[], object]) -> None:
        """Call the initializer. If it fails, so do all calls of this worker, with its error."""
        self.initialize = None
        try:
            context.run(initialize)
        except BaseException as error:
            self._calls = FailingCalls(self._calls, error)

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        """Run a chunk, or the first calls of it."""
        counts = self._control.counts
        index = block_end = start
        end = monotonic() + LONGEST_CHUNK
        # The calls of a block draw random numbers one after another: no chunk ends within one.
        whole = self._seeds is not None
        while 0 <= index < stop:
            # In this order, as in _run_block().
            counts[WorkerControl.RUNNING] = index
            now = monotonic()
            if index == block_end or not whole:
                if self._has_done_enough(index, now, end, WorkerControl.CHUNK):
                    counts[WorkerControl.RUNNING] = index - 1
                    return
                block_end = stop
                if self._seeds is not None:
                    self._seed(self._seeds, index, attempt)
                    block_end = min(stop, index + self._block)
            # Each call starts with the caller's context variables. To copy the context for each
            # call takes longer than some calls do, so it is copied after a call has changed one.
            own = context.copy()
            until = inf if whole else end
            look_at = now + WORKER_LOOK_INTERVAL
            index = own.run(self._run_block, own, index, block_end, strict, until, look_at)

    def _seed(self, seeds: Seeds, index: int, attempt: int) -> None:
        """Seed the random generators for a block of calls that begins with this one."""
        seed(seeds, index, attempt)

    def _run_block(
        self, own: Context, start: int, stop: int, strict: bool, end: float, look_at: float
    ) -> int:
        """Run calls in one context, until one fails or changes a context variable.

        Args:
            own: the context.
            start: the first call.
            stop: the call behind the last.
            strict: True when a failure ends the chunk.
            end: when the chunk ends, on the monotonic clock; infinite: only the exit of this
                worker ends it.
            look_at: when to measure and to look at the control block next.

        Returns:
            The next call; -1 when the chunk has ended.
        """
        table, counts, writer, meter = self._table, self._control.counts, self._writer, self._meter
        values, floats, ended, kinds = table.values, table.floats, table.ended, table.kinds
        flush = getattr(sys.stdout, "flush", _nothing)
        marks = self._marks
        if marks is not None:
            marks.begin()
        index = meter.unmeasured = start
        if self.first < 0:
            self.first = start
        base = own.copy()
        enough = WorkerControl.CHUNK if end < inf else WorkerControl.WORKER
        try:
            make = self._calls.results(index, stop).__next__
            while index < stop:
                value = make()
                if copies:
                    _exit(0)  # a copy that the target forked has come back from it
                of = type(value)
                if of is int:
                    try:
                        values[index] = value
                        kind: int = INT
                    except ValueError:  # beyond 64 bits
                        kind = writer.answer(index, [value])
                elif of is float:
                    floats[index] = value
                    kind = FLOAT
                elif value is None:
                    kind = NONE
                elif of is bool:
                    kind = TRUE if value else FALSE
                else:
                    # No variable here refers to the value while it is sent.
                    returned, value = [value], None
                    kind = writer.answer(index, returned)
                    returned.clear()
                # The order matters. The parent takes the calls behind RUNNING once a look interval
                # has passed since it asked for them. RUNNING is written before the clock is read,
                # and the next look is due an interval after a reading from before the last look.
                # So if RUNNING still was this call when the interval had passed, the loop looks
                # now, and sees the request before another call begins.
                counts[WorkerControl.RUNNING] = index + 1
                if kind == HANDED_OFF and counts[WorkerControl.PREEMPT]:
                    kind = writer.send_handed_off(index)  # another worker may get the next call
                ended[index] = now = monotonic()
                try:
                    flush()
                except (ValueError, OSError):
                    pass  # closed, or no room: that is not the call's error
                if marks is not None:
                    marks.end(index)
                if now >= look_at:
                    meter.measure(index + 1)  # before the row counts as answered
                kinds[index] = kind
                if opened:
                    end_call()  # the next call has log files of its own
                index += 1
                if now >= look_at:
                    if self._has_done_enough(index, now, end, enough):
                        counts[WorkerControl.RUNNING] = index - 1
                        return -1
                    late = now - look_at > WORKER_LOOK_INTERVAL
                    if late or now - self._notified > LONGEST_SILENCE:
                        self._notify()  # of a call that took long, or of many short ones
                    look_at = now + WORKER_LOOK_INTERVAL
                try:
                    changed = own != base
                except Exception:  # a value's own comparison failed
                    changed = True
                if changed:
                    meter.measure(index)
                    return index
        except BaseException as error:
            if copies:
                _exit(0)
            if index == stop or counts[WorkerControl.RUNNING] < index or kinds[index]:
                raise  # a SIGTERM between two calls
            counts[WorkerControl.RUNNING] = index
            self._fail(index, error)
            if opened:
                end_call()
            index += 1
            if strict or self._cancelled or writer.full:
                self._held = strict
                return -1
        meter.measure(index)
        return index

    def _has_done_enough(self, index: int, now: float, end: float, least: int) -> bool:
        """True when the chunk ends before this call, and the parent gets the unstarted calls back.

        Args:
            index: the call.
            now: the time.
            end: when the chunk ends.
            least: the least PREEMPT value that ends it.
        """
        return now > end or self._cancelled or self._control.counts[WorkerControl.PREEMPT] >= least

    def _end_between_calls(self, error: TaskCancelled) -> None:
        """A SIGTERM ends this worker before a call.

        The parent may have told that the call runs here, and whoever sends the signal then means
        the call: it fails. When the parent wants the chunk back, another worker may have it.
        """
        index, counts = self.current, self._control.counts
        begun = self._start <= index < self._stop and counts[WorkerControl.RUNNING] >= index
        self._meter.measure(max(self._meter.unmeasured, index))
        if begun and not counts[WorkerControl.PREEMPT]:
            self._fail(index, error)
        else:
            counts[WorkerControl.RUNNING] = index - 1

    def _receive(self) -> bytes:
        """Wait for the next TOKEN message; empty when the parent has died."""
        return self._socket.recv(TOKEN.size)

    def _fail(self, index: int, error: BaseException) -> None:
        """Answer with the exception that a call raised, and log it."""
        table, now = self._table, monotonic()
        self._state = _ANSWERING
        self._cancelled |= isinstance(error, TaskCancelled)
        kind = self._writer.answer_error(index, error, now)
        self._failing = index
        self._meter.measure(index + 1)
        if self._marks is not None:
            self._marks.end(index)
        table.ended[index] = now
        table.kinds[index] = kind
        log_failure(self._calls[index], error)
        self._failing = -1
        self._state = _CALLING

    def _notify(self) -> None:
        """Send the parent a notice that there are answers."""
        self._notified = monotonic()
        try:
            self._socket.send(NOTICE.pack(ANSWERED), MSG_DONTWAIT)
        except BlockingIOError:
            pass  # the parent has not read the last ones yet

    def on_sigterm(self) -> None:
        """Handle a SIGTERM.

        Raises:
            TaskCancelled: in the call that runs, when the signal is meant for it.
        """
        if self._state == _IDLE and not self._cancelled:
            signal(SIGTERM, SIG_DFL)
            raise_signal(SIGTERM)
        if self._state == _ANSWERING or self._cancelled:
            self._cancelled = True  # it exits once it has answered
            return
        target = self._control.counts[WorkerControl.CANCELLED]
        if target in (EVERY_CALL, self._table.unanswered(self._start, self._stop)):
            self._cancelled = True  # set first: a second SIGTERM must not interrupt the clean-up
            raise TaskCancelled("ended by SIGTERM")
        # Otherwise it was meant for a call that has ended since.


def _nothing() -> None:
    pass
