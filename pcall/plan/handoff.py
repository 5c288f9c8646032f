"""The child's side of a chain: a large value that goes to the next call as it is.

It is pickled as any other, so that what can't be pickled fails here as it does elsewhere, and
so that the next call gets objects of its own. Only its large buffers are not copied, and that
where nothing refers to them any more: else a call could change what another one still sees.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pickle import loads
from sys import getrefcount
from typing import Any

from pcall._wire.encode import Parts

__all__ = ["HandedOff", "is_unshared"]

# References of what one thing alone refers to, when they are counted: that, and the counting.
_ONE = 2
# How many owners a buffer may have, one behind the other: an array that is changed in place by
# call after call gets three more each time, and they are freed in a recursion.
_DEEPEST = 600


@dataclass(frozen=True, slots=True)
class HandedOff:
    """A value that stays in the child.

    Attributes:
        index: the call that returned it.
        value: itself, where it can't be changed.
        parts: or what it is loaded from.
    """

    index: int
    value: bytes | str | None
    parts: Parts | None

    def load(self) -> Any:
        """The value, as an object of its own. To be used once."""
        if self.parts is None:
            return self.value
        return loads(self.parts.stream, buffers=self.parts.buffers)


def is_unshared(view: memoryview, mappings: Mapping[int, Any]) -> bool:
    """True when nothing but this view leads to the memory that it shows.

    Args:
        view: shows the memory of an array of numpy's; of anything else it is not known.
        mappings: private mappings of this child's own, by identity.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or getrefcount(view.obj) > _ONE:
        return False
    owner: Any = view.obj
    for _ in range(_DEEPEST):
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
