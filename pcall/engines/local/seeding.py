"""Random numbers in children: different in each call, reproducible by seeding the parent.

A run draws its numbers from the parent's generators when it starts. So a second run differs from
the first, and a parent that is seeded again gives the same runs again. What a run draws is a fixed
amount, whatever its calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from sys import modules
from typing import Any, NamedTuple

__all__ = ["Draw", "Seeds", "call_seed", "chance", "draw", "free_lock", "seed"]

_HALF = (1 << 32) - 1
_MASK = (1 << 64) - 1
# Bytes that a run draws from each generator.
_DRAWN = 16


class Seeds(NamedTuple):
    """The numbers that children seed global generators from; None for one that is not in use.

    Attributes:
        random: for the ``random`` module, of 128 bits.
        reseed: seeds that module; stored here so that children need not look it up.
        numpy: for ``numpy.random``, of 128 bits.
    """

    random: int | None
    reseed: Callable[[int], None] | None
    numpy: int | None


class Draw(NamedTuple):
    """The random numbers that a run draws when it starts.

    Attributes:
        seeds: for the global generators of its children; None: none is in use.
        entropy: for the seeds of its calls, of 128 bits, see :func:`call_seed`.
    """

    seeds: Seeds | None
    entropy: int


def draw() -> Draw:
    """In the parent: draw from the generators that are imported, and from the system if none is."""
    of_random = reseed = of_numpy = None
    random = modules.get("random")
    # Another thread may be importing the module right now.
    if random is not None and hasattr(random, "getrandbits"):
        of_random, reseed = random.getrandbits(8 * _DRAWN), random.seed
    numpy = modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "bytes"):
        of_numpy = int.from_bytes(numpy.bytes(_DRAWN), "little")
    if of_random is not None:
        # Not of both generators: a caller who seeds one of them gets the same seeds again.
        return Draw(Seeds(of_random, reseed, of_numpy), of_random)
    if of_numpy is not None:
        return Draw(Seeds(None, None, of_numpy), of_numpy)
    return Draw(None, int.from_bytes(os.urandom(_DRAWN)))


def chance() -> float:
    """A random number from 0 to 1, without use of the user's generators."""
    return int.from_bytes(os.urandom(4)) / 0xFFFFFFFF


def seed(seeds: Seeds, index: int, attempt: int = 1) -> None:
    """In the child: seed the generators for an attempt of a call.

    Args:
        seeds: of :func:`draw`.
        index: of the call.
        attempt: the number of the attempt, from 1.
    """
    of_random, reseed, of_numpy = seeds
    place = _place(index, attempt)
    if of_random is not None and reseed is not None:
        reseed(of_random << 64 | place)
    if of_numpy is not None:
        numpy: Any = modules["numpy.random"]
        words = [of_numpy >> shift & _HALF for shift in (96, 64, 32, 0)]
        words += [place >> 32, place & _HALF]
        try:
            numpy.seed(words)
        except TypeError:  # not numpy's default generator
            numpy.set_bit_generator(type(numpy.get_bit_generator())(words))


def free_lock() -> None:
    """In a child: free the lock of numpy's global generator.

    Another thread of the parent may have been drawing numbers at the fork. It does not exist here,
    and will never release the lock.
    """
    numpy: Any = modules.get("numpy.random")
    try:
        lock = numpy.get_bit_generator().lock
    except AttributeError:
        try:  # numpy before 1.24
            lock = modules["numpy.random.mtrand"]._rand._bit_generator.lock
        except (AttributeError, KeyError):
            return  # numpy is not there, or another thread is importing it
    lock._at_fork_reinit()


def call_seed(entropy: int, index: int, attempt: int = 1) -> int:
    """The seed of 128 bits that an attempt of a call has for itself.

    All its bits depend on all of the place, so that a part of it is a seed, too. It is none of the
    numbers that :func:`seed` uses: generators that are seeded from it repeat no global one.

    Args:
        entropy: of the run.
        index: of the call.
        attempt: the number of the attempt, from 1.
    """
    place = _mixed(_place(index, attempt) + 1)
    # Each half is a one-to-one function of the place: no two calls of a run share one.
    high = _mixed((entropy >> 64) + place & _MASK)
    return high << 64 | _mixed((entropy & _MASK) ^ place)


def _place(index: int, attempt: int) -> int:
    return index + (attempt - 1 << 48)


def _mixed(number: int) -> int:
    """The finaliser of SplitMix64: each bit of the result depends on all bits of the number."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31
