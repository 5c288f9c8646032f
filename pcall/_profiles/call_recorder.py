"""Runs a call under a profiler, in whatever process, and hands over its profile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from os import getpid
from types import CoroutineType
from typing import Any, Protocol

from pcall._profiles.cpu_profiler import CpuProfiler
from pcall._profiles.current_profiles import ProfileKind, abandon_inherited
from pcall._profiles.memory_tracer import MemoryTracer

__all__ = ["ProfileSink", "Profiler", "call_profiled"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")

Profiler = CpuProfiler | MemoryTracer

_PROFILERS: dict[str, Callable[[], Profiler]] = {"cpu": CpuProfiler, "memory": MemoryTracer}


class ProfileSink(Protocol):
    """Gets the profile of a call."""

    def begin(self, profiler: Profiler) -> None:
        """The profile has begun; the call follows."""

    def end(self) -> None:
        """The call is over, and its profile is about to be stopped."""

    def put(self, content: bytes) -> None:
        """Take the profile. Not called in a copy of the process that the target has forked."""


def call_profiled(
    kind: ProfileKind,
    sink: ProfileSink,
    finish: Callable[[Any], Any],
    target: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call a target under a profiler, and return its value.

    Args:
        kind: of the profile.
        sink: gets the profile.
        finish: runs a coroutine that the target has returned, and returns its value.
        target: the callable.
        *args: its arguments.
        **kwargs: likewise.
    """
    pid = getpid()
    abandon_inherited()
    profiler = _PROFILERS[kind]()
    try:
        profiler.start()
    except ValueError as error:  # another profiler is active, and there can be one alone
        _log.warning("a call can't be profiled: %s", error)
        value = target(*args, **kwargs)
        return finish(value) if type(value) is CoroutineType else value
    try:
        sink.begin(profiler)
        value = target(*args, **kwargs)
        return finish(value) if type(value) is CoroutineType else value
    finally:
        if _is_here(pid):
            sink.end()
            sink.put(profiler.stop())


def _is_here(pid: int) -> bool:
    # A function of its own: so what it calls is not taken for the target's.
    return getpid() == pid
