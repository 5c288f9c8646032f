"""Random numbers in children: each child's own, the same again for a parent seeded the same.

The parent's generators are read and never advanced, so two runs that start from the same
state draw the same numbers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["Seeds", "read_seeds", "seed"]

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Seeds:
    """What the children of a run are seeded from; None for a generator that is not in use."""

    random: int | None
    numpy: int | None


def read_seeds() -> Seeds | None:
    """In the parent: digest the state of the generators that have been imported, if any."""
    of_random = of_numpy = None
    random = sys.modules.get("random")
    # A module can be half imported, by another thread, when we look.
    if random is not None and hasattr(random, "getstate"):
        of_random = hash(random.getstate()) & _MASK
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "get_state"):
        _, keys, position, *_ = numpy.get_state()
        # Hashes of numbers are the same in every process; those of bytes are not.
        of_numpy = hash((position, *keys.tolist())) & _MASK
    return Seeds(of_random, of_numpy) if (of_random, of_numpy) != (None, None) else None


def seed(seeds: Seeds, index: int) -> None:
    """In the child: seed the generators for this call."""
    random: Any = sys.modules.get("random")
    if seeds.random is not None:
        random.seed(seeds.random << 64 | index)
    numpy: Any = sys.modules.get("numpy.random")
    if seeds.numpy is not None:
        half = (1 << 32) - 1
        numpy.seed([seeds.numpy >> 32, seeds.numpy & half, index >> 32, index & half])
