"""``Pool``: the interface of :class:`multiprocessing.pool.Pool` on an executor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from pcall.executor.pool_results import AsyncResult, Callback, PoolIterator
from pcall.executor.process_executor import Executor

__all__ = ["Pool"]

__tracebackhide__ = True  # pytest shows the frames of its user

S = TypeVar("S")
T = TypeVar("T")

_RUN, _CLOSE, _TERMINATE = "RUN", "CLOSE", "TERMINATE"
# Calls in flight for each process, while imap() reads its iterable.
_AHEAD = 4


class Pool:
    """A pool of reused processes, with the methods of :class:`multiprocessing.pool.Pool`.

    A process that dies is an error of the call that it ran, in the result of that call, and another
    one takes its place. Functions need not be picklable, and exceptions are the originals. Leaving
    a ``with`` block terminates the pool.

    Args:
        processes: how many. None: one per core.
        initializer: called in each process before its first call. If it fails, so do all calls.
        initargs: its positional arguments.
        maxtasksperchild: the number of calls that a process makes before another one takes its
            place. None: no limit. 1: a fresh process for each call.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> None:
        self._state = "INIT"
        if type(processes) is int and processes < 1:
            raise ValueError(f"processes must be 1 or more, or None, not {processes}")
        limit = maxtasksperchild
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"maxtasksperchild must be a positive int or None, not {limit!r}")
        self._executor = Executor(
            processes, None, initializer, initargs, max_tasks_per_child=limit, idle_timeout=None
        )
        self._iterators: dict[PoolIterator[Any], None] = {}
        self._owner = os.getpid()
        self._state = _RUN

    # ------------------------------------------------------------ calls

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> T:
        """Call ``func(*args, **kwds)`` in a process of the pool, and wait for its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[T]:
        """The same, without a wait."""
        self._check_running()
        future = self._executor.submit(func, *args, **dict(kwds or {}))
        return AsyncResult([future], True, callback, error_callback)

    def map(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = None
    ) -> list[T]:
        """Call ``func`` with each item, and return the list of the results.

        If calls fail, the first of their errors in call order is raised once all are over.

        Args:
            func: the function.
            iterable: of the items.
            chunksize: 1 or more. It has no effect: how many calls a process gets at a time follows
                from how long they take.
        """
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[T]]:
        """The same, without a wait."""
        items = ((item,) for item in iterable)
        return self._map(func, items, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """Like :meth:`map`, with an iterable of arguments in place of each item."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[T]]:
        """The same, without a wait."""
        return self._map(func, map(tuple, iterable), chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., T],
        calls: Iterable[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> AsyncResult[list[T]]:
        self._check_running()
        if chunksize is not None:
            _check_chunksize(chunksize)
        futures = self._executor._submit_all(func, calls)
        return AsyncResult(futures, False, callback, error_callback)

    def imap(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int = 1
    ) -> PoolIterator[T]:
        """Call ``func`` with each item, and iterate over the results in call order.

        The iterable is read while calls run, some calls ahead of them, whether or not results are
        taken. Beside ``next()`` the iterator has ``next(timeout)``.
        """
        return self._iterate(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int = 1
    ) -> PoolIterator[T]:
        """The same, as calls end."""
        return self._iterate(func, iterable, chunksize, ordered=False)

    def _iterate(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int, ordered: bool
    ) -> PoolIterator[T]:
        self._check_running()
        _check_chunksize(chunksize)
        executor = self._executor
        iterator = PoolIterator(
            lambda items: executor._submit_all(func, [(item,) for item in items]),
            iterable,
            chunksize,
            _AHEAD * (executor._max_workers or 1),
            ordered,
            self._forget,
        )
        self._iterators[iterator] = None
        iterator.start()
        return iterator

    def _forget(self, iterator: PoolIterator[Any]) -> None:
        self._iterators.pop(iterator, None)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Take no more calls. Processes end once those that were given are over."""
        if self._state == _RUN:
            self._state = _CLOSE
            if not self._iterators:
                self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """End all calls and processes: SIGTERM, five seconds, SIGKILL. Do not wait."""
        self._state = _TERMINATE
        for iterator in list(self._iterators):
            iterator.stop()
        self._executor.terminate_workers()

    def join(self) -> None:
        """Wait until all processes have ended, after :meth:`close` or :meth:`terminate`.

        Raises:
            ValueError: the pool is still running.
        """
        if self._state == _RUN:
            raise ValueError("Pool is still running")
        for iterator in list(self._iterators):
            iterator.wait()
        self._executor.shutdown(wait=True)

    def _check_running(self) -> None:
        if self._state != _RUN:
            raise ValueError("Pool not running")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.terminate()

    def __del__(self) -> None:
        if self._state == _RUN and os.getpid() == self._owner:
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    # ------------------------------------------------------------ for those who look inside

    @property
    def _pool(self) -> list[Any]:
        return list(self._executor._processes.values())

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} state={self._state} size={self._executor._max_workers}>"


def _check_chunksize(chunksize: Any) -> None:
    if type(chunksize) is not int or chunksize < 1:
        raise ValueError(f"chunksize must be an int of 1 or more, not {chunksize!r}")
