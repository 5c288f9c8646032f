"""The class method ``Pcall.pcall``: build a run, start it, join it, and return its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, overload

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import TypeVar

    from pcall._faces.result_stream import ResultStream

    R = TypeVar("R")
    ValueTargets = Callable[..., R] | Iterable[Callable[..., R]]
    # A coroutine is run where the call runs, and its value comes back.
    Async = Callable[..., Coroutine[Any, Any, R]]
    AsyncTargets = Async[R] | Iterable[Async[R]]
    # Both kinds in one list: mypy finds no common type for them.
    MixedTargets = Iterable[Callable[..., Any]]

__all__ = ["BoundEntry", "Entry", "Targets"]

__tracebackhide__ = True  # pytest shows the frames of its user

Targets = Callable[..., Any] | Iterable[Callable[..., Any]]


class _Signature:
    """The signature of an entry, for :mod:`inspect`, which is imported only for that."""

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            raise AttributeError("__signature__")
        from inspect import signature

        return signature(instance.__call__)


class BoundEntry:
    """``Pcall.pcall`` of one class: build, start, join, and return the results.

    To :func:`help` and to :mod:`inspect` it is a function with the name ``pcall``.

    Args:
        owner: the class.
    """

    __signature__: _Signature = _Signature()

    def __init__(self, owner: type[Any]) -> None:
        self._owner = owner
        self._describe()

    def _describe(self) -> None:
        self.__doc__ = Entry.__doc__
        self.__module__ = "pcall"
        self.__name__ = self.__qualname__ = "pcall"

    def __get__(self, instance: object, owner: type[Any]) -> Self:
        # That it has this method has help() show the signature. It binds to nothing.
        return self

    def _run_class(self) -> Any:
        return self._owner

    def __repr__(self) -> str:
        owner = self._run_class()
        return f"<{owner.__module__}.{owner.__qualname__}.pcall>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundEntry) and other._run_class() is self._run_class()

    def __hash__(self) -> int:
        return hash((BoundEntry, self._run_class()))

    @overload
    def __call__(
        self, /, targets: AsyncTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[R, ...]: ...  # fmt: skip

    @overload
    def __call__(
        self, /, targets: ValueTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[R, ...]: ...  # fmt: skip

    @overload
    def __call__(
        self, /, targets: MixedTargets, timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[Any, ...]: ...  # fmt: skip

    def __call__(
        self,
        /,
        targets: Targets,
        timeout: float | None = None,
        cargs: Iterable[Any] = (),
        iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None,
        **varkwargs: Iterable[Any],
    ) -> tuple[Any, ...]:
        run = self._run_class()(targets, timeout, cargs, iargs, ckwargs, ikwargs, **varkwargs)
        try:
            run.start()
            run.join()
        except BaseException:
            run._run.abandon_if_owner()  # perhaps it was interrupted between two turns
            raise
        results: tuple[Any, ...] | None = run.results
        return results or ()

    @overload
    async def aio(
        self, /, targets: AsyncTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[R, ...]: ...  # fmt: skip

    @overload
    async def aio(
        self, /, targets: ValueTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[R, ...]: ...  # fmt: skip

    @overload
    async def aio(
        self, /, targets: MixedTargets, timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> tuple[Any, ...]: ...  # fmt: skip

    async def aio(
        self,
        /,
        targets: Targets,
        timeout: float | None = None,
        cargs: Iterable[Any] = (),
        iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None,
        **varkwargs: Iterable[Any],
    ) -> tuple[Any, ...]:
        """Await the same: the event loop runs on meanwhile, and no thread is used."""
        run = self._run_class()(targets, timeout, cargs, iargs, ckwargs, ikwargs, **varkwargs)
        results: tuple[Any, ...] = await run
        return results

    @overload
    def iter(
        self, /, targets: AsyncTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[R]: ...  # fmt: skip

    @overload
    def iter(
        self, /, targets: ValueTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[R]: ...  # fmt: skip

    @overload
    def iter(
        self, /, targets: MixedTargets, timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[Any]: ...  # fmt: skip

    def iter(
        self,
        /,
        targets: Targets,
        timeout: float | None = None,
        cargs: Iterable[Any] = (),
        iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None,
        **varkwargs: Iterable[Any],
    ) -> ResultStream[Any]:
        """Iterate over the results while later calls are made.

        The arguments are read as they are needed, so that they may be endless. As many calls are in
        flight as ``max_workers`` says (None: one a core). Results come in call order; with the
        option ``ordered=False`` as calls end. Both ``for`` and ``async for`` take what this
        returns. Leaving the loop ends the calls that run.

        Raises:
            ChildProcessException: by ``next()``: that call failed. The calls that run are ended.
        """
        stream: ResultStream[Any] = self._run_class().iter(
            targets, timeout, cargs, iargs, ckwargs, ikwargs, **varkwargs
        )
        return stream


# Python's own errors about the arguments name the function by this.
BoundEntry.__call__.__qualname__ = "pcall"
BoundEntry.aio.__qualname__ = "pcall.aio"
BoundEntry.iter.__qualname__ = "pcall.iter"


class Entry:
    """Call targets in parallel, each call in a forked process of its own.

    Call *i* gets ``(*cargs, *iargs[i])`` and ``{**ckwargs, **ikwargs[i], **{name:
    values[i] for varkwargs}}``. The number of calls is the length of the shortest among
    ``iargs``, ``ikwargs``, the values of ``varkwargs`` and an iterable of targets. If none of
    the first three is given, each target is called once. ``pcall.aio(...)`` is the same, to be
    awaited.

    Args:
        targets: one callable, or an iterable of callables. A coroutine function runs in
            an event loop of its own.
        timeout: the longest time that any call may run from the start of its child, in
            seconds. None and 0: no limit.
        cargs: positional arguments of every call.
        iargs: for each call an iterable of positional arguments.
        ckwargs: keyword arguments of every call.
        ikwargs: for each call a mapping of keyword arguments.
        **varkwargs: keyword arguments; each value is an iterable with one value per call.

    Returns:
        The results in call order; the outcomes, with the option ``return_outcomes``.

    Raises:
        TypeError: an argument has the wrong shape. Nothing was forked.
        ValueError: the timeout is negative. Nothing was forked.
        ChildProcessException: a call failed; raised from the call's own exception, after all
            running calls have ended.
        ChildDied: a child ended without answering.
        PcallTimeout: a call ran too long, and all calls were ended.
        OSError: a child could not be forked; those started before were ended.
    """

    def __get__(self, instance: object, owner: type[Any]) -> BoundEntry:
        return BoundEntry(owner)
