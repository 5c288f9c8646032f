"""The life of a reused child between its start and its end: call after call.

What is done for every call is kept to what a call of a microsecond can bear. The rest is done
when a millisecond has passed since it was last done: figures from the kernel, a look at what
the parent wants, word that there are answers.
"""

from __future__ import annotations

import sys
from _socket import MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from array import array
from collections.abc import Callable
from contextvars import Context
from errno import ETOOMANYREFS
from math import inf
from os import _exit, close, pwrite
from resource import RUSAGE_SELF, getrusage
from signal import SIG_DFL, SIG_SETMASK, raise_signal, signal
from time import monotonic, sleep
from types import FrameType
from typing import Any, NamedTuple

from pcall._core.calls import Calls
from pcall._errors import TaskCancelled
from pcall._logs.child_logs import end_call, opened
from pcall._os.capacity import RSS_UNIT
from pcall._os.signals import SIGTERM, set_handler, set_mask
from pcall._os.system import System
from pcall._wire.encode import (
    ShortPickler,
    encode_error,
    encode_little,
    encode_value,
    unsendable,
    with_header,
)
from pcall._wire.result_table import (
    ANSWERED,
    ENCODED,
    EVERY_CALL,
    FALSE,
    FLOAT,
    HANDED_OFF,
    IN_FILE,
    INT,
    LEAVE,
    LOOK_EVERY,
    NONE,
    NOTICE,
    PICKLED,
    RESUME,
    TOKEN,
    TRUE,
    ResultTable,
    WorkerControl,
    pack_place,
)
from pcall.engines.invoke import log_failure, run_if_coroutine
from pcall.engines.local.seeding import Seeds, seed
from pcall.engines.local.std_streams import flush_std_streams

__all__ = ["AnswerFile", "Worker", "WorkerSpec", "copies"]

# Not empty in what a call of a reused child has forked.
copies: list[int] = []

# What a SIGTERM does depends on it: end the process, cancel the call, wait for the answer.
_IDLE, _CALLING, _ANSWERING = range(3)
# Seconds after which what is left of a chunk is given back: it was made for less.
_LONGEST_CHUNK = 0.02
# Seconds that answers may wait for word of them.
_LONGEST_SILENCE = 0.005


class WorkerSpec(NamedTuple):
    """What a reused child is told.

    Attributes:
        calls: of the whole run.
        table: where answers go.
        slot: its own part of it.
        socket: its end.
        block: calls that are run in one piece, with random generators seeded at the first.
        make: makes the worker, in the child; with the arguments of :class:`Worker`.
    """

    calls: Calls
    table: ResultTable
    slot: WorkerControl
    socket: Socket
    block: int
    make: Callable[..., Any]


