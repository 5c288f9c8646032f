"""Mapping a file into memory: privately, writable, and without keeping a descriptor open."""

from __future__ import annotations

import functools
import itertools
import mmap
import sys
import weakref
from typing import Any

from pcall._os.signals import DeferSignals
from pcall._wire.weak_values import WeakValues

__all__ = ["map_private"]


def map_private(fd: int, size: int) -> memoryview:
    """Map a file's content. It is unmapped when the last view of it has gone.

    Python's own mapping keeps a duplicate of the descriptor, so a thousand results would need a
    thousand descriptors. Python 3.13 added an option against that.

    Args:
        fd: the file; it may be closed afterwards.
        size: bytes to map.
    """
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(fd, size, mmap.MAP_PRIVATE, trackfd=False))
    try:
        return _map_by_libc(fd, size)
    except ImportError:  # a build of Python without ctypes
        return memoryview(mmap.mmap(fd, size, mmap.MAP_PRIVATE))


class _Reference(weakref.ref[Any]):
    """Refers to a mapped content. Its callback is a function of C, which gets it as an argument."""

    _as_parameter_ = 0  # an argument too many, which that function does not look at


# By number, and not by address, which another content has later.
_mapped: WeakValues[int, Any] = WeakValues()
_numbers = itertools.count()


@functools.cache
def _libc() -> Any:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _map_by_libc(fd: int, size: int) -> memoryview:
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    with DeferSignals():
        # In here, too: a signal handler that maps a result would find half a module.
        import ctypes

        address = _libc().mmap(None, size, protection, mmap.MAP_PRIVATE, fd, 0)
        if address is None or address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"{size} bytes of a result could not be mapped")
        content = (ctypes.c_ubyte * size).from_address(address)
        # In C from end to end: what a signal handler raised in a Python function that is called
        # when an object is freed would be lost.
        unmap = functools.partial(_libc().munmap, address, size)
        _mapped.keep(next(_numbers), _Reference(content, unmap))
    return memoryview(content).cast("B")
