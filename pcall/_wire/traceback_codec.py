"""Tracebacks to plain values and back: file names, function names and line numbers of frames."""

from __future__ import annotations

import os
from collections.abc import Generator
from types import SimpleNamespace, TracebackType
from typing import Any

import tblib

__all__ = ["Frame", "dump_traceback", "load_traceback", "users_part"]

_OWN_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep

# One frame: file name, function, line, and the globals that tblib keeps.
Frame = tuple[str, str, int, dict[str, str]]


def users_part(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the target on: the library's frames above it say nothing to the user."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        tb = tb.tb_next
    return tb


def dump_traceback(tb: TracebackType | None) -> list[Frame]:
    """The frames of a traceback, from the target on, as values that can be pickled."""
    frames: list[Frame] = []
    tb = users_part(tb)
    while tb is not None:
        frame = tb.tb_frame
        code = frame.f_code
        names = {k: v for k, v in frame.f_globals.items() if k in ("__name__", "__file__")}
        frames.append((code.co_filename, code.co_name, tb.tb_lineno, names))
        tb = tb.tb_next
    return frames


def load_traceback(frames: list[Frame]) -> TracebackType | None:
    """A traceback that shows these frames."""
    following: SimpleNamespace | None = None
    # tblib builds and reads its own dictionaries by recursion, which the thousand frames of a
    # RecursionError overflow; its Traceback does not recurse.
    for filename, function, line, names in reversed(frames):
        code = SimpleNamespace(co_filename=filename, co_name=function)
        frame = SimpleNamespace(f_globals=names, f_code=code, f_lineno=line)
        following = SimpleNamespace(tb_frame=frame, tb_lineno=line, tb_next=following)
    if following is None:
        return None
    whole = [tblib.Traceback(following)]
    # Each frame keeps the frames below it alive, with all their variables: the caller's too, and
    # with them the run itself, which would then never be dropped and its children not be ended.
    # Below the frame of a suspended generator there is none, so the traceback is made in one. The
    # object that the traceback is made from holds the generator, so it stays suspended.
    whole[0].apart = apart = _apart(whole)
    return next(apart)


def _apart(whole: list[Any]) -> Generator[TracebackType | None, None, None]:
    yield whole.pop().as_traceback()