class Worker:
    """Takes chunks of calls until it is told to leave.

    Args:
        lane: see there.
        answers: descriptor of its file for answers.
        system: makes further ones.
        seeds: what to seed random generators from.
        handler: of SIGTERM; it asks :meth:`on_sigterm`.

    Attributes:
        first: the call that it began with.
    """

    def __init__(
        self,
        lane: WorkerSpec,
        answers: int,
        system: System,
        seeds: Seeds | None,
        handler: Callable[[int, FrameType | None], None],
    ) -> None:
        self._calls, self._table, self._slot, self._socket, self._block, _ = lane
        self._answers = answers
        self._system = system
        self._seeds = seeds
        self._handler = handler
        self._start = self._stop = 0
        self.first = -1
        self._failing = -1
        self._held = False  # after a failure, until the parent says what follows
        self._full = False
        self._files = 0  # that were sent
        self._state = _IDLE
        self._cancelled = False
        self._usage = self._look()
        self._unmeasured = 0  # the first call since the last look
        self._told = monotonic()
        self._pickler = ShortPickler()

    @property
    def current(self) -> int:
        """The call that is being made."""
        if self._failing >= 0:
            return self._failing
        return self._table.unanswered(self._start, self._stop)

    def serve(self, context: Context, mask: tuple[int, ...]) -> bool:
        """Take calls until it is told to leave, or cancelled.

        Returns:
            True when a SIGTERM has ended it.
        """
        set_mask(SIG_SETMASK, mask)
        counts = self._slot.counts
        while True:
            try:
                message = self._receive()
                if len(message) < TOKEN.size:
                    return False  # the parent has gone
                start, stop, attempt, strict = TOKEN.unpack(message)
                if start == LEAVE:
                    return False
                if start == RESUME:
                    self._held = False
                    continue
                self._slot.began[counts[WorkerControl.TAKEN] % 4] = monotonic()
                self._start, self._stop = start, stop
                self._state = _CALLING
                counts[WorkerControl.RUNNING] = -1  # that of the last chunk may be in this one
                counts[WorkerControl.TAKEN] += 1
                set_handler(SIGTERM, self._handler)  # a call may have left its own
                if not self._held:
                    self._run(context, start, stop, attempt, strict)
                self._state = _IDLE
            except TaskCancelled:  # between two calls
                counts[WorkerControl.RUNNING] = self.current - 1
                self._measure(max(self._unmeasured, self.current))
                return True
            flush_std_streams()
            counts[WorkerControl.FINISHED] += 1
            if self._cancelled or self._full or counts[WorkerControl.ENDS] == WorkerControl.CHILD:
                return self._cancelled
            self._tell()

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        """Run a chunk, or the beginning of it."""
        counts = self._slot.counts
        index = block_end = start
        end = monotonic() + _LONGEST_CHUNK
        # In a block calls draw numbers one after another: nothing else begins within one.
        whole = self._seeds is not None
        while 0 <= index < stop:
            # In the order that _run_block() has.
            counts[WorkerControl.RUNNING] = index
            now = monotonic()
            if index == block_end or not whole:
                if self._has_done_enough(index, now, end, WorkerControl.CHUNK):
                    counts[WorkerControl.RUNNING] = index - 1
                    return
                block_end = stop
                if self._seeds is not None:
                    seed(self._seeds, index, attempt)
                    block_end = min(stop, index + self._block)
            # Each call has the caller's variables as they were. To see to that for each takes
            # longer than some calls, and few change any.
            own = context.copy()
            until = inf if whole else end
            look_at = now + LOOK_EVERY
            index = own.run(self._run_block, own, index, block_end, strict, until, look_at)

    def _run_block(
        self, own: Context, start: int, stop: int, strict: bool, end: float, look_at: float
    ) -> int:
        """Run these calls in a context of their own, until one fails or changes a variable of it.

        Args:
            own: the context.
            start: the first call.
            stop: the one behind the last.
            strict: True when a failure ends it.
            end: when it is to end; infinite: only when this child is to.
            look_at: when to look next what the parent wants, and at the clocks.

        Returns:
            The next call; -1 when there is to be none now.
        """
        table, counts = self._table, self._slot.counts
        values, floats, ended, kinds = table.values, table.floats, table.ended, table.kinds
        flush = getattr(sys.stdout, "flush", _nothing)
        index = self._unmeasured = start
        if self.first < 0:
            self.first = start
        base = own.copy()
        enough = WorkerControl.CHUNK if end < inf else WorkerControl.CHILD
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
                        kind = self._answer(index, [value])
                elif of is float:
                    floats[index] = value
                    kind = FLOAT
                elif value is None:
                    kind = NONE
                elif of is bool:
                    kind = TRUE if value else FALSE
                else:
                    # Nothing here refers to it while it is sent.
                    returned, value = [value], None
                    kind = self._answer(index, returned)
                    returned.clear()
                # In this order: where the parent sees that a call runs when LOOK_EVERY has
                # passed since it asked for the rest of the chunk, there is a look, and its
                # wish is seen, before another one begins. The time that a look goes by is from
                # before it, and from after what the parent may have seen.
                counts[WorkerControl.RUNNING] = index + 1
                if kind == HANDED_OFF and counts[WorkerControl.ENDS]:
                    kind = self._send_handed_off(index)  # the next call may be another child's now
                ended[index] = now = monotonic()
                try:
                    flush()
                except (ValueError, OSError):
                    pass  # closed, or no room: not this call's fault
                if now >= look_at:
                    self._measure(index + 1)  # before it counts as answered
                kinds[index] = kind
                if opened:
                    end_call()  # what the next one logs is its own
                index += 1
                if now >= look_at:
                    if self._has_done_enough(index, now, end, enough):
                        counts[WorkerControl.RUNNING] = index - 1
                        return -1
                    if now - look_at > LOOK_EVERY or now - self._told > _LONGEST_SILENCE:
                        self._tell()  # of a call that took long, or of many that did not
                    look_at = now + LOOK_EVERY
                try:
                    changed = own != base
                except Exception:  # a comparison of the user's
                    changed = True
                if changed:
                    self._measure(index)
                    return index
        except BaseException as error:
            if copies:
                _exit(0)
            if index == stop or counts[WorkerControl.RUNNING] < index or kinds[index]:
                raise  # a SIGTERM, between two calls
            counts[WorkerControl.RUNNING] = index
            self._fail(index, error)
            if opened:
                end_call()
            index += 1
            if strict or self._cancelled or self._full:
                self._held = strict
                return -1
        self._measure(index)
        return index

    def _has_done_enough(self, index: int, now: float, end: float, least: int) -> bool:
        """True when the rest of the chunk, from this call on, is to be given back.

        Args:
            index: the call.
            now: the time.
            end: when the chunk is to end.
            least: what the parent has to want.
        """
        return now > end or self._cancelled or self._slot.counts[WorkerControl.ENDS] >= least

    def _send_handed_off(self, index: int) -> int:
        """Send a value that was to stay here, after all."""
        raise NotImplementedError

    def _receive(self) -> bytes:
        return self._socket.recv(TOKEN.size)

    # ------------------------------------------------------------ answers

    def _answer(self, index: int, returned: list[Any]) -> int:
        """Send what a call returned: the one thing in this list, which none else refers to."""
        returned[0] = run_if_coroutine(returned[0])
        content = self._pickler.dumps(returned[0])
        if content is None:
            return self._answer_large(index, returned)
        try:
            if not self._pickler.risky:
                self._write(index, content)
                return PICKLED
            self._write(index, with_header(returned[0], content, monotonic()))
            return ENCODED
        except OSError as error:
            raise unsendable(returned[0], error) from error

    def _answer_large(self, index: int, returned: list[Any]) -> int:
        file = AnswerFile(self._system)
        try:
            return self._put(index, encode_value(returned[0], monotonic(), file.open), file)
        except OSError as error:
            raise unsendable(returned[0], error) from error
        finally:
            file.close()

    def _fail(self, index: int, error: BaseException) -> None:
        table, now = self._table, monotonic()
        self._state = _ANSWERING
        self._cancelled |= isinstance(error, TaskCancelled)
        file = AnswerFile(self._system)
        try:
            kind = self._put(index, encode_error(error, now, file.open), file)
        except OSError:  # no room on the disk, perhaps, or for this process
            kind = self._put_last(index, error, now)
        finally:
            file.close()
        self._failing = index
        self._measure(index + 1)
        table.ended[index] = now
        table.kinds[index] = kind
        log_failure(self._calls[index], error)
        self._failing = -1
        self._state = _CALLING

    def _put(self, index: int, content: bytes | None, file: AnswerFile) -> int:
        if content is None:
            files = [(SOL_SOCKET, SCM_RIGHTS, file.fd.to_bytes(4, sys.byteorder))]
            # Not by call: one that is ended just after this has another answer.
            self._files += 1
            self._table.values[index] = self._files
            while True:
                try:
                    self._socket.sendmsg([NOTICE.pack(self._files)], files)
                    return IN_FILE
                except OSError as error:
                    if error.errno != ETOOMANYREFS:
                        raise
                    sleep(0.001)  # until the parent has taken some of what is under way
        self._write(index, content)
        return ENCODED

    def _put_last(self, index: int, error: BaseException, now: float) -> int:
        """Answer where there is room in any case, once: another child goes on."""
        self._full = True
        content = encode_little(error, now)
        pwrite(self._answers, content, 0)
        self._table.values[index] = pack_place(0, len(content))
        return ENCODED

    def _write(self, index: int, content: bytes) -> None:
        counts = self._slot.counts
        place, length = counts[WorkerControl.WRITTEN], len(content)
        written = pwrite(self._answers, content, place)
        while written < length:
            written += pwrite(self._answers, content[written:], place + written)
        counts[WorkerControl.WRITTEN] = place + length
        self._table.values[index] = pack_place(place, length)

    def _tell(self) -> None:
        self._told = monotonic()
        try:
            self._socket.send(NOTICE.pack(ANSWERED), MSG_DONTWAIT)
        except BlockingIOError:
            pass  # it has not read the last ones yet

    # ------------------------------------------------------------ figures

    def _look(self) -> tuple[float, int]:
        usage = getrusage(RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT

    def _measure(self, stop: int) -> None:
        """Write down the figures of the calls since the last look; of many, the mean."""
        start, self._unmeasured = self._unmeasured, stop
        (before, _), self._usage = self._usage, self._look()
        cpu, rss = self._usage
        count = stop - start
        if count == 1:
            self._table.cpu[start], self._table.rss[start] = cpu - before, rss
        elif count:
            self._table.cpu[start:stop] = _repeated((cpu - before) / count, "d", count)
            self._table.rss[start:stop] = _repeated(rss, "q", count)

    # ------------------------------------------------------------ the end

    def on_sigterm(self) -> None:
        """Handle one.

        Raises:
            TaskCancelled: the call that is being made is to be cancelled.
        """
        if self._state == _IDLE and not self._cancelled:
            signal(SIGTERM, SIG_DFL)
            raise_signal(SIGTERM)
        if self._state == _ANSWERING or self._cancelled:
            self._cancelled = True  # once it has answered
            return
        meant = self._slot.counts[WorkerControl.CANCELLED]
        if meant in (EVERY_CALL, self._table.unanswered(self._start, self._stop)):
            self._cancelled = True  # before: a second one must not break into what follows
            raise TaskCancelled("SIGTERM")
        # It was meant for a call that has ended since.


class AnswerFile:
    """A file for one large answer, made when it is needed."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.fd = -1

    def open(self) -> int:
        self.fd = self._system.make_answer_file()
        return self.fd

    def close(self) -> None:
        if self.fd >= 0:
            close(self.fd)


def _repeated(value: Any, format: str, count: int) -> memoryview:
    return memoryview(array(format, [value]) * count)


def _nothing() -> None:
    pass
