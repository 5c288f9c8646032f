"""``InlineExecutor``: makes each call at once, in this process."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from pcall._core.calls import Calls, decorated
from pcall._core.options import Options
from pcall._core.records import Observer
from pcall._core.retry import Retry
from pcall._core.slips import call_limit
from pcall._faces.make_run import make_run
from pcall._faces.use_profiles import make_profiles
from pcall.executor.call_future import CallFuture
from pcall.executor.executor_errors import InitializerFailed, for_executor, public_error
from pcall.executor.lazy_map import lazy_map

if TYPE_CHECKING:
    from pcall._core.policy_types import ViewPolicy
    from pcall._profiles.run_profile import Profile

__all__ = ["InlineExecutor"]

__tracebackhide__ = True  # pytest shows the frames of its user

P = ParamSpec("P")
T = TypeVar("T")


class _First:
    """What an executor and its views know of the initializer.

    Args:
        pending: True until it has been called.

    Attributes:
        error: that it has failed with, or None.
    """

    def __init__(self, pending: bool) -> None:
        self.pending = pending
        self.error: InitializerFailed | None = None


class InlineExecutor(concurrent.futures.Executor):
    """An :class:`Executor` without children, for debuggers: ``submit`` makes the call and returns.

    It takes the arguments of :class:`Executor`. Timeouts and workers have no effect, since nothing
    runs at the same time. An interrupt (Ctrl-C) of a call propagates from ``submit``.
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
            raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
        call_limit(timeout)
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
            progress=progress,
            profile=profile,
        )
        self._max_workers = 1
        self._options = for_executor(options, max_workers=0, max_tasks_per_child=1)
        self._first = _First(initializer is not None)
        self._lock = threading.RLock()
        self._calls = 0
        self._is_shut_down = False
        self._profiles = make_profiles(options) if profile is not None else None

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CallFuture[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture[Any]:
        """Call ``fn(*args, **kwargs)``, and return a future that is done.

        Raises:
            RuntimeError: the executor was shut down.
        """
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}")
        with self._lock:
            if self._first.error is not None:
                raise InitializerFailed(str(self._first.error)) from self._first.error.__cause__
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            index, self._calls = self._calls, self._calls + 1
        decorator = self._options.decorator
        target: Any = fn if decorator is None else decorated(decorator, fn)
        future: CallFuture[Any] = CallFuture()
        future.mark_running()
        options = self._options if self._first.pending else self._options.but({"initializer": None})
        run = make_run(Calls(1, target, args, kwargs), options, None)
        copy_context().run(run.start)
        run.finish()
        found = run.state.outcomes[0]
        assert found is not None
        if isinstance(found.error, InitializerFailed):
            self._first.error = found.error
        self._first.pending = False
        if self._profiles is not None:
            self._profiles.include(found.profile)
        outcome = replace(found, index=index)
        future.conclude(outcome, outcome.value, public_error(outcome.error))
        return future

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
        """Call ``fn`` with the items of these iterables, and yield the results in call order."""
        return lazy_map(self._submit_all, fn, iterables, timeout, chunksize, buffersize)

    def _submit_all(
        self, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[CallFuture[Any]]:
        return [self.submit(fn, *args) for args in calls]

    def options(self, **policy: Unpack[ViewPolicy]) -> Self:
        """A view with another ``retry`` or ``capture_output``; ``timeout`` has no effect."""
        for name in policy:
            if name not in ("timeout", "retry", "capture_output"):
                raise TypeError(
                    f"options() of an executor takes timeout, retry and capture_output, not "
                    f"{name!r}; give that to InlineExecutor(...)"
                )
        call_limit(policy.pop("timeout", None))
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view._options = self._options.but(policy)
        return view

    @property
    def profile(self) -> Profile | None:
        """The profile over all calls; None without the option ``profile``."""
        return None if self._profiles is None else self._profiles.copy()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls."""
        self._is_shut_down = True

    def terminate_workers(self) -> None:
        """Take no more calls: there are no workers."""
        self.shutdown()

    def kill_workers(self) -> None:
        """Take no more calls: there are no workers."""
        self.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shutdown()

    @property
    def _processes(self) -> dict[int, Any]:
        return {}
