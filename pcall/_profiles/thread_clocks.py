"""Processor time and frames of threads, as seen from another thread."""

from __future__ import annotations

import time
from itertools import dropwhile, takewhile
from types import FrameType

from pcall._profiles.cpu_rows import OWN_FOLDER

__all__ = ["cpu_time_of", "target_frames"]


def cpu_time_of(thread: int) -> float | None:
    """Seconds of processor time that a thread has used; None where the system does not tell.

    Args:
        thread: ``threading.get_ident()`` of a thread that is alive.
    """
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return None
    try:
        return time.clock_gettime(clock_of(thread))
    except OSError:
        return None


def target_frames(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread that are the target's: outermost first, up to the innermost.

    Frames of this library are left out: those by which it calls the target, and those that the
    target has called, with what these call.
    """
    frames: list[FrameType] = []
    while frame is not None and not _is_base(frame):
        frames.append(frame)
        frame = frame.f_back
    targets = dropwhile(_is_own, reversed(frames))
    return list(takewhile(lambda frame: not _is_own(frame), targets))


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OWN_FOLDER)


def _is_base(frame: FrameType) -> bool:
    """True for the frame that calls the target, or that runs a thread of it."""
    return _is_own(frame) and frame.f_code.co_name in ("call_profiled", "run_profiled")
