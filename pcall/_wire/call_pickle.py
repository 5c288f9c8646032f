"""Pickles calls for workers that were forked before the calls were known."""

from __future__ import annotations

import io
from multiprocessing.reduction import ForkingPickler
from pickle import Unpickler, loads
from typing import Any

__all__ = ["dump_call", "load_call"]

_SHARED = "pcall"


class _Pickler(ForkingPickler):
    """Pickles an object that workers have inherited as a reference.

    Args:
        stream: where to write.
        shared: the object.
    """

    def __init__(self, stream: io.BytesIO, shared: Any) -> None:
        super().__init__(stream, 5)
        self._shared = shared

    def persistent_id(self, obj: Any) -> str | None:
        return _SHARED if obj is self._shared else None


class _Unpickler(Unpickler):
    def __init__(self, stream: io.BytesIO, shared: Any) -> None:
        super().__init__(stream)
        self._shared = shared

    def persistent_load(self, pid: Any) -> Any:
        return self._shared


def dump_call(call: Any, shared: Any = None) -> bytes | None:
    """A call as a pickle; None if it can't be pickled, so that a child has to be forked for it.

    Args:
        call: target, positional and keyword arguments.
        shared: an object that all workers have inherited, and that may stand in the call; None:
            there is none.
    """
    stream = io.BytesIO()
    try:
        # As multiprocessing does, which knows how to send its own connections.
        pickler = ForkingPickler(stream, 5) if shared is None else _Pickler(stream, shared)
        pickler.dump(call)
    except Exception:  # whatever the objects raise
        return None
    return stream.getvalue()


def load_call(pickle: bytes, shared: Any = None) -> Any:
    """Load a pickle of :func:`dump_call`."""
    if shared is None:
        return loads(pickle)
    return _Unpickler(io.BytesIO(pickle), shared).load()
