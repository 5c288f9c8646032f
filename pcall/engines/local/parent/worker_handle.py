"""One reused child as its parent sees it: what it was given, and what it has answered."""

from __future__ import annotations

import _socket
import os
import sys
from _socket import CMSG_SPACE, MSG_DONTWAIT, socketpair
from collections import deque
from collections.abc import Callable
from errno import EMFILE
from pickle import loads
from time import monotonic
from typing import Any

from pcall._core.calls import Calls
from pcall._errors import ResultError
from pcall._os.private_fds import register_private_fd, unregister_private_fd
from pcall._os.signals import DeferSignals, is_interrupt
from pcall._wire.decode import Answer, decode, read_answer
from pcall._wire.exception_codec import safe_str
from pcall._wire.result_table import (
    ANSWERED,
    CONSTANTS,
    FLOAT,
    IN_FILE,
    INT,
    LEAVE,
    LOOK_EVERY,
    NONE,
    NOTICE,
    PICKLED,
    RESUME,
    TOKEN,
    ResultTable,
    WorkerControl,
    unpack_place,
)
from pcall.engines.local.child.child_main import serve
from pcall.engines.local.child.worker_main import Worker, WorkerSpec
from pcall.engines.local.parent.child_process import ChildProcess

__all__ = ["WorkerHandle"]

# Bytes of answers that are read at a time.
_READ = 1 << 20
# Files that are held open, each with one answer.
_FILES = 8
_CLOSED_BY_EXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


