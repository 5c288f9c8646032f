"""The files by which children send profiles home, as the parent reads them."""

from __future__ import annotations

from pcall._os.system import System
from pcall._profiles.profile_file import ProfileReader
from pcall._profiles.run_profile import RunProfile
from pcall.engines.local.parent.child_process import ForkedProcess

__all__ = ["ProfileFiles"]


class ProfileFiles:
    """Reads the profiles of all children of a run.

    Args:
        profiles: collects them. None: they are read one by one, by :meth:`read`.
        system: frees the memory of what was read.
    """

    def __init__(self, profiles: RunProfile | None, system: System) -> None:
        self._profiles = profiles
        self._free = system.free_range
        self._readers: dict[int, ProfileReader] = {}
        self._names: dict[int, str] = {}

    def add(self, key: int, forked: ForkedProcess) -> None:
        """A child with this key has been forked. It gets the lowest number that is free."""
        assert forked.profile is not None
        self._readers[key] = ProfileReader(forked.profile, self._free)
        taken = set(self._names.values())
        number = next(n for n in range(len(taken) + 1) if f"worker {n}" not in taken)
        self._names[key] = f"worker {number}"

    def take(self, key: int, index: int) -> None:
        """A call has ended, one way or another, in the child with this key."""
        assert self._profiles is not None
        if key in self._readers:
            self._profiles.add(index, self._names[key], self.read(key, index))

    def read(self, key: int, index: int) -> bytes | None:
        """The profile of a call that has ended in the child with this key; None: there is none."""
        reader = self._readers.get(key)
        return None if reader is None else reader.take(index)

    def remove(self, key: int) -> None:
        """The child with this key has ended, and its calls were recorded."""
        self._readers.pop(key, None)
        self._names.pop(key, None)
