"""Objects by key, as long as anything else refers to them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import ref

__all__ = ["WeakValues"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FEWEST = 16  # entries below which none is looked for that can go


class WeakValues(Generic[K, V]):
    """Objects by key, as long as anything else refers to them.

    A ``WeakValueDictionary`` does the same by a Python function, which is called wherever an
    object is freed. An exception that a signal handler raises in such a function is lost. Here the
    entries of freed objects stay, until there are as many of them as there are others.
    """

    def __init__(self) -> None:
        self._refs: dict[K, ref[V]] = {}
        self._sweep_at = _FEWEST

    def __setitem__(self, key: K, value: V) -> None:
        self.keep(key, ref(value))

    def keep(self, key: K, reference: ref[V]) -> None:
        """Keep a reference that was made elsewhere, so that its callback is called."""
        if len(self._refs) >= self._sweep_at:
            self._sweep()
        self._refs[key] = reference

    def get(self, key: K) -> V | None:
        """The object with this key; None if there is none, or none any more."""
        found = self._refs.get(key)
        return None if found is None else found()

    def __len__(self) -> int:
        """The number of entries, those of freed objects included."""
        return len(self._refs)

    def _sweep(self) -> None:
        # Copied in one step: another thread may add an entry meanwhile.
        for key, each in list(self._refs.items()):
            if each() is None:
                self._refs.pop(key, None)
        self._sweep_at = max(_FEWEST, 2 * len(self._refs))