class WorkerHandle:
    """A child that takes call after call.

    Args:
        number: of its slot.
        calls: of the run.
        table: where it answers.
        block: calls that are run in one piece.
        make: makes its worker.
        kept: further descriptors of the parent's own that it is to have.

    Attributes:
        process: the child.
        socket: the parent's end.
        given: the chunks that it was sent and that are not known to be done with. The
            first may be running.
        at: the first call of that one which is not known to have answered.
        since: when that one began, on the monotonic clock; None when it has not, yet.
        calls: how many calls it was given.
        leaving: True once it gets no more.
        asked: when it was asked for the rest of its chunk, on the monotonic clock, or None.
        held: True while it waits, after a failure, for :meth:`resume`.
        idle_since: while nothing is given: when it was done, or told to leave.
        announced: True when observers know that its current call runs.
        first: the first call that it took; -1 before.
        owner: its number in the outcomes.
    """

    def __init__(
        self,
        number: int,
        calls: Calls,
        table: ResultTable,
        block: int,
        make: Callable[..., Any] = Worker,
        kept: tuple[int, ...] = (),
    ) -> None:
        self.number = number
        self.slot = table.slot(number)
        self.slot.reset()
        self._table = table
        self._block = block
        self.socket, self._other = socketpair()
        for end in (self.socket, self._other):
            register_private_fd(end.fileno())
        lane = WorkerSpec(calls, table, self.slot, self._other, block, make)
        self.process = ChildProcess(
            f"pcall-worker-{number}", lane, serve, kept=(self._other.fileno(), *kept)
        )
        self.given: deque[range] = deque()
        self.at = 0
        self.since: float | None = None
        self.calls = 0
        self.leaving = False
        self.asked: float | None = None
        self.held = False
        self.idle_since = 0.0
        self.announced = False
        self.first = -1
        self.owner = 0
        self._done = 0  # chunks of it that are known to be done with
        self._files: dict[int, int] = {}  # by number: descriptors of answers that came alone
        self._read = memoryview(b"")  # of its file
        self._read_at = 0

    @property
    def table(self) -> ResultTable:
        """The table that it answers in."""
        return self._table

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    # ------------------------------------------------------------ what it is told

    def give(self, chunk: range, attempt: int, strict: bool) -> None:
        """Have it run these calls, after those that it has.

        Args:
            chunk: the calls.
            attempt: the number of their attempt, from 1.
            strict: True when it has to wait, after a failure, for :meth:`resume`.
        """
        if not self.given:
            self.at, self.since = chunk.start, None
        self.given.append(chunk)
        self.calls += len(chunk)
        self.socket.send(TOKEN.pack(chunk.start, chunk.stop, attempt, strict))

    def take_back(self) -> range | None:
        """The chunk that it was given and has not taken, or None."""
        if len(self.given) < 2 or self.since is None:
            return None
        try:
            # From its own end: what is read here it does not get.
            message = self._other.recv(TOKEN.size, MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if TOKEN.unpack(message)[0] != self.given[-1].start:
            self.socket.send(message)  # it has taken that one, and this is the word to leave
            return None
        chunk = self.given.pop()
        self.calls -= len(chunk)
        return chunk

    def preempt(self) -> None:
        """Have it run no more of its chunk than the call, or block of calls, it is at."""
        if not self.slot.counts[WorkerControl.ENDS]:
            self.slot.counts[WorkerControl.ENDS] = WorkerControl.CHUNK
        self.asked = monotonic()

    @property
    def rest(self) -> range:
        """What another could run of its chunk: all behind the block that it was last seen at."""
        chunk, running = self.given[0], max(self.at, self.slot.counts[WorkerControl.RUNNING])
        blocks = (running - chunk.start) // self._block + 1
        return range(min(chunk.start + blocks * self._block, chunk.stop), chunk.stop)

    def take_unstarted(self) -> range:
        """Take that, :data:`LOOK_EVERY` after it was asked for: it has looked by now, or will
        before it begins with another call, and what it runs now it had begun before."""
        assert self.asked is not None
        assert monotonic() >= self.asked + LOOK_EVERY
        rest = self.rest
        self.given[0] = range(self.given[0].start, rest.start)
        self.calls -= len(rest)
        return rest

    def resume(self) -> None:
        """Have it go on after a failure."""
        self.held = False
        self.socket.send(TOKEN.pack(RESUME, 0, 0, False))

    def leave(self) -> None:
        """Have it end, once it has done what it was given."""
        if not self.leaving:
            self.leaving = True
            self.idle_since = monotonic()
            self.socket.send(TOKEN.pack(LEAVE, 0, 0, False))

    def end(self) -> None:
        """Have it end before anything further that it was given."""
        self.slot.counts[WorkerControl.ENDS] = WorkerControl.CHILD
        self.leaving = True

    @property
    def ending(self) -> bool:
        """True once it was told so."""
        return self.slot.counts[WorkerControl.ENDS] == WorkerControl.CHILD

    def close(self) -> None:
        """It is over: give its descriptors back."""
        for end in (self.socket, self._other):
            if end.fileno() >= 0:
                unregister_private_fd(end.fileno())
                end.close()
        for number in list(self._files):
            self._drop(number)
        self._read = memoryview(b"")

    # ------------------------------------------------------------ what it has answered

    def hear(self) -> bool:
        """Take its notices, as long as there are not too many files: they wait where they are.

        Returns:
            True when there was one.
        """
        heard = False
        while len(self._files) < _FILES:
            try:
                message, attached, _, _ = self.socket.recvmsg(
                    NOTICE.size, CMSG_SPACE(4), MSG_DONTWAIT | _CLOSED_BY_EXEC
                )
            except BlockingIOError:
                break
            if not message:
                break
            heard = True
            (number,) = NOTICE.unpack(message)
            for _, _, content in attached:
                fd = int.from_bytes(content[:4], sys.byteorder)
                os.set_inheritable(fd, False)
                register_private_fd(fd)
                self._files[number] = fd
            if number != ANSWERED and not attached:
                self._files[number] = -1  # this process has too many open
        return heard

    def look(self) -> tuple[int, bool]:
        """How far it has come with its first chunk.

        Returns:
            The first of its calls that has not answered, and whether it is done with the
            chunk.
        """
        # In this order: what was answered before the end of a chunk is seen, then.
        done = self.slot.counts[WorkerControl.FINISHED] > self._done
        if self.since is None and self.slot.counts[WorkerControl.TAKEN] > self._done:
            self.since = self.slot.began[self._done % 4]
        return self._table.unanswered(self.at, self.given[0].stop), done

    def finish_chunk(self) -> None:
        """Its first chunk is out of the way."""
        self.given.popleft()
        self.idle_since = monotonic()
        self._done += 1
        if self.asked is not None:
            self.asked = None
            if self.slot.counts[WorkerControl.ENDS] == WorkerControl.CHUNK:
                self.slot.counts[WorkerControl.ENDS] = 0
        if self.given:
            self.at, self.since = self.given[0].start, None

    @property
    def running(self) -> bool:
        """True when it has begun with the call at :attr:`at`."""
        begun = self.since is not None and self.at < self.given[0].stop
        # It is further when the answer is being written.
        return begun and self.slot.counts[WorkerControl.RUNNING] >= self.at

    def answers(self, stop: int) -> tuple[list[Any], dict[int, BaseException]]:
        """What the calls from :attr:`at` on answered: values, and the errors by call."""
        start, table = self.at, self._table
        kinds = bytes(table.kinds[start:stop])
        count = stop - start
        if kinds.count(INT) == count:
            return table.values[start:stop].tolist(), {}
        if kinds.count(FLOAT) == count:
            return table.floats[start:stop].tolist(), {}
        if kinds.count(NONE) == count:
            return [None] * count, {}
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        for index, kind in enumerate(kinds, start):
            if kind == INT:
                values.append(table.values[index])
            elif kind == FLOAT:
                values.append(table.floats[index])
            elif kind in CONSTANTS:
                values.append(CONSTANTS[kind])
            elif kind == PICKLED:
                try:
                    values.append(loads(self._view(table.values[index])))
                except BaseException as problem:
                    if is_interrupt(problem):
                        raise  # the pickle itself was loaded in the child
                    values.append(None)
                    errors[index] = _unreadable(problem)
            else:
                answer = self._answer(index, kind)
                values.append(answer.value)
                if answer.error is not None:
                    errors[index] = answer.error
        return values, errors

    def _answer(self, index: int, kind: int) -> Answer:
        try:
            if kind == IN_FILE:
                answer = self._answer_in_file(index)
            else:
                answer = decode(self._view(self._table.values[index]))
            if answer is not None:
                return answer
            raise OSError("it did not come to its end")
        except Exception as problem:  # no memory, no descriptor to be had, perhaps
            if is_interrupt(problem):
                raise
            return Answer(None, _unreadable(problem), self._table.ended[index])

    def _answer_in_file(self, index: int) -> Answer | None:
        number = self._file_of(index)
        try:
            return read_answer(self._files[number])
        finally:
            self._drop(number)

    def _file_of(self, index: int) -> int:
        """The number of the file with the answer of a call; it is among those that are held."""
        number = self._table.values[index]
        while number not in self._files and self.hear():
            for other in [other for other in self._files if other < number]:
                self._drop(other)  # of a call that was ended just then
        if self._files[number] < 0:
            del self._files[number]
            raise OSError(EMFILE, "there was no descriptor to be had for it")
        return number

    def _drop(self, number: int) -> None:
        with DeferSignals():
            fd = self._files.pop(number)
            if fd >= 0:
                unregister_private_fd(fd)
                os.close(fd)

    def _file(self) -> int:
        """What it writes its short answers to."""
        forked = self.process.forked
        assert forked is not None
        return forked.answer

    def _view(self, number: int) -> memoryview:
        """The bytes of its file at this place."""
        place, length = unpack_place(number)
        start = place - self._read_at
        if start < 0 or start + length > len(self._read):
            # No more than it is done with: what it writes just now may be written anew.
            whole = min(_READ, self.slot.counts[WorkerControl.WRITTEN] - place)
            self._read = memoryview(os.pread(self._file(), max(length, whole), place))
            self._read_at, start = place, 0
        return self._read[start : start + length]


def _unreadable(problem: BaseException) -> ResultError:
    failure = ResultError(
        f"the answer could not be read: {type(problem).__name__}: {safe_str(problem)}"
    )
    failure.__cause__ = problem
    return failure
