"""Handing a large value off to the next call of a chain without writing it.

The value is pickled like any other. So a value that can't be pickled fails here as it does
elsewhere, and the next call gets objects of its own. Only large buffers are not copied, and only if
nothing else refers to them: otherwise a call could change an object that another one sees.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from pickle import loads
from sys import getrefcount
from typing import Any

from pcall._tuning import DEEPEST_BUFFER
from pcall._wire.value_parts import ValueParts
from pcall._wire.weak_values import WeakValues

__all__ = ["HandedOff", "is_unshared"]

# The reference count of an object with one reference: getrefcount() itself holds another.
_ONE = 2


@dataclass(frozen=True, slots=True)
class HandedOff:
    """A value that stays in its worker.

    Attributes:
        index: the call that returned it.
        value: the value itself, if it is immutable.
        parts: otherwise its parts, to load the value from.
    """

    index: int
    value: bytes | str | None
    parts: ValueParts | None

    def load(self) -> Any:
        """Load the value as a new object. Call this once: the buffers are not copied."""
        if self.parts is None:
            return self.value
        return loads(self.parts.stream, buffers=self.parts.buffers)


def is_unshared(view: memoryview, mappings: WeakValues[int, Any]) -> bool:
    """True if nothing but this view refers to its memory.

    Args:
        view: of the memory of a numpy array; for the memory of any other object the answer is
            False.
        mappings: private mappings of this process's own, by identity.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or getrefcount(view.obj) > _ONE:
        return False
    owner: Any = view.obj
    for _ in range(DEEPEST_BUFFER):
        if type(owner) is memoryview:
            if getrefcount(owner.obj) > _ONE:
                return False
            owner = owner.obj
        elif type(owner) is numpy.ndarray:
            if weakref.getweakrefcount(owner):
                return False
            if owner.base is None:
                return bool(owner.flags.owndata)
            if getrefcount(owner.base) > _ONE:
                return False
            owner = owner.base
        else:
            return mappings.get(id(owner)) is owner
    return False
