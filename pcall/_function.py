"""The function ``pcall``, which is all that ``import pcall`` loads.

Its first call, or the first use of ``Pcall``, imports the rest. So a program that only prints its
help does not pay for it.
"""

from __future__ import annotations

from typing import Any

from pcall._faces.entry import BoundEntry

__all__ = ["pcall"]


class _Function(BoundEntry):
    """``Pcall.pcall``, which imports ``Pcall`` when it is first called."""

    def __init__(self) -> None:
        self._describe()

    def _run_class(self) -> Any:
        from pcall._pcall import Pcall

        return Pcall


pcall: _Function = _Function()
