"""``Executor``: a :class:`concurrent.futures.Executor` whose calls run in forked processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from pcall._core.observers import check_progress
from pcall._core.options import Options
from pcall._core.records import Observer
from pcall._core.retry import Retry
from pcall._core.seconds import check_seconds
from pcall._core.slips import call_limit
from pcall._faces.run_observers import observers_of
from pcall._wire.call_pickle import dump_call
from pcall.engines.local.parent.pool_engine import cores
from pcall.executor.call_future import CallFuture
from pcall.executor.crew import Crew
from pcall.executor.executor_errors import for_executor
from pcall.executor.lazy_map import lazy_map
from pcall.executor.work import CallPolicy, Work

if TYPE_CHECKING:
    from pcall._core.policy_types import ViewPolicy
    from pcall._profiles.run_profile import Profile

__all__ = ["Executor"]

__tracebackhide__ = True  # pytest shows the frames of its user

P = ParamSpec("P")
T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Runs calls in forked processes: a drop-in for ``ProcessPoolExecutor``.

    Functions, arguments and closures are inherited by fork. A call that dies or runs too long
    costs its own future alone. A running call can be cancelled. Log records come home, and nothing
    is left behind.

    A ``with`` block waits for all calls. If Ctrl-C, ``SystemExit`` or a cancellation leaves it, the
    calls are ended. ``async with`` does the same while the event loop goes on.

    Args:
        max_workers: the number of calls that run at once. None: one per core.
        mp_context: None, or a context of ``multiprocessing`` with the start method ``fork``.
        initializer: called in each child before its first call. If it fails, its call and all
            later ones get a ``BrokenExecutor``.
        initargs: its positional arguments.
        max_tasks_per_child: the number of calls that a child runs before it exits. Default 1: a
            fresh child for every call. None: no limit.
        timeout: the longest time that each call may take, in seconds; then it is ended. None and 0:
            no limit.
        idle_timeout: seconds after which a reused child exits if it has no call. None: it stays
            until the shutdown. Default 10.
        retry: the number of attempts for each call, or a :class:`Retry`, or a decorator of the
            function.
        grace_period: seconds from SIGTERM to SIGKILL. Default 5.
        tasklog: True: log records of children are passed to the parent's handlers, each call's
            when it ends. False: logging is left alone.
        capture_output: True: what a call writes to stdout and stderr is in its outcome.
            ``"group"``: it is also written here when the call ends. Default False.
        progress: True, or observers of :mod:`pcall.progress`.
        profile: ``"cpu"`` or ``"memory"``: each call is profiled, without the initializer, see
            :mod:`pcall.profiling`. Default None.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or the start method is not ``fork``.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = 1,
        timeout: float | None = None,
        idle_timeout: float | None = 10,
        retry: int | Retry | Callable[[Any], Any] | None = None,
        grace_period: float = 5.0,
        tasklog: bool = True,
        capture_output: bool | Literal["group"] = False,
        progress: bool | Observer | Iterable[Observer] | None = None,
        profile: Literal["cpu", "memory"] | None = None,
    ) -> None:
        if type(max_workers) is int and max_workers <= 0:
            raise ValueError(
                f"max_workers must be greater than 0, not {max_workers}; "
                f"InlineExecutor runs calls in this process"
            )
        _check_context(mp_context)
        # Checks the initializer and its arguments, which are then wrapped.
        options = Options(
            max_workers=max_workers,
            max_tasks_per_child=max_tasks_per_child,
            max_errors=None,
            retry=retry,
            grace_period=grace_period,
            tasklog=tasklog,
            capture_output=capture_output,
            initializer=initializer,
            initargs=initargs,
            profile=profile,
        )
        options = for_executor(options, max_workers=max_workers or cores())
        if idle_timeout is not None:
            idle_timeout = check_seconds("idle_timeout", idle_timeout)
        self._policy = CallPolicy(call_limit(timeout), options.rule, capture_output)
        self._decorator = options.decorator
        self._pooled = max_tasks_per_child != 1
        observers = observers_of(check_progress(progress))
        self._crew = Crew(options, self._policy, observers, idle_timeout)
        self._max_workers = options.max_workers
        # Views share this object: the calls go on without an executor once the last has gone.
        self._life = _Life()
        weakref.finalize(self._life, self._crew.abandon).atexit = False

    # ------------------------------------------------------------ calls

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CallFuture[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture[Any]:
        """Call ``fn(*args, **kwargs)`` in a child.

        Where a worker is free, the child is forked before this returns. It never waits for one.

        Returns:
            The future of the call. Beside the interface of ``concurrent.futures.Future`` it has
            ``pid`` and ``outcome``, and its ``cancel()`` ends a running call.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenExecutor: the initializer has failed.
        """
        work = self._work(fn, args, kwargs, pickled=self._pooled)
        self._crew.submit((work,))
        return work.future

    def _work(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], pickled: bool
    ) -> Work:
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}")
        target: Any = fn if self._decorator is None else self._decorator(fn)
        pickle = dump_call((target, args, kwargs)) if pickled else None
        return Work(target, args, kwargs, copy_context(), pickle, self._policy)

    def _submit_all(
        self, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[CallFuture[Any]]:
        """Submit calls at once, so that children inherit all of them."""
        self._crew.check_owner()
        pickled = not self._crew.inherits(self._policy)
        works = [self._work(fn, args, {}, pickled) for args in calls]
        self._crew.submit(works)
        return [work.future for work in works]

    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], *iterables: Iterable[Any],
        timeout: float | None = None, chunksize: int = 1, buffersize: int | None = None,
    ) -> Iterator[T]: ...  # fmt: skip

    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any],
        timeout: float | None = None, chunksize: int = 1, buffersize: int | None = None,
    ) -> Iterator[T]: ...  # fmt: skip

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call ``fn`` with the items of these iterables, and yield the results in call order.

        Without ``buffersize`` the calls are all known at once, so that reused workers inherit
        them, too: nothing needs to be pickled.

        Args:
            fn: the function.
            *iterables: of the arguments; the shortest decides.
            timeout: seconds from now after which ``next()`` raises ``TimeoutError``. The calls
                that are not over are ended then. None: no limit.
            chunksize: 1 or more. It has no effect: no call waits behind another.
            buffersize: the number of calls whose results have not been taken, at most: the
                iterables are read only that far ahead. None: they are read to their end at once.

        Raises:
            TypeError: ``buffersize`` is not an int.
            ValueError: ``chunksize`` or ``buffersize`` is less than 1.
        """
        return lazy_map(self._submit_all, fn, iterables, timeout, chunksize, buffersize)

    def options(self, **policy: Unpack[ViewPolicy]) -> Self:
        """A view on this executor, with the same children, whose calls have another policy.

        Args:
            **policy: ``timeout``, ``retry`` and ``capture_output``; others keep their values.

        Raises:
            TypeError: an unknown name, or a value of the wrong type.
            ValueError: a value out of its range.
        """
        for name in policy:
            if name not in ("timeout", "retry", "capture_output"):
                raise TypeError(
                    f"options() of an executor takes timeout, retry and capture_output, not "
                    f"{name!r}; give that to Executor(...)"
                )
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        timeout, retry, capture = self._policy
        if "timeout" in policy:
            timeout = call_limit(policy["timeout"])
        if "retry" in policy:
            checked = Options(retry=policy["retry"])
            retry, view._decorator = checked.rule, checked.decorator
        if "capture_output" in policy:
            capture = Options(capture_output=policy["capture_output"]).capture_output
        view._policy = CallPolicy(timeout, retry, capture)
        return view

    @property
    def profile(self) -> Profile | None:
        """The profile over all calls that have ended; None without the option ``profile``.

        It does not change later. The profile of one call is ``future.outcome.profile``.
        """
        profiles = self._crew.profiles
        return None if profiles is None else profiles.copy()

    # ------------------------------------------------------------ the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: True: wait until all calls are over, and their processes have ended.
            cancel_futures: True: cancel the calls that have not started.
        """
        self._crew.shutdown(wait, cancel_futures)

    def terminate_workers(self) -> None:
        """Shut down, and end all calls: SIGTERM, the grace period, SIGKILL. Do not wait."""
        self._crew.stop(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Shut down, and send SIGKILL to all children and what they have started."""
        self._crew.stop(signal.SIGKILL)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool | None:
        if not _is_interrupt(error):
            self.shutdown(wait=True)
            return None
        self._end()
        return None

    def _end(self) -> None:
        """End all calls and wait for that; a second Ctrl-C kills them."""
        self.terminate_workers()
        try:
            self.shutdown(wait=True)
        except BaseException:
            self.kill_workers()
            self.shutdown(wait=True)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if _is_interrupt(error):
            self.terminate_workers()
        loop = asyncio.get_running_loop()
        end = loop.run_in_executor(None, self.shutdown)
        cancelled: asyncio.CancelledError | None = None
        while not end.done():
            try:
                await asyncio.shield(end)
            except asyncio.CancelledError as caught:
                (self.terminate_workers if cancelled is None else self.kill_workers)()
                cancelled = cancelled or caught
        if cancelled is not None:
            raise cancelled

    # ------------------------------------------------------------ for those who look inside

    @property
    def _processes(self) -> dict[int, Any]:
        return self._crew.processes

    @property
    def _broken(self) -> BaseException | bool:
        return self._crew.broken or False

    @property
    def _shutdown(self) -> bool:
        return self._crew.closing

    def __reduce__(self) -> Any:
        raise TypeError("an executor can't be pickled; make another one in the other process")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} max_workers={self._max_workers} at {id(self):#x}>"


class _Life:
    """Lives as long as an executor and its views."""


def _check_context(context: Any) -> None:
    if context is None:
        return
    try:
        method = context.get_start_method()
    except AttributeError:
        raise TypeError(
            f"mp_context must be a context of multiprocessing or None, not {context!r}"
        ) from None
    if method != "fork":
        raise ValueError(
            f"mp_context must have the start method 'fork', not {method!r}: children inherit "
            f"their calls; use multiprocessing.get_context('fork'), or None"
        )


def _is_interrupt(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)
