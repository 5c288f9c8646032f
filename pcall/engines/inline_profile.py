"""Profiles a call that runs in this process, without a child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pcall._core.records import Call
from pcall._profiles.call_recorder import Profiler, call_profiled
from pcall._profiles.run_profile import RunProfile
from pcall.engines.invoke import run_if_coroutine

__all__ = ["profile_inline"]

__tracebackhide__ = True  # pytest shows the frames of its user


def profile_inline(profiles: RunProfile, call: Call, execute: Callable[[Call], Any]) -> Any:
    """Execute a call, and return its value.

    Args:
        profiles: collects its profile.
        call: the call.
        execute: makes the call.
    """
    sink = _InlineSink(profiles, call.index)
    return call_profiled(profiles.kind, sink, run_if_coroutine, execute, call)


class _InlineSink:
    def __init__(self, profiles: RunProfile, index: int) -> None:
        self._profiles = profiles
        self._index = index

    def begin(self, profiler: Profiler) -> None:
        """Do nothing: who kills this process loses its profiles with it."""

    def end(self) -> None:
        """Do nothing."""

    def put(self, content: bytes) -> None:
        self._profiles.add(self._index, "worker 0", content)
