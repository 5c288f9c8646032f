"""What the methods of a pool return: results to be waited for, and iterators."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from typing import Any, Generic, Self

from pcall._types import T_co
from pcall.exceptions import ResultError

__all__ = ["AsyncResult", "PoolIterator"]

__tracebackhide__ = True  # pytest shows the frames of its user

Callback = Callable[[Any], object]
Submit = Callable[[Iterable[Any]], list[Any]]


class _Timeout(multiprocessing.TimeoutError, TimeoutError):
    """Both exceptions of this name."""


class _Unsendable(ResultError, MaybeEncodingError):  # type: ignore[misc]
    """A ``ResultError`` that ``except MaybeEncodingError`` catches as well."""

    def __init__(self, error: ResultError) -> None:
        Exception.__init__(self, *error.args)
        self.exc, self.value = repr(error.__cause__), str(error)
        self.__cause__ = error.__cause__

    def __str__(self) -> str:
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        return ResultError, self.args


_Timeout.__name__ = _Timeout.__qualname__ = "TimeoutError"
_Unsendable.__name__ = _Unsendable.__qualname__ = "ResultError"
_Unsendable.__module__ = "pcall.exceptions"


def error_of(future: Future[Any]) -> BaseException | None:
    """The exception of a future that is done; None if it has a value."""
    try:
        error = future.exception()
    except CancelledError:
        return BrokenProcessPool("the pool was terminated before this call was over")
    return _Unsendable(error) if isinstance(error, ResultError) else error


class AsyncResult(Generic[T_co]):
    """The result of a call, or the list of the results of several.

    Args:
        futures: of the calls.
        single: True for one call.
        callback: called with the result, in a thread of the pool.
        error_callback: called with the exception instead, if a call has failed.
    """

    def __init__(
        self,
        futures: list[Any],
        single: bool,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> None:
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._left = len(futures)
        self._single = single
        self._futures: list[Any] | None = futures
        self._value: Any = None
        self._error: BaseException | None = None
        self._callback, self._error_callback = callback, error_callback
        if not futures:
            self._conclude([])
        for future in list(futures):
            future.add_done_callback(self._one_done)

    def _one_done(self, _: Any) -> None:
        with self._lock:
            self._left -= 1
            futures = None if self._left else self._futures
            if futures is not None:
                self._futures = None
        if futures is not None:
            self._conclude(futures)

    def _conclude(self, futures: list[Any]) -> None:
        errors = [error for error in map(error_of, futures) if error is not None]
        callback: Callback | None
        if errors:
            self._error, callback = errors[0], self._error_callback
        else:
            values = [future.result() for future in futures]
            self._value, callback = (values[0] if self._single else values), self._callback
        self._callback = self._error_callback = None
        try:
            if callback is not None:
                callback(self._value if self._error is None else self._error)
        finally:
            self._done.set()

    def ready(self) -> bool:
        """True once the calls are over."""
        return self._done.is_set()

    def successful(self) -> bool:
        """True if no call has failed.

        Raises:
            ValueError: the calls are not over.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the calls are over, or for so many seconds."""
        self._done.wait(timeout)

    def get(self, timeout: float | None = None) -> T_co:
        """Wait for the result, for so many seconds; None: without a limit.

        Raises:
            multiprocessing.TimeoutError: it is not there in time.
            BaseException: what a call has raised, the first in call order.
        """
        if not self._done.wait(timeout):
            raise _Timeout(f"no result after {timeout} s")
        if self._error is not None:
            raise self._error
        value: T_co = self._value
        return value


class PoolIterator(Generic[T_co]):
    """Iterates over results while the pool reads its iterable, some calls ahead of those that run.

    Args:
        submit: submits calls with these items, and returns their futures.
        iterable: of the items.
        chunksize: as many items are read at a time. If the iterable fails within a chunk, the
            items before it in this chunk are not used.
        ahead: the number of calls that are in flight.
        ordered: True for call order.
        ended: called once all calls are over.
    """

    def __init__(
        self,
        submit: Submit,
        iterable: Iterable[Any],
        chunksize: int,
        ahead: int,
        ordered: bool,
        ended: Callable[[PoolIterator[Any]], None],
    ) -> None:
        self._submit = submit
        self._source: Iterator[Any] | None = iter(iterable)
        self._chunksize = chunksize
        self._ahead = max(ahead, chunksize)
        self._ordered = ordered
        self._ended = ended
        self._changed = threading.Condition(threading.RLock())
        self._reading = False
        self._flying = 0
        self._queue: deque[Any] = deque()  # futures: submitted, or, where unordered, done
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin to submit calls."""
        self._read_on()

    def stop(self) -> None:
        """Read no further."""
        with self._changed:
            self._source = None
            self._changed.notify_all()

    def _read_on(self) -> None:
        while True:
            with self._changed:
                source = self._source
                if self._reading or source is None or self._flying >= self._ahead:
                    break
                self._reading = True
            # Without the lock: the iterable is the user's code.
            futures: list[Any] = []
            error: BaseException | None = None
            try:
                items = list(islice(source, self._chunksize))
                futures = self._submit(items) if items else []
            except Exception as problem:
                error = problem
            with self._changed:
                self._reading = False
                self._flying += len(futures)
                if self._ordered:
                    self._queue += futures
                if not futures:
                    self._source, self._error = None, error
                self._changed.notify_all()
            for future in futures:
                future.add_done_callback(self._one_done)
        with self._changed:
            over = self._source is None and not self._flying
        if over:
            self._ended(self)

    def _one_done(self, future: Any) -> None:
        with self._changed:
            self._flying -= 1
            if not self._ordered:
                self._queue.append(future)
            self._changed.notify_all()
        self._read_on()

    def wait(self) -> None:
        """Wait until all calls are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._source is None and not self._flying)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        return self.next()

    def next(self, timeout: float | None = None) -> T_co:
        """Wait for the next result, for so many seconds; None: without a limit.

        Raises:
            multiprocessing.TimeoutError: it is not there in time.
            StopIteration: there is none.
            BaseException: what the call has raised, or reading the iterable.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._queue or not self._queue[0].done():
                if not self._queue and self._source is None and not self._flying:
                    error, self._error = self._error, None
                    raise StopIteration if error is None else error
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise _Timeout(f"no result after {timeout} s")
                self._changed.wait(left)
            future = self._queue.popleft()
        error = error_of(future)
        if error is not None:
            raise error
        result: T_co = future.result()
        return result
