"""Text streams around a fork: write nothing twice, lose nothing, leave no lock held for ever."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

__all__ = ["flush_std_streams", "renew_streams"]


def flush_std_streams() -> None:
    """Flush the buffers of stdout and stderr.

    The parent calls it before a fork, since the child would write the same text again; the child
    calls it at its end. An error (a closed pipe, a full disk) is ignored here: the next write
    raises it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass  # there is no such stream, or it is closed


# Streams that were replaced. Freeing a stream would flush it, which may block.
_old_streams: list[Any] = []


def renew_streams() -> None:
    """In a child: replace stdout, stderr and the streams of log handlers, with free locks.

    Another thread of the parent may have been writing at the fork. It does not exist here, and
    will never release the buffer's lock. The parent has flushed its streams, and handlers flush
    theirs after each record. So any text in the old buffers is that thread's, and the parent writes
    it.
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
        old = getattr(handler, "__dict__", {}).get("stream")  # unless it is a property
        new = renewed.get(id(old)) or _renewed(old)
        if new is not None:
            renewed[id(old)] = new
            handler.stream = new  # not setStream(), which flushes the old one


def _renewed(old: Any) -> io.TextIOWrapper | None:
    """A new stream of the same descriptor; None for a stream of any other kind."""
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
