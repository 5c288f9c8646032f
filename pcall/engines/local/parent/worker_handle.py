"""A reused worker as its parent sees it: the calls that it was given, and its progress."""

from __future__ import annotations

from _socket import MSG_DONTWAIT, socketpair
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pcall._core.calls import Calls
from pcall._os.private_fds import (
    register_private_fd,
    socket_above_streams,
    unregister_private_fd,
)
from pcall._tuning import WORKER_LOOK_INTERVAL
from pcall._wire.result_table import ResultTable
from pcall._wire.row_reader import read_chunk
from pcall.engines.local.child.child_main import serve
from pcall.engines.local.child.worker_main import Worker
from pcall.engines.local.child.worker_spec import WorkerSpec
from pcall.engines.local.parent.child_process import ChildProcess
from pcall.engines.local.parent.received_answers import ReceivedAnswers
from pcall.engines.local.worker_control import LEAVE, RESUME, TOKEN, WorkerControl

if TYPE_CHECKING:
    from _socket import socket

__all__ = ["WorkerHandle"]


class WorkerHandle:
    """A worker process that runs call after call.

    A worker has at most two chunks: one that it runs, and one that it takes next.

    Args:
        number: of its control block.
        calls: all calls of the run.
        table: where it answers.
        block: the number of calls that are run in one piece, with random generators seeded at the
            first of them. No chunk is cut within a block.
        make: makes the :class:`~pcall.engines.local.child.worker_main.Worker`, in the child.
        kept: further private descriptors of the parent that the worker needs.
        common_file: returns the descriptor of the file that it writes short answers to; None:
            its process's own answer file.

    Attributes:
        process: the child process.
        control: its control block.
        socket: the parent's end of the socket pair.
        given: the chunks that it was sent and that are not known to have ended. The first may be
            running.
        at: the first call of the first chunk that is not known to have answered.
        since: when the call at :attr:`at` began, on the monotonic clock; None when its chunk has
            not begun.
        calls: the number of calls that it was given.
        leaving: True once it gets no more calls.
        preempt_requested_at: when it was asked to return the unstarted calls of its chunk, on the
            monotonic clock; None if it was not.
        held: True while it waits, after a failure, for :meth:`resume`.
        announced: True once the start of its current call was reported to observers.
        first: the first call that it ran; -1 before.
        owner: its number in the outcome store.
        inherited: the number of calls that there were before its fork.
    """

    def __init__(
        self,
        number: int,
        calls: Calls,
        table: ResultTable,
        block: int,
        make: Callable[..., Any] = Worker,
        kept: tuple[int, ...] = (),
        common_file: Callable[[], int] | None = None,
    ) -> None:
        self.number = number
        self.control: WorkerControl = WorkerControl(table.extra, number)
        self.control.reset()
        self._table = table
        self._block = block
        self.socket: socket
        self.socket, self._other = map(socket_above_streams, socketpair())
        for end in (self.socket, self._other):
            register_private_fd(end.fileno())
        spec = WorkerSpec(calls, table, self.control, self._other, block, make)
        self.process: ChildProcess = ChildProcess(
            f"pcall-worker-{number}", spec, serve, kept=(self._other.fileno(), *kept)
        )
        common_file = common_file or partial(_answer_file, self.process)
        self._received = ReceivedAnswers(table, self.control, self.socket, common_file)
        self.given: deque[range] = deque()
        self.at: int = 0
        self.since: float | None = None
        self.calls: int = 0
        self.leaving: bool = False
        self.preempt_requested_at: float | None = None
        self.held: bool = False
        self.announced = False
        self.first = -1
        self.owner = 0
        self.inherited: int = len(calls)
        self._done = 0  # the number of its chunks that are known to have ended

    @property
    def is_closed(self) -> bool:
        """True once it has ended, and its descriptors were given back."""
        return self.socket.fileno() < 0

    @property
    def table(self) -> ResultTable:
        """The table with its answers."""
        return self._table

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    # ------------------------------------------------------------ requests to the worker

    def give(self, chunk: range, attempt: int, strict: bool) -> None:
        """Have it run these calls, after the calls that it has.

        Args:
            chunk: the calls.
            attempt: the number of their attempt, from 1.
            strict: True if it must wait, after a failure, for :meth:`resume`.
        """
        if not self.given:
            self.at, self.since = chunk.start, None
        self.given.append(chunk)
        self.calls += len(chunk)
        self.socket.send(TOKEN.pack(chunk.start, chunk.stop, attempt, strict))

    def take_back(self) -> range | None:
        """Take back a chunk that was sent but not received; None if there is none."""
        if len(self.given) < 2 or self.since is None:
            return None
        try:
            # Read at the worker's end of the pair: then the worker does not get this message.
            message = self._other.recv(TOKEN.size, MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if TOKEN.unpack(message)[0] != self.given[-1].start:
            self.socket.send(message)  # the worker has received the chunk; this message is LEAVE
            return None
        chunk = self.given.pop()
        self.calls -= len(chunk)
        return chunk

    def preempt(self) -> None:
        """Have it end its chunk after the call, or block of calls, that runs now."""
        if not self.control.counts[WorkerControl.PREEMPT]:
            self.control.counts[WorkerControl.PREEMPT] = WorkerControl.CHUNK
        self.preempt_requested_at = monotonic()

    @property
    def unstarted(self) -> range:
        """The calls of its chunk behind the current block, which another worker could run."""
        if not self.given:
            return range(0)  # a signal handler has ended the run since the caller looked
        chunk, running = self.given[0], max(self.at, self.control.counts[WorkerControl.RUNNING])
        blocks = (running - chunk.start) // self._block + 1
        return range(min(chunk.start + blocks * self._block, chunk.stop), chunk.stop)

    def take_unstarted(self) -> range:
        """Take the unstarted calls, a look interval after they were requested.

        By then the worker has seen the request, or is inside a call that it had begun before, and
        will see the request before the next call. So it runs none of the calls that are taken.
        """
        if self.preempt_requested_at is None or not self.given:
            return range(0)  # a signal handler has ended the run since the caller looked
        assert monotonic() >= self.preempt_requested_at + WORKER_LOOK_INTERVAL
        unstarted = self.unstarted
        self.given[0] = range(self.given[0].start, unstarted.start)
        self.calls -= len(unstarted)
        return unstarted

    def resume(self) -> None:
        """Have it continue after a failure."""
        self.held = False
        self.socket.send(TOKEN.pack(RESUME, 0, 0, False))

    def leave(self) -> None:
        """Have it exit once it has run all calls that it was given."""
        if not self.leaving:
            self.leaving = True
            self.socket.send(TOKEN.pack(LEAVE, 0, 0, False))

    def end(self) -> None:
        """Have it exit before it begins another call."""
        self.control.counts[WorkerControl.PREEMPT] = WorkerControl.WORKER
        self.leaving = True

    @property
    def ending(self) -> bool:
        """True after :meth:`end`."""
        return self.control.counts[WorkerControl.PREEMPT] == WorkerControl.WORKER

    def close(self) -> None:
        """Close its descriptors; call it once the worker has ended."""
        for end in (self.socket, self._other):
            if end.fileno() >= 0:
                unregister_private_fd(end.fileno())
                end.close()
        self._received.close()

    # ------------------------------------------------------------ progress of the worker

    def hear(self) -> bool:
        """Receive its notices.

        Returns:
            True if there was one.
        """
        return self._received.hear()

    def look(self) -> tuple[int, bool]:
        """Read how far it has come with its first chunk.

        Returns:
            The first call of the chunk that has not answered, and whether the chunk has ended.
        """
        # In this order: if the end of the chunk is seen, all answers before it are seen, too.
        done = self.control.counts[WorkerControl.FINISHED] > self._done
        if self.since is None and self.control.counts[WorkerControl.TAKEN] > self._done:
            self.since = self.control.began[self._done % 4]
        return self._table.unanswered(self.at, self.given[0].stop), done

    def finish_chunk(self) -> None:
        """Remove its first chunk, which has ended."""
        self.given.popleft()
        self._done += 1
        if self.preempt_requested_at is not None:
            self.preempt_requested_at = None
            if self.control.counts[WorkerControl.PREEMPT] == WorkerControl.CHUNK:
                self.control.counts[WorkerControl.PREEMPT] = 0
        if self.given:
            self.at, self.since = self.given[0].start, None

    @property
    def running(self) -> bool:
        """True if it has begun the call at :attr:`at`."""
        # A signal handler may have ended the run since the caller looked.
        begun = self.given and self.since is not None and self.at < self.given[0].stop
        # RUNNING is already at a later call while the answer of this one is written.
        return bool(begun) and self.control.counts[WorkerControl.RUNNING] >= self.at

    def answers(self, stop: int) -> tuple[list[Any], dict[int, BaseException]]:
        """Read the answers of the calls from :attr:`at` to ``stop``: values, and errors by call."""
        return read_chunk(self._table, self.at, stop, self._received)

    def recorded(self) -> None:
        """The answers that were read have been recorded."""
        self._received.recorded()


def _answer_file(process: ChildProcess) -> int:
    """The descriptor of a child's answer file."""
    forked = process.forked
    assert forked is not None
    return forked.answer
