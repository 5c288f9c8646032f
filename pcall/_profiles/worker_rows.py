"""Rows of profiles by worker, merged as they come or when they are looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["WorkerRows"]

_Rows = TypeVar("_Rows")

# Workers whose rows are kept apart. A run with a fresh process for each of thousands of calls at
# once has as many; those beyond are merged, so that memory does not grow with the number of calls.
_MAX_WORKERS = 256
_OTHERS = "other workers"


class WorkerRows(Generic[_Rows]):
    """The rows of each worker, of a kind that these functions know.

    Args:
        make: makes rows without any.
        unpack: makes rows of bytes.
        merge: adds rows to rows.
    """

    def __init__(
        self,
        make: Callable[[], _Rows],
        unpack: Callable[[bytes], _Rows],
        merge: Callable[[_Rows, _Rows], object],
    ) -> None:
        self._make, self._unpack, self._merge = make, unpack, merge
        self._rows: dict[str, _Rows] = {}
        self._packed: list[tuple[str, bytes]] = []
        # Calls end in one thread while another one looks at the profile.
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {**vars(self), "_rows": self.by_name(), "_packed": [], "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def add(self, worker: str, content: bytes, later: bool = False) -> None:
        """Add packed rows; ``later``: when they are looked at."""
        if later:
            self._packed.append((worker, content))
        else:
            self._add(worker, self._unpack(content))

    def merge(self, other: WorkerRows[_Rows]) -> None:
        """Add the rows of another one, which stays as it is."""
        for worker, rows in list(other.by_name().items()):
            self._add(worker, rows)

    def _add(self, worker: str, rows: _Rows) -> None:
        with self._lock:
            if worker not in self._rows and len(self._rows) >= _MAX_WORKERS:
                worker = _OTHERS
            self._merge(self._rows.setdefault(worker, self._make()), rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the workers, in their order."""
        with self._lock:
            self._unpack_all()
            return tuple(self._sorted())

    def by_name(self) -> dict[str, _Rows]:
        """The rows of each worker, by name."""
        with self._lock:
            self._unpack_all()
            return {name: self._copy(name) for name in self._sorted()}

    def _unpack_all(self) -> None:
        while self._packed:
            worker, content = self._packed.pop()
            self._add(worker, self._unpack(content))

    def _sorted(self) -> list[str]:
        return sorted(self._rows, key=_natural)

    def _copy(self, name: str) -> _Rows:
        rows = self._make()
        self._merge(rows, self._rows[name])
        return rows

    def total(self) -> _Rows:
        """The rows over all workers."""
        total = self._make()
        with self._lock:
            self._unpack_all()
            for name in self._sorted():
                self._merge(total, self._rows[name])
        return total


def _natural(name: str) -> list[Any]:
    """``worker 10`` comes behind ``worker 9``."""
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in name.split(" ")]
