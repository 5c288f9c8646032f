"""Text streams around a fork: nothing written twice, nothing lost, no lock for ever held."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

__all__ = ["flush_std_streams", "renew_streams"]


def flush_std_streams() -> None:
    """Write out what is in the buffers of stdout and stderr.

    In the parent before a fork, since the child would write it, too; in the child at its end.
    What can't be written (a closed pipe, a full disk) is for the next one who writes to
    find out.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass  # there is none, or it is closed


# Streams that were replaced. To free one is to flush it, and that is what may block.
_old_streams: list[Any] = []


def renew_streams() -> None:
    """In a child: make stdout, stderr and the streams of log handlers anew, with free locks.

    Another thread of the parent may have been writing at the fork; it does not exist
    here and will never release the buffer's lock. The parent has flushed its streams, and
    handlers flush theirs with each record, so what the old buffers still hold is that
    thread's, and the parent writes it.
    """
    renewed: dict[int, io.TextIOWrapper] = {}
    for name in ("stdout", "stderr"):
        old = getattr(sys, name, None)
        new = _renewed(old)
        if new is not None:
            renewed[id(old)] = new
            setattr(sys, name, new)
            if getattr(sys, f"__{name}__", None) is old:
                setattr(sys, f"__{name}__", new)
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        old = getattr(handler, "__dict__", {}).get("stream")  # where it is no property
        new = renewed.get(id(old)) or _renewed(old)
        if new is not None:
            renewed[id(old)] = new
            handler.stream = new  # not setStream(), which flushes the old one


def _renewed(old: Any) -> io.TextIOWrapper | None:
    """Another stream of the same descriptor; None for a stream of some other kind."""
    if type(old) is not io.TextIOWrapper or type(old.buffer) is not io.BufferedWriter:
        return None
    if type(old.buffer.raw) is not io.FileIO or old.closed:
        return None
    _old_streams.append(old)
    raw = io.FileIO(old.buffer.raw.fileno(), "w", closefd=False)
    raw.name = old.name
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )
