"""Profiles of all calls that a cluster runs between two moments, whoever runs them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from pcall._profiles.cpu_profile import CpuProfile
from pcall._profiles.current_profiles import ProfileKind
from pcall._profiles.memory_profile import MemoryProfile

__all__ = ["CpuProfiling", "MemoryProfiling", "ProfiledPeriod", "ProfiledPeriods"]

__tracebackhide__ = True  # pytest shows the frames of its user

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Profile = TypeVar("_Profile", CpuProfile, MemoryProfile)


class ProfiledPeriod:
    """The time from one ``start()`` to its ``stop()``.

    Args:
        kind: of the profiles.
        profile: to which those of calls are added.

    Attributes:
        kind: as given.
    """

    def __init__(self, kind: ProfileKind, profile: CpuProfile | MemoryProfile) -> None:
        self.kind = kind
        self._profile = profile
        self._lock = Lock()
        self._over = False

    def add(self, worker: str, content: bytes) -> None:
        """Add the packed profile of a call, unless the period is over."""
        with self._lock:
            if not self._over:
                self._profile.add(worker, content)

    def end(self) -> None:
        """Add nothing from now on."""
        with self._lock:
            self._over = True


class ProfiledPeriods:
    """The periods of one cluster. A call is profiled in one way, so there is one at a time.

    Attributes:
        current: the one that lasts; None: none does.
    """

    def __init__(self) -> None:
        self.current: ProfiledPeriod | None = None
        self._lock = Lock()

    def begin(self, period: ProfiledPeriod) -> None:
        """A period begins.

        Raises:
            RuntimeError: another one has not ended.
        """
        with self._lock:
            if self.current is not None:
                kind = self.current.kind
                raise RuntimeError(
                    f"{period.kind}_profiling can't start: {kind}_profiling is on; call "
                    f"{kind}_profiling.stop() first"
                )
            self.current = period

    def end(self, kind: ProfileKind) -> None:
        """The period ends, if there is one of this kind."""
        with self._lock:
            if self.current is not None and self.current.kind == kind:
                self.current.end()
                self.current = None


class _Profiling(Generic[_Profile]):
    """Switches the profiling of a cluster's calls on and off.

    Every run that this process starts on the cluster between :meth:`start` and :meth:`stop` is
    profiled, and every call of it that has ended before :meth:`stop` counts. As a context manager
    it starts, stops at the end of the block, and its value is the profile.
    """

    _kind: ProfileKind
    _make: Callable[[], _Profile]

    def __init__(self, periods: ProfiledPeriods) -> None:
        self._periods = periods
        self._profile: _Profile = type(self)._make()

    @property
    def profile(self) -> _Profile:
        """The profile since the last :meth:`start`: of all calls that have ended."""
        return self._profile

    @property
    def running(self) -> bool:
        """True between :meth:`start` and :meth:`stop`."""
        current = self._periods.current
        return current is not None and current.kind == self._kind

    def start(self) -> None:
        """Begin a new profile.

        Raises:
            RuntimeError: this profiling, or the other one of the cluster, is on already.
        """
        profile = type(self)._make()
        self._periods.begin(ProfiledPeriod(self._kind, profile))
        self._profile = profile

    def stop(self) -> _Profile:
        """Count nothing from now on; harmless if nothing was.

        Returns:
            The profile.
        """
        self._periods.end(self._kind)
        return self._profile

    def __enter__(self) -> _Profile:
        self.start()
        return self._profile

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'on' if self.running else 'off'}: {self._profile!r}>"


def _like(
    method: Callable[Concatenate[_Profile, _P], _R],
) -> Callable[[Callable[..., _R]], Callable[Concatenate[_Profiling[_Profile], _P], _R]]:
    """Gives a method the signature and the docstring of this one of the profile."""
    return wraps(method)


class CpuProfiling(_Profiling[CpuProfile]):
    """A cluster's ``cpu_profiling``: each call runs under ``cProfile``."""

    _kind: ProfileKind = "cpu"
    _make = CpuProfile

    @_like(CpuProfile.print_stats)
    def print_stats(self, *args: Any, **kwargs: Any) -> None:
        self._profile.print_stats(*args, **kwargs)

    @_like(CpuProfile.save)
    def save(self, *args: Any, **kwargs: Any) -> None:
        self._profile.save(*args, **kwargs)

    @property
    def stats(self) -> Any:
        """A ``pstats.Stats`` over all calls that have ended; each time a new one."""
        return self._profile.stats


class MemoryProfiling(_Profiling[MemoryProfile]):
    """A cluster's ``memory_profiling``: each call runs under ``tracemalloc``."""

    _kind: ProfileKind = "memory"
    _make = MemoryProfile

    @_like(MemoryProfile.print_top)
    def print_top(self, *args: Any, **kwargs: Any) -> None:
        self._profile.print_top(*args, **kwargs)

    @_like(MemoryProfile.statistics)
    def statistics(self, *args: Any, **kwargs: Any) -> list[tracemalloc.Statistic]:
        return self._profile.statistics(*args, **kwargs)
