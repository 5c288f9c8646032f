"""A reused worker whose calls are sent to it, since it was forked before they were known."""

from __future__ import annotations

import os
from contextvars import Context
from select import POLLIN, poll
from typing import Any

from pcall._core.calls import CallParts
from pcall._core.growing_calls import GrowingCalls
from pcall._core.records import Call
from pcall._tuning import FIRST_READ
from pcall._wire.call_pickle import load_call
from pcall._wire.exception_codec import safe_str
from pcall.engines.local.child.worker_main import Worker
from pcall.engines.local.worker_control import WorkerControl

__all__ = ["SentCallsWorker"]


class _SentCalls(GrowingCalls):
    """The calls of a worker: those that it has inherited, and the one that was sent last.

    Args:
        inherited: the calls at the fork.
    """

    def __init__(self, inherited: GrowingCalls) -> None:
        super().__init__()
        self._inherited = inherited
        self._index = -1
        self._pickle = b""
        self._current: CallParts | None = None

    def receive(self, index: int, pickle: bytes) -> None:
        self._index, self._pickle, self._current = index, pickle, None

    def drop(self) -> None:
        self._index, self._pickle, self._current = -1, b"", None

    def __getitem__(self, index: Any) -> Any:
        if index != self._index:
            return self._inherited[index]
        if self._current is None:
            return Call(index, _unread_call, (), {})
        target, args, kwargs = self._current
        return Call(index, target, args, dict(kwargs))

    def _parts(self, index: int) -> CallParts:
        if index != self._index:
            return self._inherited._parts(index)
        try:
            self._current = load_call(self._pickle, self._inherited.shared)
        except Exception as error:
            error.add_note(
                f"the call was sent to a worker, which could not unpickle it: {safe_str(error)}"
            )
            raise
        self._pickle = b""
        return self._current


def _unread_call() -> None:
    """Stands in messages for a call that could not be unpickled."""


_unread_call.__qualname__ = "<a call that could not be unpickled>"


class SentCallsWorker(Worker):
    """A worker whose calls may come as pickles, one a chunk, in two files that take turns.

    Args:
        mailboxes: descriptors of the two files.
        idle_timeout: seconds after which it exits if no call comes; None: it stays.
        *args: see :class:`Worker`.
    """

    def __init__(
        self, mailboxes: tuple[int, ...], idle_timeout: float | None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self._calls, GrowingCalls)
        self._mailboxes = mailboxes
        self._sent = _SentCalls(self._calls)
        self._calls = self._sent
        self._idle = None if idle_timeout is None else int(idle_timeout * 1000) + 1
        self._poll = poll()
        self._poll.register(self._socket.fileno(), POLLIN)

    def _receive(self) -> bytes:
        if self._idle is not None and not self._poll.poll(self._idle):
            self._control.counts[WorkerControl.LEFT] = 1
            return b""  # a call that comes now gets another worker
        return super()._receive()

    def _run(self, context: Context, start: int, stop: int, attempt: int, strict: bool) -> None:
        # The parent has noted whether it has sent this call in the first bytes of the file.
        mailbox = self._mailboxes[(self._control.counts[WorkerControl.TAKEN] - 1) % 2]
        first = os.pread(mailbox, FIRST_READ, 0)
        size = int.from_bytes(first[:8], "little")
        if size:
            self._sent.receive(start, _read(mailbox, 8 + size, first)[8:])
        try:
            super()._run(context, start, stop, attempt, strict)
        finally:
            self._sent.drop()


def _read(fd: int, size: int, first: bytes) -> bytes:
    """The first bytes of a file, of which some have been read."""
    if len(first) >= size:
        return first[:size]
    parts, position = [first], len(first)
    while position < size:
        part = os.pread(fd, size - position, position)
        if not part:
            raise EOFError("a call that was sent is not complete")
        parts.append(part)
        position += len(part)
    return b"".join(parts)
