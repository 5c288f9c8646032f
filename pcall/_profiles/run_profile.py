"""The profiles of the calls of one run, merged as calls end."""

from __future__ import annotations

import threading
from typing import Any

from pcall._profiles.cpu_profile import CpuProfile
from pcall._profiles.current_profiles import ProfileKind, RunningProfile, active_profile
from pcall._profiles.memory_profile import MemoryProfile

__all__ = ["Profile", "RunProfile"]

Profile = CpuProfile | MemoryProfile


class RunProfile:
    """Collects the profiles of a run's calls.

    The merged profile grows with the number of functions. Beside it, the packed profile of each
    call is kept, for its outcome.

    Args:
        kind: of the profiles.
        total: of an executor, whose runs share one merged profile; None: it has its own.

    Attributes:
        kind: as given.
        merged: of all calls so far.
    """

    def __init__(self, kind: ProfileKind, total: RunProfile | None = None) -> None:
        self.kind = kind
        # Each run of an executor has a thread of its own.
        self._lock: threading.Lock = threading.Lock() if total is None else total._lock
        self.merged: Profile = _make(kind) if total is None else total.merged
        self._by_call: dict[int, list[tuple[str, bytes]]] = {}
        # Where the run is made by a call that is profiled itself.
        active = active_profile()
        same = active is not None and active.kind == kind
        self._caller: RunningProfile | None = active if same else None

    def add(self, index: int, worker: str, content: bytes | None) -> None:
        """Add the profile of an attempt of a call.

        Args:
            index: of the call.
            worker: the name of the worker that has run it.
            content: the profile, packed; None: there is none.
        """
        if content is None:
            return
        self._by_call.setdefault(index, []).append((worker, content))
        with self._lock:
            self.merged.add(worker, content)
            if self._caller is not None:
                self._caller.add(content)

    def forget(self, index: int) -> None:
        """Drop the profile of a call, which stays part of the merged one."""
        self._by_call.pop(index, None)

    def copy(self) -> Profile:
        """A copy of the merged profile, which does not change while calls end."""
        copy = _make(self.kind)
        with self._lock:
            _merge(copy, self.merged)
        return copy

    def include(self, profile: Profile | None) -> None:
        """Add the profile of a call that was collected elsewhere."""
        if profile is not None:
            with self._lock:
                _merge(self.merged, profile)

    def of(self, index: int) -> Profile | None:
        """The profile of a call, over all its attempts; None if there is none."""
        found = self._by_call.get(index)
        if found is None:
            return None
        profile = _make(self.kind)
        for worker, content in found:
            profile.add(worker, content, later=True)
        return profile


def _merge(profile: Any, other: Profile) -> None:
    profile.merge(other)


def _make(kind: ProfileKind) -> Profile:
    return CpuProfile() if kind == "cpu" else MemoryProfile()
