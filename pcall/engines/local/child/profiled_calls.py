"""Runs the calls of a child under a profiler, and writes their profiles to the child's file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pcall._core.calls import Calls
from pcall._profiles.call_recorder import Profiler, call_profiled
from pcall._profiles.current_profiles import ProfileKind, abandon_inherited
from pcall._profiles.profile_file import ProfileWriter
from pcall._profiles.snapshot_thread import snapshot_thread
from pcall.engines.invoke import run_if_coroutine
from pcall.engines.local.child.child_state import state

__all__ = ["ProfiledCalls", "run_fresh"]

__tracebackhide__ = True  # pytest shows the frames of its user


class _ChildProfiler:
    """Profiles the calls of this process. It is a ``ProfileSink``.

    Args:
        kind: of the profiles.
        fd: of the file for them.
    """

    def __init__(self, kind: ProfileKind, fd: int) -> None:
        _end_inherited_profile()
        self._kind = kind
        self._writer = ProfileWriter(fd)
        self._thread = snapshot_thread()
        self._thread.start()  # before any call: what it allocates is no call's
        self._profiler: Profiler | None = None
        self._index = self._attempt = 0

    def call(
        self, index: int, attempt: int, target: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a target, and return its value; that of a coroutine, once it has run."""
        self._index, self._attempt = index, attempt
        return call_profiled(self._kind, self, run_if_coroutine, target, *args, **kwargs)

    def begin(self, profiler: Profiler) -> None:
        self._profiler = profiler
        profiler.on_dispatch = self._watch
        self._watch()

    def _watch(self) -> None:
        profiler = self._profiler
        if profiler is not None:
            self._thread.watch((*profiler.dispatching, (self._snap,), *profiler.going_back))

    def end(self) -> None:
        self._thread.watch(())
        self._profiler = None

    def put(self, content: bytes) -> None:
        with suppress(OSError):  # the target has closed the file, or there is no room
            self._writer.write(self._index, self._attempt, content, final=True)

    def _snap(self) -> None:
        if self._profiler is not None:
            with suppress(Exception):
                content = self._profiler.snapshot()
                self._writer.write(self._index, self._attempt, content, final=False)


def run_fresh(
    kind: ProfileKind,
    target: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Make the call of this child, in the context variables that are the task's.

    Args:
        kind: of the profile.
        target: the callable.
        *args: its arguments.
        **kwargs: likewise.
    """
    task = state["task"]
    assert task is not None
    assert task.profile is not None
    profiler = _ChildProfiler(kind, task.profile)
    run = task.child_context.context.run
    return run(profiler.call, task.job.index, task.attempt, target, *args, **kwargs)


class ProfiledCalls:
    """The calls of a reused worker, each of which is profiled.

    Args:
        kind: of the profiles.
        calls: the calls.
        fd: of the worker's file for them.
        attempt: tells the number of the attempt that runs.
    """

    def __init__(
        self, kind: ProfileKind, calls: Calls, fd: int, attempt: Callable[[], int]
    ) -> None:
        self._calls = calls
        self._attempt = attempt
        self._profiler = _ChildProfiler(kind, fd)

    def __getitem__(self, index: int) -> Any:
        return self._calls[index]

    def results(self, start: int, stop: int) -> Iterator[Any]:
        """Like :meth:`Calls.results`."""
        return _ProfiledResults(
            self._calls.results(start, stop), start, self._profiler, self._attempt()
        )


class _ProfiledResults:
    """Makes the next call at each step. No generator: see :meth:`Calls.results`."""

    def __init__(
        self, results: Iterator[Any], start: int, profiler: _ChildProfiler, attempt: int
    ) -> None:
        self._make = results.__next__
        self._index = start
        self._profiler = profiler
        self._attempt = attempt

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        index, self._index = self._index, self._index + 1
        return self._profiler.call(index, self._attempt, self._make)


def _end_inherited_profile() -> None:
    """Stop the profiler that was active in the parent at the fork.

    Nobody asks this copy for its result. Since Python 3.12 one profiler can be active at a time.
    Those of this library go first: to stop one whose tool is free already is an error.
    """
    abandon_inherited()
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.PROFILER_ID) is not None:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
