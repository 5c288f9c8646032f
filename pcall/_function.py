"""The function ``pcall``. It is all that ``import pcall`` loads.

The first call, or the first use of ``Pcall``, imports the rest: a program that only prints its
help does not pay for it.
"""

from __future__ import annotations

from typing import Any

from pcall._entry import BoundEntry

__all__ = ["pcall"]


class _Function(BoundEntry):
    """``Pcall.pcall``, of a class that is imported when it is needed."""

    def __init__(self) -> None:
        self._describe()

    def _run_class(self) -> Any:
        from pcall._pcall import Pcall

        return Pcall


pcall = _Function()
