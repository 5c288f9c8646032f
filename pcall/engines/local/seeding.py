"""Random numbers in children: different in each child, reproducible by seeding the parent.

The parent's generators are read and never advanced, so two runs that start from the same state
draw the same numbers.
"""

from __future__ import annotations

import os
import pickle
from binascii import crc32
from collections.abc import Callable
from sys import modules
from typing import Any, NamedTuple

__all__ = ["Seeds", "chance", "read_seeds", "seed"]

_MASK = (1 << 64) - 1


class Seeds(NamedTuple):
    """The seeds for the children of a run; None for a generator that is not in use.

    Attributes:
        random: for the ``random`` module.
        reseed: seeds that module; stored here so that children need not look it up.
        numpy: for ``numpy.random``.
    """

    random: int | None
    reseed: Callable[[int], None] | None
    numpy: int | None


def read_seeds() -> Seeds | None:
    """In the parent: hash the states of the imported generators; None if there are none."""
    of_random = reseed = of_numpy = None
    random = modules.get("random")
    # Another thread may be importing the module right now.
    if random is not None and hasattr(random, "getstate"):
        version, numbers, gauss = random.getstate()
        # Hashes of numbers are equal in all processes; those of None and bytes are not.
        of_random = hash((version, numbers, gauss or 0.0)) & _MASK
        reseed = random.seed
    numpy = modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "get_state"):
        content = pickle.dumps(numpy.get_state(legacy=False), 4)
        of_numpy = crc32(content) << 32 | crc32(content[::-1])
    if (of_random, of_numpy) == (None, None):
        return None
    return Seeds(of_random, reseed, of_numpy)


def chance() -> float:
    """A random number from 0 to 1, without use of the user's generators."""
    return int.from_bytes(os.urandom(4)) / 0xFFFFFFFF


def seed(seeds: Seeds, index: int, attempt: int = 1) -> None:
    """In the child: seed the generators for an attempt of a call.

    Args:
        seeds: of :func:`read_seeds`.
        index: of the call.
        attempt: the number of the attempt, from 1.
    """
    of_random, reseed, of_numpy = seeds
    place = index + (attempt - 1 << 48)
    if of_random is not None and reseed is not None:
        reseed(of_random << 64 | place)
    if of_numpy is not None:
        numpy: Any = modules["numpy.random"]
        half = (1 << 32) - 1
        words = [of_numpy >> 32, of_numpy & half, place >> 32, place & half]
        try:
            numpy.seed(words)
        except TypeError:  # not numpy's default generator
            numpy.set_bit_generator(type(numpy.get_bit_generator())(words))
